"""Opening data in an emergency, and reviewing that afterwards."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity.break_glass.domain import (
    LASTS_S,
    LONGEST_S,
    REVIEW,
    USE,
    BreakGlass,
    check_reason,
    check_verdict,
)
from identity.break_glass.tables import break_glass
from identity.changes.service import touch
from identity.grants.domain import Subject
from identity.grants.service import load_rights
from kernel.audit.domain import AuditRecord
from kernel.audit.service import append
from kernel.errors import Denied, Invalid, NotFound
from kernel.events.service import emit
from kernel.scope import EMERGENCY, Actor, Scope

OPENED = "access.break_glass_opened.v1"
REVIEWED = "access.break_glass_reviewed.v1"
_COLUMNS = [break_glass.c[name] for name in BreakGlass.__dataclass_fields__]


@dataclass(frozen=True, slots=True)
class Emergency:
    """Whose data are needed, and why."""

    organisation_id: int
    reason: str
    study_instance_uid: str = ""
    lasts_s: float = LASTS_S


async def open_glass(
    session: AsyncSession, account_id: int, emergency: Emergency, *, peer: str = ""
) -> BreakGlass:
    """Open an organisation's data for a short time; a review waits from now on.

    Raises Denied `break_glass.denied` for who may not at all, Invalid `break_glass.reason`,
    `break_glass.place`, `break_glass.time`.
    """
    now = time.time()
    reason = check_reason(emergency.reason)
    if not 0 < emergency.lasts_s <= LONGEST_S:
        raise Invalid("break_glass.time", "Emergency access lasts some minutes to four hours.")
    rights = await load_rights(session)
    if emergency.organisation_id not in rights.owners.paths:
        raise Invalid(
            "break_glass.place", "There is no organisation {id}.", id=emergency.organisation_id
        )
    if not rights.owners_for(Subject("account", account_id), USE, now):
        raise Denied("break_glass.denied", "You may not open data in an emergency.")
    row = {
        "account_id": account_id,
        "organisation_id": emergency.organisation_id,
        "study_instance_uid": emergency.study_instance_uid,
        "reason": reason,
        "opened_at": now,
        "expires_at": now + emergency.lasts_s,
    }
    made = await session.execute(insert(break_glass).values(row).returning(*_COLUMNS))
    opened = BreakGlass(**made.one()._mapping)
    await _note(session, opened, account_id, USE, "opened", peer)
    payload = {"break_glass_id": opened.id, "study_instance_uid": opened.study_instance_uid}
    await emit(session, OPENED, payload, owner_id=opened.organisation_id, key=str(opened.id))
    await touch(session, "rights")
    return opened


async def review(
    session: AsyncSession,
    reviewer_id: int,
    break_glass_id: int,
    verdict: str,
    comment: str = "",
) -> BreakGlass:
    """Say whether an emergency access was justified. The access itself ends with its time.

    Raises NotFound `break_glass.not_found` also for an organisation that the reviewer does not
    review, Invalid `break_glass.verdict`, Conflict `break_glass.own`, `break_glass.reviewed`.
    """
    now = time.time()
    rights = await load_rights(session)
    reviewed = rights.owners_for(Subject("account", reviewer_id), REVIEW, now)
    wanted = select(*_COLUMNS).where(break_glass.c.id == break_glass_id).with_for_update()
    row = (await session.execute(wanted)).first()
    if row is None or row.organisation_id not in reviewed:
        raise NotFound("break_glass.not_found", "There is no such emergency access.")
    check_verdict(BreakGlass(**row._mapping), verdict, reviewer_id, comment)
    change = {
        "reviewed_at": now,
        "reviewed_by": reviewer_id,
        "verdict": verdict,
        "comment": comment.strip(),
    }
    done = await session.execute(
        update(break_glass)
        .where(break_glass.c.id == break_glass_id)
        .values(change)
        .returning(*_COLUMNS)
    )
    closed = BreakGlass(**done.one()._mapping)
    await _note(session, closed, reviewer_id, REVIEW, verdict, "")
    payload = {"break_glass_id": closed.id, "verdict": verdict}
    await emit(session, REVIEWED, payload, owner_id=closed.organisation_id, key=str(closed.id))
    return closed


async def waiting_reviews(session: AsyncSession, scope: Scope) -> list[BreakGlass]:
    """What still has to be reviewed within `scope`, the oldest first."""
    wanted = select(*_COLUMNS).where(break_glass.c.reviewed_at.is_(None)).order_by(break_glass.c.id)
    if scope.owners is not None:
        wanted = wanted.where(break_glass.c.organisation_id.in_(scope.owners))
    return [BreakGlass(**row._mapping) for row in await session.execute(wanted)]


async def opened_by(session: AsyncSession, account_id: int, *, limit: int = 10) -> list[BreakGlass]:
    """What a person has opened, the newest first."""
    mine = select(*_COLUMNS).where(break_glass.c.account_id == account_id)
    newest = mine.order_by(break_glass.c.id.desc()).limit(limit)
    return [BreakGlass(**row._mapping) for row in await session.execute(newest)]


async def open_now(session: AsyncSession) -> list[BreakGlass]:
    """What is open at this moment."""
    wanted = select(*_COLUMNS).where(break_glass.c.expires_at > time.time())
    return [BreakGlass(**row._mapping) for row in await session.execute(wanted)]


async def _note(
    session: AsyncSession, one: BreakGlass, account_id: int, action: str, change: str, peer: str
) -> None:
    record = AuditRecord(
        Actor("session", str(account_id)),
        action,
        "ok",
        owner_id=one.organisation_id,
        study_instance_uid=one.study_instance_uid,
        purpose=EMERGENCY,
        peer=peer,
        detail={"change": change, "break_glass": one.id},
    )
    await append(session, record)
