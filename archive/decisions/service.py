"""Deciding: a study, series or instance is deleted, with everything that follows from it.

The first transaction writes the decision and takes the rows away; first values, contradictions and
metadata of what is left follow, then the log. Whatever a crash leaves undone `finish_decisions`
does later: a decision is closed last. Stored bytes are never touched: packs without a reference die
and go when their time has passed.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import structlog
from sqlalchemy import and_, exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from archive.decisions import rows
from archive.decisions.domain import DELETE, Decision, Ref, uids_of
from archive.decisions.log import append_log
from archive.decisions.removal import anything_left, find_study, latest_received, remove, series_of
from archive.decisions.renewal import renew
from archive.index.tables import instance, pack, series, study
from archive.settle.clock import now_ms
from archive.settle.service import STUDY_AMENDED, Settler
from archive.store.service import Stores
from kernel.audit.domain import AuditRecord
from kernel.audit.service import append as audit
from kernel.db.database import Database
from kernel.errors import AppError, NotFound, Unavailable
from kernel.events.service import emit
from kernel.scope import Scope

DELETE_ACTION = "archive.study.delete"
RECHECK_MS = 15 * 60 * 1000  # how long something received before may still turn up
QUIET_MS = 10_000
_AT_ONCE = 100

_SCOPE = Scope.system("decisions")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a deletion did: the instances that went, and one decision for each owner of them."""

    instances: int
    decision_ids: tuple[int, ...]


async def delete(
    database: Database,
    stores: Stores,
    settler: Settler,
    scope: Scope,
    ref: Ref,
    *,
    actor: str,
    reason: str,
) -> Deleted:
    """Delete what `ref` names within `scope`; it is gone, and logged, when this returns.

    Raises `NotFound` (``study.not_found``, ``series.not_found``, ``instance.not_found``), and
    `Unavailable` where the object store fails: the decision stands then and is finished later.
    """
    owners = await _owners(database, scope, ref)
    if not owners:
        kind = ("study", "series", "instance")[sum(map(bool, uids_of(ref))) - 1]
        raise NotFound(f"{kind}.not_found", f"there is no such {kind}")
    ids = [await _decide(database, scope, owner_id, ref, actor, reason) for owner_id in owners]
    instances = 0
    for decision_id in ids:
        instances += await complete(database, stores, settler, decision_id)
    await append_log(database, stores)
    return Deleted(instances, tuple(ids))


async def finish_decisions(
    database: Database, stores: Stores, settler: Settler, *, quiet_ms: int = QUIET_MS
) -> int:
    """Do what a crash or an outage left undone of decisions; returns how many there were.

    One younger than `quiet_ms` is left to whoever took it. What was on its way while a decision was
    taken turns up after it: the latest ones are looked through once more. Raises `Unavailable`
    where a store fails.
    """
    before = now_ms() - quiet_ms
    async with database.session(_SCOPE) as session:
        waiting = [
            row_id
            for row_id, made in await rows.unlogged(session, _AT_ONCE)
            if made.decided_ms <= before and not made.closed
        ]
        for row_id, made in await rows.recent(session, DELETE, now_ms() - RECHECK_MS):
            if made.closed and await anything_left(session, made):
                waiting.append(row_id)
    for decision_id in waiting:
        try:
            await complete(database, stores, settler, decision_id)
        except Unavailable as error:
            if error.code != "node.elsewhere":
                raise
            _log.info("decision_waits", decision_id=decision_id, why=str(error))
    await append_log(database, stores)
    return len(waiting)


async def complete(database: Database, stores: Stores, settler: Settler, decision_id: int) -> int:
    """Carry a decision through; returns how many instances it deleted in all."""
    async with database.session(_SCOPE) as session:
        made = await rows.load(session, decision_id)
    scope = rows.owner_scope(made.owner_id, "delete")

    async def take(session: AsyncSession) -> int:
        return await remove(session, decision_id, now_ms())

    while await rows.attempt(database, scope, take):
        pass
    async with database.session(scope) as session:
        made = await rows.load(session, decision_id)
        bare = [] if made.closed else await _without_metadata(session, made)
    if not made.closed:
        await renew(database, stores, made)
        for series_id in bare:
            await _refresh(settler, series_id)
        async with database.session(scope, write=True) as session:
            made = await _close(session, decision_id)
    return int(made.detail["instances"])


