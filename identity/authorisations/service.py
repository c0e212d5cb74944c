"""Codes, tokens and their ends. What counts a failed attempt runs in transactions of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, bindparam, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from identity.accounts.tables import account
from identity.applications.domain import Application
from identity.applications.tables import application
from identity.authorisations.domain import (
    ACCESS_PREFIX,
    CODE_PREFIX,
    CODE_S,
    REFRESH_PREFIX,
    AccessToken,
    Authorisation,
    OAuthError,
    fits,
)
from identity.authorisations.tables import (
    authorisation,
    authorisation_code,
    authorisation_token,
    consent,
)
from identity.changes.service import touch
from identity.sessions.tables import session as session_table
from identity.tokens.domain import fingerprint, new_secret
from kernel.audit.domain import AuditRecord
from kernel.audit.service import append
from kernel.db.database import Database
from kernel.db.statement import Statement
from kernel.scope import Actor, ActorKind, Scope

AUTHORISE = "identity.sso.authorise"
TOKEN = "identity.sso.token"  # noqa: S105 - the name of an action
KEPT_S = 86400.0

_SCOPE = Scope.system("single sign-on")
_FACTS = list(Authorisation.__dataclass_fields__)

# For the guard: what a bearer token stands for, while everything counts that it rests on.
ACCESS = Statement(
    select(
        authorisation.c.id,
        authorisation.c.session_id,
        authorisation.c.account_id,
        authorisation_token.c.scopes,
        authorisation_token.c.expires_at,
        application.c.client_id,
        account.c.login,
        account.c.display_name,
        account.c.kind,
        account.c.networks,
        account.c.organisation_id,
    )
    .join(authorisation, authorisation.c.id == authorisation_token.c.authorisation_id)
    .join(application, application.c.id == authorisation.c.application_id)
    .join(account, account.c.id == authorisation.c.account_id)
    .join(session_table, session_table.c.id == authorisation.c.session_id)
    .where(authorisation_token.c.token_hash == bindparam("token_hash"))
    .where(authorisation_token.c.kind == "access", authorisation.c.ended_at.is_(None))
    .where(application.c.state == "active", account.c.state == "active")
    .where(session_table.c.ended_at.is_(None))
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What an application asks for, checked already."""

    application: Application
    redirect_uri: str
    scopes: frozenset[str]
    challenge: str
    nonce: str
    issuer: str


@dataclass(frozen=True, slots=True)
class SignedInAs:
    """The session in which a person answers."""

    session_id: int
    account_id: int
    auth_time: float
    amr: tuple[str, ...]
    sid: str
    kind: ActorKind = "session"


@dataclass(frozen=True, slots=True)
class Tokens:
    """What an application gets; `refresh` counts once."""

    authorisation: Authorisation
    access: str
    refresh: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Known:
    """A token that counts, for who asks about it."""

    kind: str
    authorisation: Authorisation
    client_id: str
    scopes: frozenset[str]
    created_at: float
    expires_at: float


def as_access_token(row: Sequence[Any]) -> AccessToken:
    """A row of `ACCESS`."""
    facts = dict(zip(AccessToken.__dataclass_fields__, row, strict=True))
    return AccessToken(**{**facts, "scopes": frozenset(json.loads(facts["scopes"]))})


async def give_code(session: AsyncSession, asked: Asked, person: SignedInAs) -> str:
    """An authorisation that waits for its application, and the code for it: once, for a minute."""
    now, code = time.time(), CODE_PREFIX + new_secret()
    row = {
        "application_id": asked.application.id,
        "session_id": person.session_id,
        "account_id": person.account_id,
        "scopes": json.dumps(sorted(asked.scopes)),
        "sid": person.sid,
        "issuer": asked.issuer,
        "nonce": asked.nonce,
        "auth_time": person.auth_time,
        "amr": " ".join(person.amr),
        "created_at": now,
    }
    made = await session.execute(insert(authorisation).values(row).returning(authorisation.c.id))
    await session.execute(
        insert(authorisation_code).values(
            code_hash=fingerprint(code),
            authorisation_id=made.scalar_one(),
            redirect_uri=asked.redirect_uri,
            challenge=asked.challenge,
            expires_at=now + CODE_S,
        )
    )
    detail = {"application": asked.application.client_id, "scopes": sorted(asked.scopes)}
    actor = Actor(person.kind, str(person.account_id))
    await append(session, AuditRecord(actor, AUTHORISE, "ok", detail=detail))
    return code


