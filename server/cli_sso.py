"""`yunying sso`: applications with single sign-on, keys that sign, people from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from server.command import SCOPE, Where, settings_options, with_database

if TYPE_CHECKING:
    from kernel.db.database import Database
    from kernel.settings import Settings


@click.group()
def sso() -> None:
    """Single sign-on: applications, keys, and people who sign in elsewhere."""


@sso.command()
@click.argument("client_id")
@click.option("--name-zh", required=True, help="Name in Chinese.")
@click.option("--name-en", required=True, help="Name in English.")
@click.option("--redirect", "redirects", multiple=True, required=True, help="Where to lead back.")
@click.option("--post-logout", "post_logouts", multiple=True, help="Where after signing out.")
@click.option("--backchannel", default="", help="Address that is told when a session ends.")
@click.option("--scope", "scopes", multiple=True, default=("openid", "profile"))
@click.option("--audience", type=click.Choice(["staff", "citizen"]), default="staff")
@click.option("--public", is_flag=True, help="It has no secret: an app on a phone.")
@click.option("--first-party", is_flag=True, help="Of the house: nobody is asked for consent.")
@settings_options
def register(
    where: Where,
    client_id: str,
    name_zh: str,
    name_en: str,
    redirects: tuple[str, ...],
    post_logouts: tuple[str, ...],
    backchannel: str,
    scopes: tuple[str, ...],
    audience: str,
    public: bool,
    first_party: bool,
) -> None:
    """Register the application CLIENT_ID; prints its secret, which is not shown again."""
    from identity.applications import service

    facts = service.Facts(
        name_zh, name_en, redirects, post_logouts, backchannel, scopes, first_party
    )
    kind = "public" if public else "confidential"

    async def work(_: Settings, database: Database) -> str:
        async with database.session(SCOPE, write=True) as session:
            made = await service.register(
                session, SCOPE, client_id, facts, kind=kind, audience=audience
            )
            return made[1]

    secret = with_database(where, work)
    click.echo(secret or f"{client_id} is registered; it has no secret.")


@sso.command(name="rotate-keys")
@click.option(
    "--compromised", is_flag=True, help="Let nothing count any more that older keys have signed."
)
@settings_options
def rotate_keys(where: Where, compromised: bool) -> None:
    """Make a new key that signs; it is published first, and the old one stays for a day."""
    from identity.signing_keys.service import rotate
    from kernel.sealing.service import open_sealer

    async def work(settings: Settings, database: Database) -> str:
        sealer = open_sealer(settings)
        async with database.session(SCOPE, write=True) as session:
            return (await rotate(session, sealer, SCOPE, compromised=compromised)).id

    click.echo(f"The key {with_database(where, work)} was made.")
    click.echo("It signs from now on." if compromised else "It signs in ten minutes.")


@sso.command(name="link")
@click.argument("login")
@click.argument("subject")
@settings_options
def link_(where: Where, login: str, subject: str) -> None:
    """Let who is SUBJECT at the sign-in service (sso.upstream_issuer) be the account LOGIN here."""
    from identity.accounts.service import find_account
    from identity.upstream.service import link
    from kernel.errors import Invalid

    async def work(settings: Settings, database: Database) -> None:
        issuer = settings.sso.upstream_issuer.rstrip("/")
        if not issuer:
            raise Invalid("upstream.none", "sso.upstream_issuer is not set: people sign in here.")
        async with database.session(SCOPE, write=True) as session:
            found = await find_account(session, SCOPE, login)
            await link(session, SCOPE, issuer, subject, found.id)

    with_database(where, work)
    click.echo(f"{subject} is {login} here.")


@sso.command(name="messages")
@click.option("--limit", default=20, help="How many (default: 20).")
@settings_options
def messages_(where: Where, limit: int) -> None:
    """List the newest short messages: masked number, what for, what became of it."""
    from kernel.notify.service import open_outbox
    from kernel.sealing.service import open_sealer

    async def work(settings: Settings, database: Database) -> list[str]:
        outbox = open_outbox(settings.sms, database, open_sealer(settings))
        return [
            f"{one.created_at:%Y-%m-%d %H:%M:%S}  {one.number_masked}  {one.purpose}  {one.state}"
            f"  {one.provider_code}".rstrip()
            for one in await outbox.listed(limit=limit)
        ]

    lines = with_database(where, work)
    click.echo("\n".join(lines) if lines else "No message yet.")
