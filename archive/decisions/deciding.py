"""Deciding: about a study, series or instance, with everything that follows from it.

The first transaction writes the decision, within what its actor may see, and hides rows or shows
them otherwise. What concerns more than these rows follows as the system: what is deleted goes, then
what needs the stored files (first values, contradictions, metadata of what is left), then the log.
Whatever a crash leaves undone `finish_decisions` does later: a decision is closed last. Stored
bytes are never touched: packs without a reference die and go when their time has passed.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog
from sqlalchemy import and_, exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from archive.decisions import merging, rows
from archive.decisions.domain import (
    CHOOSE,
    CLASSIFY,
    CORRECT,
    DELETE,
    HOLD,
    MERGE,
    REJECT,
    REJECTION_CODES,
    RELEASE,
    UNMERGE,
    Decision,
    PatientKey,
    Ref,
    uids_of,
)
from archive.decisions.log import append_log
from archive.decisions.overlay import check, fold
from archive.decisions.removal import anything_left, find_study, latest_received, remove, series_of
from archive.decisions.renewal import renew
from archive.decisions.showing import check_version, show
from archive.index.tables import instance, pack, series, study
from archive.journal.clock import now_ms
from archive.settle.service import STUDY_AMENDED, Settler
from archive.store.service import Stores
from kernel.audit.domain import AuditRecord
from kernel.audit.service import append as audit
from kernel.db.database import Database
from kernel.errors import AppError, Invalid, NotFound, Unavailable
from kernel.events.service import emit
from kernel.scope import SENSITIVE_KINDS, Scope

ACTION = "archive.study."  # and the kind: what the audit calls it
RECHECK_MS = 15 * 60 * 1000  # how long something received before may still turn up
QUIET_MS = 10_000
_AT_ONCE = 100
_TEMPORARY = frozenset({"flagged", "patients"})  # what an open decision has still to do

_SCOPE = Scope.system("decisions")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Decided:
    """What came of a decision: the instances that went, and one row for each owner concerned."""

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
) -> Decided:
    """Delete what `ref` names within `scope`; it is gone, and logged, when this returns.

    Raises as `decide` does; ``study.held`` under a legal hold.
    """
    return await decide(database, stores, settler, scope, DELETE, ref, actor=actor, reason=reason)


async def decide(
    database: Database,
    stores: Stores,
    settler: Settler,
    scope: Scope,
    kind: str,
    ref: Ref,
    *,
    actor: str,
    reason: str,
    detail: Mapping[str, Any] | None = None,
    people: Database | None = None,
) -> Decided:
    """Decide about what `ref` names within `scope`; it holds, and is logged, when this returns.

    `detail` is what `Decision` says of the kind. `people` is where the actor's own transactions
    run, which see no more than `scope`; else they run in `database`. Raises `NotFound`
    (``study.not_found``, ``series.not_found``, ``instance.not_found``, ``version.not_found``),
    `Conflict` where it cannot be decided now (``study.held``, ``decision.*``,
    ``version.elsewhere``), `Invalid` (``decision.*``, ``correct.*``), and `Unavailable` where the
    object store fails: the decision stands then and is finished later.
    """
    _check(kind, ref, detail or {})
    people = people or database
    owners = await _owners(people, scope, ref)
    if not owners:
        level = ("study", "series", "instance")[sum(map(bool, uids_of(ref))) - 1]
        raise NotFound(f"{level}.not_found", f"there is no such {level}")
    made = [
        Decision(owner_id, kind, actor, reason, *uids_of(ref), dict(detail or {}), 0)
        for owner_id in owners
    ]
    ids = [await _decide(people, scope, one) for one in made]
    instances = 0
    for decision_id in ids:
        instances += await complete(database, stores, settler, decision_id)
    await append_log(database, stores)
    return Decided(instances, tuple(ids))


async def merge(
    database: Database,
    stores: Stores,
    settler: Settler,
    scope: Scope,
    patient: PatientKey,
    into: PatientKey,
    *,
    actor: str,
    reason: str,
    undo: bool = False,
    people: Database | None = None,
) -> Decided:
    """Let all studies of a patient answer under another one, or take that back (`undo`).

    For every owner within the scope who knows both; `people` as in `decide`. Raises as
    `merging.record` does, and `Unavailable` where the object store fails: the decision stands then
    and is finished later.
    """
    kind = UNMERGE if undo else MERGE
    ids = await merging.record(
        people or database, scope, kind, patient, into, actor=actor, reason=reason
    )
    for decision_id in ids:
        await complete(database, stores, settler, decision_id)
    await append_log(database, stores)
    return Decided(0, tuple(ids))


def _check(kind: str, ref: Ref, detail: Mapping[str, Any]) -> None:
    """What can be said against a decision without looking at the study."""
    level = sum(map(bool, uids_of(ref)))
    if kind in (HOLD, RELEASE) and level != 1:
        raise Invalid("decision.level", "a legal hold is about a whole study")
    if kind == CLASSIFY and level != 1:
        raise Invalid("decision.level", "a whole study is sensitive or not")
    if kind == CLASSIFY and not {*detail.get("kinds", ())} <= {*SENSITIVE_KINDS}:
        raise Invalid(
            "decision.sensitivity",
            "The sensitive kinds of data are {kinds}.",
            kinds=", ".join(SENSITIVE_KINDS),
        )
    if kind == CHOOSE and level != 3:
        raise Invalid("decision.level", "a version is chosen of one instance")
    if kind == REJECT and detail.get("code") not in REJECTION_CODES:
        raise Invalid(
            "decision.code",
            "“{code}” is no reason for a rejection: {codes}",
            code=str(detail.get("code", ""))[:16],
            codes=", ".join(REJECTION_CODES),
        )


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
    if made.kind == DELETE:
        made = await _complete_deletion(database, stores, settler, decision_id, made)
    elif not made.closed and made.kind in (CORRECT, CHOOSE):
        await renew(database, stores, made)
    elif not made.closed and made.kind in (MERGE, UNMERGE):
        await merging.renew_studies(database, stores, made)
    if not made.closed:
        async with database.session(_scope_of(made), write=True) as session:
            made = await _close(session, decision_id)
    return int(made.detail.get("instances", 0))


async def _complete_deletion(
    database: Database, stores: Stores, settler: Settler, decision_id: int, made: Decision
) -> Decision:
    scope = _scope_of(made)

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
    return made


def _scope_of(made: Decision) -> Scope:
    return rows.owner_scope(made.owner_id, made.kind)


async def _decide(database: Database, scope: Scope, wanted: Decision) -> int:
    """The first transaction: the decision, its audit record, and what is seen at once.

    What is deleted goes afterwards: names and packs without a reference are told only by who sees
    the rows of every owner.
    """
    ids = {"id": secrets.token_hex(8), "state": "open"}
    if wanted.kind == DELETE:
        ids |= {"instances": 0, "also": [], "gone": False, "series": []}  # type: ignore[dict-item]

    async def work(session: AsyncSession) -> int:
        study_id = await find_study(session, wanted)
        if study_id is None:
            raise NotFound("study.not_found", "there is no such study")
        await _lock(session, study_id)
        decided = await rows.of_study(session, wanted.owner_id, wanted.study_instance_uid)
        latest_ms = max([now_ms(), *(one.decided_ms + 1 for one in decided)])
        if wanted.kind == DELETE:
            latest_ms = max(latest_ms, await latest_received(session, wanted))
        made = replace(wanted, detail={**wanted.detail, **ids}, decided_ms=latest_ms)
        check(fold(decided), made)
        if made.kind == CHOOSE:
            await check_version(session, study_id, made)
        decision_id = await rows.add(session, made)
        await _audit(session, scope, made, decision_id)
        if made.kind != DELETE:
            await show(session, study_id, fold([*decided, made]))
        return decision_id

    return await rows.attempt(database, rows.owner_scope(wanted.owner_id, scope.purpose), work)


async def _lock(session: AsyncSession, study_id: int) -> None:
    """Lock a study and its series in the order in which receiving does."""
    chosen = select(series.c.id).where(series.c.study_fk == study_id).order_by(series.c.id)
    await session.execute(chosen.with_for_update())
    await session.execute(select(study.c.id).where(study.c.id == study_id).with_for_update())


async def _audit(session: AsyncSession, scope: Scope, made: Decision, decision_id: int) -> None:
    below = (made.series_instance_uid, made.sop_instance_uid)
    record = AuditRecord(
        scope.actor,
        ACTION + made.kind,
        "ok",
        made.owner_id,
        made.study_instance_uid,
        tuple(uid for uid in below if uid),
        purpose=scope.purpose,
        detail={"decision": decision_id, "reason": made.reason},
    )
    await audit(session, record)


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
    detail = {name: value for name, value in made.detail.items() if name not in _TEMPORARY}
    detail["state"] = "closed"
    if made.kind in (MERGE, UNMERGE):
        detail["overlays"] = await merging.overlays(session, made)
        told = dict.fromkeys(detail["overlays"], False)
    else:
        study_id = await find_study(session, made)
        if made.kind == DELETE and study_id is not None:  # what was decided about what went
            uid = made.study_instance_uid
            await show(session, study_id, await rows.overlay_of(session, made.owner_id, uid))
        versions = select(study.c.overlay_version).where(study.c.id == study_id)
        detail["overlay_version"] = await session.scalar(versions)
        told = {made.study_instance_uid: study_id is None}
    await rows.note(session, decision_id, detail)
    for uid, deleted in told.items():
        payload = {"study_instance_uid": uid, "deleted": deleted}
        await emit(session, STUDY_AMENDED, payload, owner_id=made.owner_id, key=uid)
    return await rows.load(session, decision_id)
