"""Issuing and revoking capabilities, and the keys that seal them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity.access.domain import Access
from identity.capabilities.domain import Capability, Caveat, mint
from identity.capabilities.tables import capability_key, capability_revocation
from identity.changes.service import touch
from identity.grants.domain import Subject
from kernel.audit.domain import AuditRecord
from kernel.audit.service import append
from kernel.errors import Denied, Invalid, Unavailable
from kernel.scope import Actor

ISSUE = "archive.capability.issue"
LONGEST_S = 366 * 86400.0
MOST_STUDIES = 100


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys by id, and which one seals new tokens ('' while there is none)."""

    by_id: Mapping[str, bytes]
    current: str


async def load_keys(session: AsyncSession) -> Keys:
    """The keys in force; the newest one seals."""
    wanted = (
        select(capability_key.c.id, capability_key.c.secret)
        .where(capability_key.c.retired_at.is_(None))
        .order_by(capability_key.c.created_at, capability_key.c.id)
    )
    rows = [(row.id, bytes.fromhex(row.secret)) for row in await session.execute(wanted)]
    return Keys(dict(rows), rows[-1][0] if rows else "")


async def add_key(session: AsyncSession) -> str:
    """A new key for tokens from now on; what older keys sealed still counts."""
    key_id = secrets.token_hex(4)
    row = {"id": key_id, "secret": secrets.token_hex(32), "created_at": time.time()}
    await session.execute(insert(capability_key).values(row))
    await touch(session, "rights")
    return key_id


async def retire_key(session: AsyncSession, key_id: str) -> None:
    """Let nothing count any more that this key sealed."""
    await session.execute(
        update(capability_key).where(capability_key.c.id == key_id).values(retired_at=time.time())
    )
    await touch(session, "rights")


async def load_revoked(session: AsyncSession) -> frozenset[str]:
    """Names of the tokens that were revoked before their end."""
    wanted = select(capability_revocation.c.id).where(capability_revocation.c.until > time.time())
    return frozenset((await session.scalars(wanted)).all())


async def issue(
    session: AsyncSession, access: Access, keys: Keys, issuer_id: int, owner_id: int, caveat: Caveat
) -> str:
    """A token for studies of one owner, with no more than its issuer may do with them.

    Raises Denied `capability.issuer` for who may not share these data, `capability.more` for a
    permission that the issuer lacks; Invalid `capability.time`, `capability.studies`; Unavailable
    `capability.no_key`.
    """
    now = time.time()
    subject = Subject("account", issuer_id)
    path = access.rights.owners.path(owner_id)
    own = access.rights.owners_for(subject, ISSUE, now)
    if path is None or owner_id not in own:
        raise Denied("capability.issuer", "You may not share these data.")
    wanted = caveat.permissions or frozenset()
    if not wanted or not wanted <= access.permissions_at(subject, path, now):
        raise Denied("capability.more", "You cannot share more than you may do yourself.")
    if not caveat.until or not now < caveat.until <= now + LONGEST_S:
        raise Invalid("capability.time", "A link lasts at most a year.")
    if not caveat.studies or len(caveat.studies) > MOST_STUDIES:
        raise Invalid("capability.studies", "A link opens one study or a few.")
    key = keys.by_id.get(keys.current)
    if key is None:
        raise Unavailable("capability.no_key", "There is no key to seal links with yet.")
    token = mint(keys.current, key, owners=[owner_id], issuer=issuer_id, caveat=caveat)
    for study in sorted(caveat.studies):
        record = AuditRecord(
            Actor("session", str(issuer_id)),
            ISSUE,
            "ok",
            owner_id=owner_id,
            study_instance_uid=study,
            purpose=caveat.purpose or "",
            detail={"change": "issued", "permissions": sorted(wanted)},
        )
        await append(session, record)
    return token


async def revoke(session: AsyncSession, found: Capability, by: Actor) -> None:
    """Withdraw a verified token and all that were narrowed from it, not the wider ones."""
    name = found.revocation_ids[-1]
    known = select(capability_revocation.c.id).where(capability_revocation.c.id == name)
    if await session.scalar(known) is not None:
        return
    row = {
        "id": name,
        "revoked_at": time.time(),
        "until": found.until,
        "revoked_by": f"{by.kind}:{by.id}",
    }
    await session.execute(insert(capability_revocation).values(row))
    await session.execute(
        delete(capability_revocation).where(capability_revocation.c.until < time.time() - 86400)
    )
    record = AuditRecord(by, ISSUE, "ok", detail={"change": "revoked", "capability": name})
    await append(session, record)
    await touch(session, "revocation")