async def take_code(
    database: Database,
    client: Application,
    code: str,
    redirect_uri: str,
    verifier: str,
    access_token_s: float,
) -> Tokens:
    """Tokens for a code. Raises OAuthError `invalid_grant`.

    A code that comes a second time, or with a wrong verifier, ends what it gave (RFC 6749 10.5).
    """
    async with database.session(_SCOPE, write=True) as session:
        found = await _code(session, client, code)
        why = "it is not known"
        if found is not None:
            await _mark_code(session, found["code_hash"])
            why = _why_not(found, redirect_uri, verifier)
        if found is not None and not why:
            await session.execute(
                update(authorisation)
                .where(authorisation.c.id == found["id"])
                .values(begun_at=time.time())
            )
            return await _give_tokens(session, _as_authorisation(found), access_token_s)
        if found is not None:
            await _end(session, found["id"], why)
    raise OAuthError("invalid_grant", "The code does not count: {why}.", why=why)


async def refresh(
    database: Database,
    client: Application,
    token: str,
    scopes: frozenset[str] | None,
    access_token_s: float,
) -> Tokens:
    """New tokens for a refresh token, which is used up (RFC 9700 4.14.2).

    Raises OAuthError `invalid_grant`; one that was used before ends its whole family. OAuthError
    `invalid_scope` for more than was allowed.
    """
    async with database.session(_SCOPE, write=True) as session:
        token_row = await _refresh_row(session, client, token)
        if token_row is None:
            raise OAuthError("invalid_grant", "The refresh token does not count.")
        found, row = token_row
        if row.used_at is None:
            if scopes is not None and not scopes <= found.scopes:
                raise OAuthError("invalid_scope", "More is asked for than was allowed.")
            await session.execute(
                update(authorisation_token)
                .where(authorisation_token.c.id == row.id)
                .values(used_at=time.time())
            )
            return await _give_tokens(session, found, access_token_s, scopes)
        await _end(session, found.id, "refresh token used twice")
    raise OAuthError("invalid_grant", "The refresh token was used before; everything it gave ends.")


async def revoke(session: AsyncSession, client: Application, token: str) -> bool:
    """End a token of an application (RFC 7009), a refresh token with all it gave.

    Whether there was one.
    """
    wanted = (
        select(authorisation_token.c.id, authorisation_token.c.kind, authorisation.c.id)
        .join(authorisation, authorisation.c.id == authorisation_token.c.authorisation_id)
        .where(authorisation_token.c.token_hash == fingerprint(token))
        .where(authorisation.c.application_id == client.id)
    )
    row = (await session.execute(wanted)).first()
    if row is None:
        return False
    token_id, kind, authorisation_id = row
    if kind == "refresh":
        await _end(session, authorisation_id, "revoked")
    else:
        await session.execute(
            delete(authorisation_token).where(authorisation_token.c.id == token_id)
        )
        await touch(session, "revocation")
    return True


async def look_up(session: AsyncSession, token: str) -> Known | None:
    """A token that counts now, or None."""
    table = authorisation_token
    wanted = _live(
        select(
            *(authorisation.c[name] for name in _FACTS),
            application.c.client_id,
            table.c.kind.label("token_kind"),
            table.c.scopes.label("token_scopes"),
            table.c.created_at.label("token_created_at"),
            table.c.expires_at,
        ).join(table, table.c.authorisation_id == authorisation.c.id)
    ).where(
        table.c.token_hash == fingerprint(token),
        table.c.used_at.is_(None),
        table.c.expires_at > time.time(),
    )
    row = (await session.execute(wanted)).first()
    if row is None:
        return None
    return Known(
        row.token_kind,
        _as_authorisation(row._mapping),
        row.client_id,
        frozenset(json.loads(row.token_scopes)),
        row.token_created_at.timestamp(),
        row.expires_at.timestamp(),
    )


