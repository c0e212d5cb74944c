"""`yunying user` and `yunying token`: accounts and bearer tokens from the command line."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from server.command import SCOPE, Where, settings_options, with_database

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from kernel.db.database import Database
    from kernel.settings import Settings

DAY_S = 86400.0


@click.group()
def user() -> None:
    """People who may sign in."""


@user.command()
@click.argument("login")
@click.option("--name", "display_name", help="Name of the person (default: the login name).")
@click.option("--role", default="", help="Role to grant, such as radiologist.")
@click.option("--at", default="", metavar="CODE", help="Where: a code such as H0123 or 522632.")
@settings_options
def create(where: Where, login: str, display_name: str | None, role: str, at: str) -> None:
    """Create the account LOGIN with a generated password, shown once.

    Without --at the person belongs to no organisation and --role holds everywhere.
    """
    from identity.accounts.domain import generate_password
    from identity.accounts.passwords import Hashing
    from identity.accounts.service import NewAccount, create_account
    from identity.first_start.service import ensure_admin
    from identity.grants.domain import Subject
    from identity.grants.service import NewGrant, grant

    async def work(settings: Settings, database: Database) -> tuple[str, str | None]:
        hashing = Hashing()
        first = await ensure_admin(database, settings.access, hashing)
        password = generate_password(settings.access)
        hashed = await hashing.hash(password)
        async with database.session(SCOPE, write=True) as session:
            place = await _place(session, at)
            new = NewAccount(login, display_name or login, place)
            made = await create_account(session, SCOPE, new, hashed)
            if role:
                given = NewGrant(Subject("account", made.id), role, place, "command line")
                await grant(session, None, given)
        return password, first[1] if first else None

    password, admin = with_database(where, work)
    if admin is not None:
        click.echo(f"The account admin was made too, with the password {admin}")
    click.echo(f"{login} can sign in with the password {password}")
    click.echo("It is not shown again, and must be changed at the first sign-in.")


@user.command(name="reset")
@click.argument("login")
@settings_options
def reset(where: Where, login: str) -> None:
    """Give the account LOGIN a generated password and end its sessions."""
    from identity.accounts.domain import generate_password
    from identity.accounts.passwords import Hashing
    from identity.accounts.service import find_account, reset_password
    from identity.sessions.service import end_sessions

    async def work(settings: Settings, database: Database) -> str:
        password = generate_password(settings.access)
        hashed = await Hashing().hash(password)
        async with database.session(SCOPE, write=True) as session:
            found = await find_account(session, SCOPE, login)
            await reset_password(session, SCOPE, found.id, hashed, settings.access)
            await end_sessions(session, found.id, "password reset")
        return password

    click.echo(f"{login} can sign in with the password {with_database(where, work)}")
    click.echo("It is not shown again, and must be changed at the first sign-in.")


@click.group()
def token() -> None:
    """Bearer tokens for programs."""


@token.command(name="create")
@click.option("--user", "login", required=True, metavar="NAME", help="Whose rights it has.")
@click.option("--name", default="command line", help="What it is for.")
@click.option("--days", default=90.0, help="How long it counts (default: 90).")
@click.option("--permission", "permissions", multiple=True, help="Only these; may be repeated.")
@click.option("--network", "networks", multiple=True, help="Only from there; may be repeated.")
@settings_options
def create_token(
    where: Where,
    login: str,
    name: str,
    days: float,
    permissions: tuple[str, ...],
    networks: tuple[str, ...],
) -> None:
    """Print a bearer token with the rights of a person. It is not shown again."""
    from identity.accounts.service import find_account
    from identity.clients.service import NewClient, create_client

    async def work(_: Settings, database: Database) -> str:
        async with database.session(SCOPE, write=True) as session:
            found = await find_account(session, SCOPE, login)
            new = NewClient(
                name,
                found.id,
                found.organisation_id,
                permissions,
                ",".join(networks),
                time.time() + days * DAY_S,
            )
            return (await create_client(session, SCOPE, new))[1]

    click.echo(with_database(where, work))


async def _place(session: AsyncSession, code: str) -> int | None:
    from identity.organisations.service import load_tree
    from kernel.errors import NotFound

    if not code:
        return None
    found = (await load_tree(session)).by_code(code.strip().upper())
    if found is None:
        raise NotFound("organisation.not_found", "There is no organisation {id}.", id=code)
    return found.id
