"""Making, rotating and revoking API clients, and loading those that count."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity.accounts.domain import check_networks
from identity.accounts.tables import account
from identity.changes.service import touch
from identity.clients.domain import GRACE_S, PREFIX, ApiClient, check_name
from identity.clients.tables import api_client
from identity.roles.domain import expand
from identity.tokens.domain import fingerprint, new_secret
from kernel.audit.domain import AuditRecord
from kernel.audit.service import append
from kernel.errors import NotFound
from kernel.scope import Scope

MANAGE = "identity.client.manage"
_COLUMNS = [api_client.c[name] for name in ApiClient.__dataclass_fields__]


@dataclass(frozen=True, slots=True)
class NewClient:
    """What is said about a new client; `permissions` are patterns, none for all that it may do."""

    name: str
    account_id: int | None = None
    organisation_id: int | None = None
    permissions: Collection[str] = ()
    networks: str = ""
    expires_at: float | None = None


async def create_client(
    session: AsyncSession, scope: Scope, new: NewClient
) -> tuple[ApiClient, str]:
    """A client and its bearer token, which is not kept and cannot be shown again.

    Raises Invalid `client.name`, `role.permission`, `account.networks`, NotFound for a place out
    of scope.
    """
    place = new.organisation_id
    if scope.owners is not None and new.account_id is None:
        _check_place(scope, place)
    token = PREFIX + new_secret()
    row = {
        "name": check_name(new.name),
        "account_id": new.account_id,
        "organisation_id": place,
        "permissions": json.dumps(sorted(expand(new.permissions))),
        "networks": check_networks(new.networks),
        "expires_at": new.expires_at,
        "created_at": time.time(),
        "secret_hash": fingerprint(token),
    }
    made = await session.execute(insert(api_client).values(row).returning(*_COLUMNS))
    created = _as_client(made.one()._mapping)
    await _changed(session, scope, created, "created")
    return created, token


async def rotate_client(
    session: AsyncSession, scope: Scope, client_id: int, *, grace_s: float = GRACE_S
) -> str:
    """A new token; the old one counts for `grace_s` more. Raises NotFound `client.not_found`."""
    found = await get_client(session, scope, client_id)
    token = PREFIX + new_secret()
    await session.execute(
        update(api_client)
        .where(api_client.c.id == client_id)
        .values(
            previous_hash=api_client.c.secret_hash,
            previous_until=time.time() + grace_s,
            secret_hash=fingerprint(token),
        )
    )
    await _changed(session, scope, found, "rotated")
    return token


async def revoke_client(session: AsyncSession, scope: Scope, client_id: int) -> None:
    """End a client for good, in every process within five seconds."""
    found = await get_client(session, scope, client_id)
    await session.execute(
        update(api_client)
        .where(api_client.c.id == client_id, api_client.c.revoked_at.is_(None))
        .values(revoked_at=time.time())
    )
    await _changed(session, scope, found, "revoked")


async def get_client(session: AsyncSession, scope: Scope, client_id: int) -> ApiClient:
    """One client within `scope`; raises NotFound `client.not_found`."""
    row = (await session.execute(select(*_COLUMNS).where(api_client.c.id == client_id))).first()
    found = None if row is None else _as_client(row._mapping)
    if found is None or not _is_within(scope, found.organisation_id):
        raise NotFound("client.not_found", "There is no such API client.")
    return found


async def list_clients(
    session: AsyncSession,
    scope: Scope,
    *,
    text: str = "",
    after: tuple[str, int] | None = None,
    limit: int | None = None,
) -> list[ApiClient]:
    """The clients within `scope` that were not revoked, by name.

    `after` is name and number of the last one of the page before, `text` part of a name.
    """
    key = (api_client.c.name, api_client.c.id)
    wanted = select(*_COLUMNS).where(api_client.c.revoked_at.is_(None)).order_by(*key).limit(limit)
    if scope.owners is not None:
        wanted = wanted.where(api_client.c.organisation_id.in_(scope.owners))
    if after is not None:
        name, number = after
        later = and_(api_client.c.name == name, api_client.c.id > number)
        wanted = wanted.where(or_(api_client.c.name > name, later))
    if text:
        wanted = wanted.where(api_client.c.name.icontains(text, autoescape=True))
    return [_as_client(row._mapping) for row in await session.execute(wanted)]


async def client_names(session: AsyncSession, client_ids: Collection[int]) -> Mapping[int, str]:
    """The names of some clients by number, revoked ones too."""
    wanted = select(api_client.c.id, api_client.c.name).where(api_client.c.id.in_(client_ids))
    return {row.id: row.name for row in await session.execute(wanted)}


async def load_clients(session: AsyncSession) -> Mapping[str, ApiClient]:
    """Every client that counts, by the hash of its token; those of suspended people do not."""
    now = time.time()
    wanted = (
        select(
            *_COLUMNS,
            api_client.c.secret_hash,
            api_client.c.previous_hash,
            api_client.c.previous_until,
        )
        .outerjoin(account, account.c.id == api_client.c.account_id)
        .where(api_client.c.revoked_at.is_(None))
        .where(or_(api_client.c.expires_at.is_(None), api_client.c.expires_at > now))
        .where(or_(api_client.c.account_id.is_(None), account.c.state == "active"))
    )
    found: dict[str, ApiClient] = {}
    for row in await session.execute(wanted):
        client = _as_client(row._mapping)
        found[row.secret_hash] = client
        if row.previous_hash and row.previous_until.timestamp() > now:
            found[row.previous_hash] = client
    return found


def _as_client(row: Mapping[Any, Any]) -> ApiClient:
    facts = {name: row[name] for name in ApiClient.__dataclass_fields__}
    return ApiClient(**{**facts, "permissions": frozenset(json.loads(row["permissions"]))})


def _is_within(scope: Scope, place: int | None) -> bool:
    return scope.owners is None or (place is not None and scope.covers(place))


def _check_place(scope: Scope, place: int | None) -> None:
    if not _is_within(scope, place):
        raise NotFound("organisation.not_found", "There is no organisation {id}.", id=place or "/")


async def _changed(session: AsyncSession, scope: Scope, client: ApiClient, change: str) -> None:
    record = AuditRecord(
        scope.actor,
        MANAGE,
        "ok",
        owner_id=client.organisation_id,
        purpose=scope.purpose,
        detail={"change": change, "client": client.id},
    )
    await append(session, record)
    await touch(session, "rights")