async def has_consented(
    session: AsyncSession, account_id: int, application_id: int, scopes: Collection[str]
) -> bool:
    """Whether a person has allowed an application all of this before."""
    wanted = select(consent.c.scopes).where(
        consent.c.account_id == account_id, consent.c.application_id == application_id
    )
    given = await session.scalar(wanted)
    return given is not None and set(scopes) <= set(json.loads(given))


async def keep_consent(
    session: AsyncSession, account_id: int, application_id: int, scopes: Collection[str]
) -> None:
    """Remember what a person allows an application."""
    name = session.get_bind().dialect.name
    row = {
        "account_id": account_id,
        "application_id": application_id,
        "scopes": json.dumps(sorted(scopes)),
        "given_at": time.time(),
    }
    upsert = (postgresql if name == "postgresql" else sqlite).insert(consent).values(row)
    await session.execute(
        upsert.on_conflict_do_update(
            index_elements=["account_id", "application_id"],
            set_={key: upsert.excluded[key] for key in ("scopes", "given_at")},
        )
    )


async def waiting_logouts(
    session: AsyncSession, session_ids: Sequence[int]
) -> list[tuple[int, str]]:
    """Authorisations of ended sessions whose applications want to hear of it: number, session."""
    wanted = (
        select(authorisation.c.id, authorisation.c.application_id, authorisation.c.sid)
        .join(application, application.c.id == authorisation.c.application_id)
        .where(authorisation.c.session_id.in_(session_ids))
        .where(authorisation.c.begun_at.is_not(None), application.c.backchannel_uri != "")
        .order_by(authorisation.c.id)
    )
    # An application hears once of a session, however often it was entered in it.
    rows = {(row.application_id, row.sid): row.id for row in await session.execute(wanted)}
    return [(number, sid) for (_, sid), number in rows.items()]


async def get_with_application(
    session: AsyncSession, authorisation_id: int
) -> tuple[Authorisation, int, str] | None:
    """An authorisation with the number of its application and the kind of its account."""
    wanted = (
        select(*(authorisation.c[name] for name in _FACTS), account.c.kind)
        .join(account, account.c.id == authorisation.c.account_id)
        .where(authorisation.c.id == authorisation_id)
    )
    row = (await session.execute(wanted)).first()
    return None if row is None else (_as_authorisation(row._mapping), row.application_id, row.kind)


async def note_refusal(database: Database, client_id: str, error: str) -> None:
    """Write down that tokens were refused, and to whom as far as the request said."""
    detail = {"application": client_id[:64], "code": error}
    async with database.session(_SCOPE, write=True) as session:
        await append(session, AuditRecord(Actor("client", ""), TOKEN, "denied", detail=detail))


async def forget_old(session: AsyncSession) -> None:
    """Delete rows of tokens and codes that have been over for a day; the audit keeps what was."""
    limit = time.time() - KEPT_S
    for table in (authorisation_code, authorisation_token):
        ended = table.c.expires_at < limit
        await session.execute(delete(table).where(ended))


async def _code(session: AsyncSession, client: Application, code: str) -> Mapping[Any, Any] | None:
    wanted = (
        select(
            *(authorisation.c[name] for name in _FACTS),
            authorisation_code.c.code_hash,
            authorisation_code.c.redirect_uri,
            authorisation_code.c.challenge,
            authorisation_code.c.expires_at,
            authorisation_code.c.used_at,
            session_table.c.ended_at.label("session_ended_at"),
        )
        .join(authorisation, authorisation.c.id == authorisation_code.c.authorisation_id)
        .join(session_table, session_table.c.id == authorisation.c.session_id)
        .where(authorisation_code.c.code_hash == fingerprint(code))
        .where(authorisation.c.application_id == client.id)
        .with_for_update(of=authorisation_code)
    )
    row = (await session.execute(wanted)).first()
    return None if row is None else row._mapping


