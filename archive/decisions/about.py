"""What was decided about a study, and what somebody may still have to decide."""

from __future__ import annotations

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from archive.decisions import rows
from archive.decisions.domain import Contradiction, KeptVersion, StudyState
from archive.decisions.merges import key_in
from archive.decisions.overlay import fold
from archive.index.shown import masked
from archive.index.tables import decision, instance, instance_version, mismatch, series, study
from dataset.refs import StudyRef
from kernel.db.database import Database
from kernel.errors import NotFound
from kernel.scope import Scope


async def about(database: Database, scope: Scope, ref: StudyRef) -> list[StudyState]:
    """What is known about a study within the scope.

    Raises `NotFound('study.not_found')` where it is not there and nothing was decided about it,
    and `Denied('study.masked')` where the scope hides whose it is.
    """
    uid = ref.study_instance_uid
    async with database.session(scope) as session:
        owners: set[int] = set()
        for table in (study, decision):
            found = table.c.study_instance_uid == uid
            chosen = select(table.c.owner_id).where(found, _within(scope, table.c.owner_id))
            owners.update((await session.scalars(chosen)).all())
        if not owners:
            raise NotFound("study.not_found", "there is no such study")
        chosen = select(study.c.owner_id, study.c.sensitivity).where(
            study.c.study_instance_uid == uid, study.c.owner_id.in_(owners)
        )
        kinds = {row[0]: row[1] for row in await session.execute(chosen)}
        if any(scope.hides(one, kinds.get(one, "")) for one in owners):
            raise masked()
        return [await _state(session, owner_id, uid) for owner_id in sorted(owners)]


def _within(scope: Scope, column: ColumnElement[int]) -> ColumnElement[bool]:
    return column.is_not(None) if scope.owners is None else column.in_(sorted(scope.owners))


async def _state(session: AsyncSession, owner_id: int, uid: str) -> StudyState:
    decided = await rows.of_study(session, owner_id, uid)
    chosen = select(study.c.id, study.c.attrs, study.c.first_attrs).where(
        study.c.owner_id == owner_id, study.c.study_instance_uid == uid
    )
    row = (await session.execute(chosen)).first()
    if row is None:
        return StudyState(owner_id, False, None, {}, {}, decided, [], [], "")
    own = key_in(rows.loads(row[2])) if row[2] else key_in(rows.loads(row[1]))
    shown = key_in(rows.loads(row[1]))
    overlay = fold(decided)
    return StudyState(
        owner_id,
        True,
        overlay.held,
        overlay.corrections,
        overlay.rejected,
        decided,
        await _versions(session, row[0]),
        await _contradictions(session, row[0]),
        own.patient_id if own != shown else "",
    )


async def _versions(session: AsyncSession, study_id: int) -> list[KeptVersion]:
    chosen = (
        select(
            series.c.series_instance_uid,
            instance.c.sop_instance_uid,
            instance_version.c.relation,
            instance_version.c.source,
            instance_version.c.received_ms,
            instance_version.c.byte_length,
            instance.c.version_fk,
            instance_version.c.id,
        )
        .join(instance, instance.c.id == instance_version.c.instance_fk)
        .join(series, series.c.id == instance.c.series_fk)
        .where(series.c.study_fk == study_id)
        .order_by(instance.c.id, instance_version.c.id)
    )
    return [KeptVersion(*row[:6], row[6] == row[7]) for row in await session.execute(chosen)]


async def _contradictions(session: AsyncSession, study_id: int) -> list[Contradiction]:
    chosen = (
        select(
            mismatch.c.kind,
            mismatch.c.series_instance_uid,
            mismatch.c.sop_instance_uid,
            mismatch.c.stored,
            mismatch.c.received,
        )
        .where(mismatch.c.study_fk == study_id)
        .order_by(mismatch.c.noted_ms, mismatch.c.id)
    )
    return [Contradiction(*row) for row in await session.execute(chosen)]
