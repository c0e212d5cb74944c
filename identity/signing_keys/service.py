"""Making keys, letting one follow another, and signing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import structlog
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet
from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from identity.signing_keys.domain import (
    AHEAD_S,
    ALGORITHM,
    CURVE,
    KEPT_S,
    SigningKey,
    is_due,
    jwk_set,
    signing,
)
from identity.signing_keys.tables import signing_key
from kernel.audit.domain import AuditRecord
from kernel.audit.service import append
from kernel.db.database import Database
from kernel.errors import Denied, Unavailable
from kernel.scope import Scope
from kernel.sealing.domain import Sealer

MANAGE = "identity.application.manage"
LOOK_EVERY_S = 600.0

_PURPOSE = "signing key"
_SCOPE = Scope.system("signing keys")

log = structlog.get_logger(__name__)


async def load_keys(session: AsyncSession) -> list[SigningKey]:
    """The keys that are published, the oldest first."""
    wanted = (
        select(signing_key)
        .where(
            or_(
                signing_key.c.published_until.is_(None),
                signing_key.c.published_until > time.time(),
            )
        )
        .order_by(signing_key.c.signs_from, signing_key.c.id)
    )
    return [
        SigningKey(
            row.id,
            json.loads(row.public),
            row.created_at.timestamp(),
            row.signs_from.timestamp(),
            row.published_until.timestamp() if row.published_until else None,
        )
        for row in await session.execute(wanted)
    ]


async def rotate(
    session: AsyncSession, sealer: Sealer, scope: Scope, *, compromised: bool = False
) -> SigningKey:
    """A new key, which signs once everybody can know it; older ones stay until their tokens end.

    With `compromised` it signs at once and nothing counts any more that older keys have signed.
    Raises Denied `application.top` for who administers only a part.
    """
    if scope.owners is not None:
        raise Denied(
            "application.top", "Applications are registered by who administers everything."
        )
    known, now = await load_keys(session), time.time()
    signs_from = now + AHEAD_S if known and not compromised else now
    made = ECKey.generate_key(CURVE)
    key_id = made.thumbprint()
    row = {
        "id": key_id,
        "public": json.dumps(made.as_dict(private=False)),
        "private_sealed": sealer.seal(json.dumps(made.as_dict(private=True)), _PURPOSE),
        "created_at": now,
        "signs_from": signs_from,
    }
    ends = now if compromised else signs_from + KEPT_S
    await session.execute(
        update(signing_key)
        .where(or_(signing_key.c.published_until.is_(None), signing_key.c.published_until > ends))
        .values(published_until=ends)
    )
    await session.execute(insert(signing_key).values(row))
    await session.execute(delete(signing_key).where(signing_key.c.published_until < now - KEPT_S))
    detail = {"change": "compromised" if compromised else "rotated", "key": key_id}
    await append(session, AuditRecord(scope.actor, MANAGE, "ok", detail=detail))
    return SigningKey(key_id, made.as_dict(private=False), now, signs_from)


async def rotate_when_due(database: Database, sealer: Sealer, days: float) -> bool:
    """Let a new key follow one that is old enough, and make the first one; whether it did."""
    async with database.session(_SCOPE) as session:
        if not is_due(await load_keys(session), time.time(), days):
            return False
    async with database.session(_SCOPE, write=True) as session:
        if not is_due(await load_keys(session), time.time(), days):
            return False
        await rotate(session, sealer, _SCOPE)
    return True


async def keep_rotating(database: Database, sealer: Sealer, days: float) -> None:
    """Look every ten minutes whether a key is due; for the worker."""
    while True:
        try:
            await rotate_when_due(database, sealer, days)
        except (SQLAlchemyError, Unavailable, OSError):
            log.exception("signing_keys.rotation_failed")
        await asyncio.sleep(LOOK_EVERY_S)


async def published(database: Database) -> dict[str, Any]:
    """The list of keys for others (JWKS)."""
    async with database.session(_SCOPE) as session:
        return jwk_set(await load_keys(session), time.time())


async def sign(
    database: Database, sealer: Sealer, claims: Mapping[str, Any], kind: str = "JWT"
) -> str:
    """A signed token (RFC 7519) of these claims; `kind` is its `typ`.

    Makes the first key where there is none. Raises Unavailable `seal.secret`.
    """
    key = await _current(database)
    if key is None:
        await rotate_when_due(database, sealer, float("inf"))
        key = await _current(database)
    if key is None:
        raise Unavailable("sso.no_key", "There is no key to sign with yet.")
    key_id, sealed = key
    private = ECKey.import_key(json.loads(sealer.open(sealed, _PURPOSE)))
    header = {"alg": ALGORITHM, "kid": key_id, "typ": kind}
    return jwt.encode(header, dict(claims), private, algorithms=[ALGORITHM])


async def read_own(database: Database, token: str) -> dict[str, Any] | None:
    """The claims of a token that one of our published keys signed, whatever its age; or None."""
    try:
        keys = KeySet.import_key_set(await published(database))  # type: ignore[arg-type]
        claims: dict[str, Any] = jwt.decode(token, keys, algorithms=[ALGORITHM]).claims
    except (JoseError, ValueError):
        return None
    return claims


async def _current(database: Database) -> tuple[str, str] | None:
    async with database.session(_SCOPE) as session:
        key = signing(await load_keys(session), time.time())
        if key is None:
            return None
        wanted = select(signing_key.c.private_sealed).where(signing_key.c.id == key.id)
        sealed = await session.scalar(wanted)
        return None if sealed is None else (key.id, sealed)