def _why_not(found: Mapping[Any, Any], redirect_uri: str, verifier: str) -> str:
    """Why a code does not count; empty when it does."""
    if found["used_at"] is not None:
        return "it was used before"
    if found["expires_at"].timestamp() <= time.time():
        return "it is too old"
    if found["redirect_uri"] != redirect_uri:
        return "redirect_uri differs"
    if not fits(verifier, found["challenge"]):
        return "code_verifier does not fit"
    if found["session_ended_at"] is not None:
        return "the session has ended"
    return ""


async def _mark_code(session: AsyncSession, code_hash: str) -> None:
    await session.execute(
        update(authorisation_code)
        .where(authorisation_code.c.code_hash == code_hash)
        .values(used_at=time.time())
    )


async def _refresh_row(
    session: AsyncSession, client: Application, token: str
) -> tuple[Authorisation, Any] | None:
    table = authorisation_token
    wanted = (
        _live(
            select(
                *(authorisation.c[name] for name in _FACTS),
                table.c.id.label("token_id"),
                table.c.used_at,
            ).join(table, table.c.authorisation_id == authorisation.c.id)
        )
        .where(table.c.token_hash == fingerprint(token), table.c.kind == "refresh")
        .where(authorisation.c.application_id == client.id, table.c.expires_at > time.time())
        .with_for_update(of=table)
    )
    row = (await session.execute(wanted)).first()
    if row is None:
        return None
    return _as_authorisation(row._mapping), _Used(row.token_id, row.used_at)


@dataclass(frozen=True, slots=True)
class _Used:
    id: int
    used_at: Any


async def _give_tokens(
    session: AsyncSession,
    found: Authorisation,
    access_token_s: float,
    scopes: frozenset[str] | None = None,
) -> Tokens:
    ends = select(session_table.c.expires_at).where(session_table.c.id == found.session_id)
    until = (await session.scalars(ends)).one().timestamp()
    now, chosen = time.time(), found.scopes if scopes is None else scopes
    access, again = ACCESS_PREFIX + new_secret(), REFRESH_PREFIX + new_secret()
    rows = [
        {
            "authorisation_id": found.id,
            "kind": kind,
            "token_hash": fingerprint(token),
            "scopes": json.dumps(sorted(held)),
            "created_at": now,
            "expires_at": expires_at,
        }
        for kind, token, held, expires_at in (
            ("access", access, chosen, min(now + access_token_s, until)),
            ("refresh", again, found.scopes, until),
        )
    ]
    await session.execute(insert(authorisation_token), rows)
    return Tokens(found, access, again, chosen)


async def _end(session: AsyncSession, authorisation_id: int, why: str) -> None:
    ended = (
        update(authorisation)
        .where(authorisation.c.id == authorisation_id, authorisation.c.ended_at.is_(None))
        .values(ended_at=time.time(), ended_why=why)
        .returning(authorisation.c.account_id)
    )
    account_id = await session.scalar(ended)
    if account_id is not None:
        detail = {"change": "ended", "why": why, "authorisation": authorisation_id}
        kind = await session.scalar(select(account.c.kind).where(account.c.id == account_id))
        actor = Actor("citizen" if kind == "citizen" else "session", str(account_id))
        await append(session, AuditRecord(actor, AUTHORISE, "ok", detail=detail))
        await touch(session, "revocation")


def _live(wanted: Select[Any]) -> Select[Any]:
    """Only what counts: nothing of an ended session, a suspended person, a disabled application."""
    now = time.time()
    return (
        wanted.join(application, application.c.id == authorisation.c.application_id)
        .join(account, account.c.id == authorisation.c.account_id)
        .join(session_table, session_table.c.id == authorisation.c.session_id)
        .where(authorisation.c.ended_at.is_(None), application.c.state == "active")
        .where(account.c.state == "active", session_table.c.ended_at.is_(None))
        .where(session_table.c.expires_at > now)
    )


def _as_authorisation(row: Mapping[Any, Any]) -> Authorisation:
    facts = {name: row[name] for name in _FACTS}
    return Authorisation(
        **{
            **facts,
            "scopes": frozenset(json.loads(facts["scopes"])),
            "auth_time": facts["auth_time"].timestamp(),
            "amr": tuple(facts["amr"].split()),
        }
    )
