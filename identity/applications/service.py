"""Registering applications, changing them, their secrets, and knowing them again."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from identity.applications.domain import (
    Application,
    check_client_id,
    check_name,
    check_scopes,
    check_uris,
)
from identity.applications.tables import application
from identity.changes.service import touch
from identity.tokens.domain import fingerprint, new_secret
from kernel.audit.domain import AuditRecord
from kernel.audit.service import append
from kernel.errors import Conflict, Denied, Invalid, NotFound
from kernel.scope import Scope

MANAGE = "identity.application.manage"
PREFIX = "yys_"
GRACE_S = 24 * 3600.0

_COLUMNS = [application.c[name] for name in Application.__dataclass_fields__]
_LISTS = ("redirect_uris", "post_logout_uris", "scopes")


@dataclass(frozen=True, slots=True)
class Facts:
    """What is said about an application."""

    name_zh: str
    name_en: str
    redirect_uris: Collection[str]
    post_logout_uris: Collection[str] = ()
    backchannel_uri: str = ""
    scopes: Collection[str] = ("openid", "profile")
    first_party: bool = False


async def register(
    session: AsyncSession,
    scope: Scope,
    client_id: str,
    facts: Facts,
    *,
    kind: str = "confidential",
    audience: str = "staff",
) -> tuple[Application, str]:
    """A new application and its secret, which is not kept ('' for a public one).

    Raises Invalid `application.*`, Conflict `application.exists`, Denied `access.denied`.
    """
    _check_top(scope)
    if kind not in ("confidential", "public") or audience not in ("staff", "citizen"):
        raise Invalid("application.kind", "Choose what kind of application it is.")
    secret = PREFIX + new_secret() if kind == "confidential" else ""
    row = {
        "client_id": check_client_id(client_id),
        "kind": kind,
        "audience": audience,
        "state": "active",
        "created_at": time.time(),
        "secret_hash": fingerprint(secret) if secret else None,
        **_checked(facts, audience),
    }
    try:
        async with session.begin_nested():
            made = await session.execute(insert(application).values(row).returning(*_COLUMNS))
            created = _as_application(made.one()._mapping)
    except IntegrityError as error:
        raise Conflict(
            "application.exists", "There is an application {id} already.", id=row["client_id"]
        ) from error
    await _changed(session, scope, created, "registered")
    return created, secret


async def edit(
    session: AsyncSession, scope: Scope, application_id: int, facts: Facts
) -> Application:
    """Change what was said; raises as `register`, and NotFound `application.not_found`."""
    _check_top(scope)
    old = await get_application(session, application_id)
    changed = (
        update(application)
        .where(application.c.id == old.id)
        .values(_checked(facts, old.audience))
        .returning(*_COLUMNS)
    )
    new = _as_application((await session.execute(changed)).one()._mapping)
    await _changed(session, scope, new, "edited")
    return new


async def rotate_secret(
    session: AsyncSession, scope: Scope, application_id: int, *, grace_s: float = GRACE_S
) -> str:
    """A new secret; the old one counts for `grace_s` more.

    Raises Invalid `application.public` for one that has none, NotFound `application.not_found`.
    """
    _check_top(scope)
    found = await get_application(session, application_id)
    if found.kind == "public":
        raise Invalid("application.public", "A public application has no secret.")
    secret = PREFIX + new_secret()
    await session.execute(
        update(application)
        .where(application.c.id == found.id)
        .values(
            previous_hash=application.c.secret_hash,
            previous_until=time.time() + grace_s,
            secret_hash=fingerprint(secret),
        )
    )
    await _changed(session, scope, found, "secret rotated")
    return secret


async def set_state(session: AsyncSession, scope: Scope, application_id: int, state: str) -> None:
    """Disable an application, so that nothing it holds counts any more, or enable it again."""
    _check_top(scope)
    found = await get_application(session, application_id)
    if state not in ("active", "disabled"):
        raise Invalid("application.state", "An application is active or disabled.")
    await session.execute(
        update(application).where(application.c.id == found.id).values(state=state)
    )
    await _changed(session, scope, found, state)


async def get_application(session: AsyncSession, application_id: int) -> Application:
    """One application; raises NotFound `application.not_found`."""
    return await _one(session, application.c.id == application_id)


async def by_client_id(session: AsyncSession, client_id: str) -> Application:
    """An application that may be used; raises NotFound `application.not_found`."""
    named = application.c.client_id == _plain(client_id)
    return await _one(session, named & (application.c.state == "active"))


async def by_secret(session: AsyncSession, client_id: str, secret: str) -> Application:
    """An application that shows its secret; raises Denied `application.secret`."""
    wanted = select(
        *_COLUMNS,
        application.c.secret_hash,
        application.c.previous_hash,
        application.c.previous_until,
    ).where(application.c.client_id == _plain(client_id), application.c.state == "active")
    row = (await session.execute(wanted)).first()
    shown = fingerprint(secret)
    if row is not None and row.secret_hash is not None:
        earlier = row.previous_hash if row.previous_hash and _counts(row.previous_until) else ""
        hashes = (row.secret_hash, earlier)
        if any(hmac.compare_digest(shown, one) for one in hashes):
            return _as_application(row._mapping)
    raise Denied("application.secret", "The application is not known, or shows a wrong secret.")


async def list_applications(session: AsyncSession) -> list[Application]:
    """Every application by its id."""
    wanted = select(*_COLUMNS).order_by(application.c.client_id)
    return [_as_application(row._mapping) for row in await session.execute(wanted)]


def _plain(client_id: str) -> str:
    """What can be asked for; nothing has an empty id, and a database cannot keep every letter."""
    return client_id if client_id.isprintable() else ""


def _counts(until: Any) -> bool:
    return until is not None and until.timestamp() > time.time()


def _checked(facts: Facts, audience: str) -> dict[str, Any]:
    redirects = check_uris(facts.redirect_uris, "application.redirect_uri", private=True)
    if not redirects:
        raise Invalid(
            "application.redirect_uri", "Say where people are led back to after signing in."
        )
    backchannel = check_uris([facts.backchannel_uri], "application.backchannel")
    return {
        "name_zh": check_name(facts.name_zh),
        "name_en": check_name(facts.name_en),
        "first_party": facts.first_party,
        "redirect_uris": json.dumps(redirects),
        "post_logout_uris": json.dumps(
            check_uris(facts.post_logout_uris, "application.post_logout_uri", private=True)
        ),
        "backchannel_uri": backchannel[0] if backchannel else "",
        "scopes": json.dumps(sorted(check_scopes(facts.scopes, audience))),
    }


async def _one(session: AsyncSession, condition: Any) -> Application:
    row = (await session.execute(select(*_COLUMNS).where(condition))).first()
    if row is None:
        raise NotFound("application.not_found", "There is no such application.")
    return _as_application(row._mapping)


def _as_application(row: Mapping[Any, Any]) -> Application:
    facts = {name: row[name] for name in Application.__dataclass_fields__}
    lists = {name: json.loads(facts[name]) for name in _LISTS}
    return Application(
        **{
            **facts,
            "redirect_uris": tuple(lists["redirect_uris"]),
            "post_logout_uris": tuple(lists["post_logout_uris"]),
            "scopes": frozenset(lists["scopes"]),
        }
    )


def _check_top(scope: Scope) -> None:
    """Applications see people of the whole installation: who administers a part names none."""
    if scope.owners is not None:
        raise Denied(
            "application.top", "Applications are registered by who administers everything."
        )


async def _changed(session: AsyncSession, scope: Scope, one: Application, change: str) -> None:
    detail = {"change": change, "application": one.client_id}
    record = AuditRecord(scope.actor, MANAGE, "ok", purpose=scope.purpose, detail=detail)
    await append(session, record)
    await touch(session, "revocation")