async def _decide(
    database: Database, scope: Scope, owner_id: int, ref: Ref, actor: str, reason: str
) -> int:
    """The first transaction: the decision, its audit record, and the rows go."""
    detail = {"id": secrets.token_hex(8), "state": "open", "instances": 0, "also": []}
    uids = uids_of(ref)

    async def work(session: AsyncSession) -> int:
        made = Decision(owner_id, DELETE, actor, reason, *uids, detail, now_ms())
        latest_ms = max(made.decided_ms, await latest_received(session, made))
        made = Decision(owner_id, DELETE, actor, reason, *uids, detail, latest_ms)
        decision_id = await rows.add(session, made)
        record = AuditRecord(
            scope.actor,
            DELETE_ACTION,
            "ok",
            owner_id,
            uids[0],
            tuple(uid for uid in uids[1:] if uid),
            purpose=scope.purpose,
            detail={"decision": decision_id, "reason": reason},
        )
        await audit(session, record)
        await remove(session, decision_id, now_ms())
        return decision_id

    return await rows.attempt(database, rows.owner_scope(owner_id, scope.purpose), work)


async def _owners(database: Database, scope: Scope, ref: Ref) -> list[int]:
    """The owners within the scope who have what `ref` names."""
    study_uid, series_uid, sop_uid = uids_of(ref)
    chosen = select(study.c.owner_id).where(study.c.study_instance_uid == study_uid)
    if series_uid:
        chosen = chosen.join(series, series.c.study_fk == study.c.id).where(
            series.c.series_instance_uid == series_uid
        )
    if sop_uid:
        chosen = chosen.join(instance, instance.c.series_fk == series.c.id).where(
            instance.c.sop_instance_uid == sop_uid
        )
    if scope.owners is not None:
        chosen = chosen.where(study.c.owner_id.in_(sorted(scope.owners)))
    async with database.session(scope) as session:
        return sorted((await session.scalars(chosen)).all())


async def _without_metadata(session: AsyncSession, made: Decision) -> list[int]:
    """The series that a decision is about, settled in part, whose metadata went with it."""
    study_id = await find_study(session, made)
    if study_id is None:
        return []
    settled = exists().where(
        and_(
            instance.c.series_fk == series.c.id,
            instance.c.pack_id == pack.c.id,
            pack.c.kind == "pack",
        )
    )
    bare = select(series.c.id).where(
        series.c.id.in_(await series_of(session, study_id, made)),
        series.c.metadata_pack_id.is_(None),
        settled,
    )
    return list((await session.scalars(bare)).all())


async def _refresh(settler: Settler, series_id: int) -> None:
    """Write metadata anew; without them a series is still read, only slower."""
    try:
        await settler.refresh_metadata(series_id)
    except AppError as error:
        _log.warning("metadata_wait", series_id=series_id, code=error.code, why=str(error))


async def _close(session: AsyncSession, decision_id: int) -> Decision:
    """Everything is done: say so, and tell those who listen."""
    made = await rows.load(session, decision_id, lock=True)
    if made.closed:
        return made
    study_id = await find_study(session, made)
    overlay = await session.scalar(select(study.c.overlay_version).where(study.c.id == study_id))
    detail = {
        "id": made.detail["id"],
        "state": "closed",
        "instances": made.detail["instances"],
        "overlay_version": overlay,
        "also": made.detail["also"],
    }
    await rows.note(session, decision_id, detail)
    uid = made.study_instance_uid
    payload = {"study_instance_uid": uid, "deleted": study_id is None}
    await emit(session, STUDY_AMENDED, payload, owner_id=made.owner_id, key=uid)
    return await rows.load(session, decision_id)
