"""Taking rows out of the index: what a delete decision covers, with everything that counted it.

One call is one transaction. It takes up to `ROWS_AT_ONCE` instances, so a study of any usual size
is gone at once, or not at all; SQLite needs 45 ms for that many. Locks are taken before anything is
counted, in the order in which receiving takes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select, union, update
from sqlalchemy.ext.asyncio import AsyncSession

from archive.decisions import rows
from archive.decisions.domain import Decision
from archive.decisions.names import drop_names, names_of
from archive.decisions.shared_series import renew_shared
from archive.index.mismatch import SERIES_IN_TWO_STUDIES
from archive.index.tables import (
    decision,
    instance,
    instance_version,
    mismatch,
    pack,
    patient,
    series,
    study,
)
from archive.settle.rows import waiting

ROWS_AT_ONCE = 5000


async def find_study(session: AsyncSession, made: Decision) -> int | None:
    """The row id of the study that a decision is about."""
    found: int | None = await session.scalar(
        select(study.c.id).where(
            study.c.owner_id == made.owner_id,
            study.c.study_instance_uid == made.study_instance_uid,
        )
    )
    return found


async def series_of(
    session: AsyncSession, study_id: int, made: Decision, *, lock: bool = False
) -> list[int]:
    """The row ids of the series that a decision is about."""
    chosen = select(series.c.id).where(series.c.study_fk == study_id).order_by(series.c.id)
    if made.series_instance_uid:
        chosen = chosen.where(series.c.series_instance_uid == made.series_instance_uid)
    if lock:
        chosen = chosen.with_for_update()
    return list((await session.scalars(chosen)).all())


def covered(made: Decision, series_ids: Sequence[int]) -> ColumnElement[bool]:
    """The instances that a decision covers: what was received up to then."""
    below = [instance.c.series_fk.in_(series_ids), instance.c.received_ms <= made.decided_ms]
    if made.sop_instance_uid:
        below.append(instance.c.sop_instance_uid == made.sop_instance_uid)
    return and_(*below)


async def latest_received(session: AsyncSession, made: Decision) -> int:
    """When the last of what a new decision is about was received, versions included.

    A sender's clock may be ahead of ours: what is here now is covered.
    """
    everything = replace(made, decided_ms=2**62)
    study_id = await find_study(session, made)
    if study_id is None:
        return 0
    chosen = covered(everything, await series_of(session, study_id, made))
    instances = select(func.max(instance.c.received_ms)).where(chosen)
    versions = (
        select(func.max(instance_version.c.received_ms))
        .join(instance, instance.c.id == instance_version.c.instance_fk)
        .where(chosen)
    )
    latest = [await session.scalar(one) for one in (instances, versions)]
    return max(received_ms or 0 for received_ms in latest)


async def anything_left(session: AsyncSession, made: Decision) -> bool:
    """Whether an instance is there that a decision covers."""
    study_id = await find_study(session, made)
    if study_id is None:
        return False
    series_ids = await series_of(session, study_id, made)
    return bool(await session.scalar(select(exists().where(covered(made, series_ids)))))


async def remove(
    session: AsyncSession, decision_id: int, now_ms: int, at_once: int = ROWS_AT_ONCE
) -> int:
    """Take away what a decision covers, at most `at_once` instances; returns how many went."""
    made = await rows.load(session, decision_id, lock=True)
    study_id = await find_study(session, made)
    if study_id is None:
        return 0
    series_ids = await series_of(session, study_id, made, lock=True)
    await session.execute(select(study.c.id).where(study.c.id == study_id).with_for_update())
    going = covered(made, series_ids)
    listed = select(instance.c.id).where(going).order_by(instance.c.id).limit(at_once)
    ids = list((await session.scalars(listed)).all())
    if not ids:
        return 0
    going = and_(going, instance.c.id <= ids[-1])
    touched = await _touched(session, going)
    packs = await _packs(session, going)
    detail = await _detail(session, made, study_id, going)
    detail["instances"] += len(ids)
    await _cover_versions(session, decision_id, made, going)
    await _remove_instances(session, made, going)
    await _recount_series(session, list(touched), now_ms)
    await renew_shared(session, made.owner_id, study_id, list(touched.values()))
    detail["series"] = sorted({*detail["series"], *await _gone(session, touched)})
    detail["gone"] |= await _recount_study(session, study_id)
    await _retire(session, packs, now_ms)
    await rows.note(session, decision_id, detail)
    return len(ids)


def _versions(going: ColumnElement[bool]) -> ColumnElement[bool]:
    """The versions of the instances that go."""
    return instance_version.c.instance_fk.in_(select(instance.c.id).where(going))


async def _touched(session: AsyncSession, going: ColumnElement[bool]) -> dict[int, str]:
    """The series that lose instances: row id and UID."""
    chosen = (
        select(series.c.id, series.c.series_instance_uid)
        .where(series.c.id.in_(select(instance.c.series_fk).where(going)))
        .order_by(series.c.id)
    )
    return {row[0]: row[1] for row in await session.execute(chosen)}


async def _gone(session: AsyncSession, touched: dict[int, str]) -> set[str]:
    """The UIDs of those series that are not there any more."""
    there = await session.scalars(select(series.c.id).where(series.c.id.in_(touched)))
    left = set(there.all())
    return {uid for series_id, uid in touched.items() if series_id not in left}


async def _packs(session: AsyncSession, going: ColumnElement[bool]) -> list[int]:
    """The packs that hold what goes."""
    instances = select(instance.c.pack_id).where(going)
    versions = select(instance_version.c.pack_id).where(_versions(going))
    return list((await session.scalars(union(instances, versions))).all())


async def _detail(
    session: AsyncSession, made: Decision, study_id: int, going: ColumnElement[bool]
) -> dict[str, Any]:
    """What is left to do when the rows are gone, so that a crash does not lose it.

    `flagged`: studies whose contradictions are looked for again, because those that were noted may
    have gone with what they were noted for; `patients`: whose first values are. `also` stays: SOP
    Instance UIDs of which versions go that name another study or series themselves.
    """
    flagged = set(made.detail.get("flagged", ()))
    patients = set(made.detail.get("patients", ()))
    if await session.scalar(select(exists().where(mismatch.c.study_fk == study_id))):
        flagged.add(made.study_instance_uid)
    elsewhere = select(instance_version.c.study_instance_uid).where(
        _versions(going), instance_version.c.study_instance_uid != made.study_instance_uid
    )
    flagged.update((await session.scalars(elsewhere)).all())
    patient_id = await session.scalar(select(study.c.patient_fk).where(study.c.id == study_id))
    patients.add(int(patient_id or 0))
    also = {*made.detail.get("also", ()), *await _stray_versions(session, made, going)}
    return {
        "id": made.detail["id"],
        "state": "open",
        "also": sorted(also),
        "gone": made.detail.get("gone", False),
        "series": made.detail.get("series", []),
        "instances": made.detail.get("instances", 0),
        "flagged": sorted(flagged),
        "patients": sorted(patients),
    }


async def _stray_versions(
    session: AsyncSession, made: Decision, going: ColumnElement[bool]
) -> Sequence[str]:
    elsewhere = instance_version.c.study_instance_uid != made.study_instance_uid
    if made.series_instance_uid:
        elsewhere = or_(
            elsewhere, instance_version.c.series_instance_uid != made.series_instance_uid
        )
    chosen = (
        select(instance.c.sop_instance_uid)
        .join(instance_version, instance_version.c.instance_fk == instance.c.id)
        .where(going, elsewhere)
    )
    return (await session.scalars(chosen)).all()


async def _cover_versions(
    session: AsyncSession, decision_id: int, made: Decision, going: ColumnElement[bool]
) -> None:
    """A version that came while the decision was taken goes with its instance: it is covered."""
    latest = select(func.max(instance_version.c.received_ms)).where(_versions(going))
    latest_ms = (await session.scalar(latest)) or 0
    if latest_ms > made.decided_ms:
        await session.execute(
            update(decision).where(decision.c.id == decision_id).values(decided_ms=latest_ms)
        )


async def _remove_instances(
    session: AsyncSession, made: Decision, going: ColumnElement[bool]
) -> None:
    await session.execute(
        delete(mismatch).where(
            mismatch.c.owner_id == made.owner_id,
            mismatch.c.kind != SERIES_IN_TWO_STUDIES,
            mismatch.c.sop_instance_uid.in_(select(instance.c.sop_instance_uid).where(going)),
        )
    )
    await session.execute(delete(instance_version).where(_versions(going)))
    await session.execute(delete(instance).where(going))


async def _recount_series(session: AsyncSession, series_ids: list[int], now_ms: int) -> None:
    """Count what is left in these series; those that are empty go. Metadata are written anew."""
    await session.execute(
        update(pack)
        .where(
            pack.c.id.in_(
                select(series.c.metadata_pack_id).where(
                    series.c.id.in_(series_ids), series.c.metadata_pack_id.is_not(None)
                )
            )
        )
        .values(state="dying", dying_ms=now_ms)
    )
    mine = instance.c.series_fk == series.c.id
    await session.execute(delete(series).where(series.c.id.in_(series_ids), ~exists().where(mine)))
    counted = {
        "instances": select(func.count()).where(mine).scalar_subquery(),
        "bytes": select(func.sum(instance.c.byte_length)).where(mine).scalar_subquery(),
        "unsettled": waiting(series.c.id),
        "last_received_ms": select(func.max(instance.c.received_ms)).where(mine).scalar_subquery(),
        "metadata_pack_id": None,
        "pack_version": series.c.pack_version + 1,
    }
    await session.execute(update(series).where(series.c.id.in_(series_ids)).values(counted))


async def _recount_study(session: AsyncSession, study_id: int) -> bool:
    """Renew the times of the study; it goes when it is empty, and with its last one the patient.

    Returns whether it went.
    """
    names = await names_of(session, study_id)
    patient_id = await session.scalar(select(study.c.patient_fk).where(study.c.id == study_id))
    if await session.scalar(select(exists().where(series.c.study_fk == study_id))):
        mine = (
            select(instance.c.received_ms)
            .join(series, series.c.id == instance.c.series_fk)
            .where(series.c.study_fk == study_id)
            .subquery()
        )
        await session.execute(
            update(study)
            .where(study.c.id == study_id)
            .values(
                first_received_ms=select(func.min(mine.c.received_ms)).scalar_subquery(),
                last_received_ms=select(func.max(mine.c.received_ms)).scalar_subquery(),
                overlay_version=study.c.overlay_version + 1,
            )
        )
        return False
    await session.execute(delete(mismatch).where(mismatch.c.study_fk == study_id))
    await session.execute(delete(study).where(study.c.id == study_id))
    await drop_patient(session, int(patient_id or 0))
    await drop_names(session, names)
    return True


async def drop_patient(session: AsyncSession, patient_id: int) -> None:
    """Remove a patient without studies."""
    await session.execute(
        delete(patient).where(
            patient.c.id == patient_id, ~exists().where(study.c.patient_fk == patient.c.id)
        )
    )


async def _retire(session: AsyncSession, pack_ids: list[int], now_ms: int) -> None:
    """Packs that nobody points at any more are on their way out; segments go by the sweep."""
    await session.execute(
        update(pack)
        .where(
            pack.c.id.in_(pack_ids),
            pack.c.kind == "pack",
            ~exists().where(instance.c.pack_id == pack.c.id),
            ~exists().where(instance_version.c.pack_id == pack.c.id),
        )
        .values(state="dying", dying_ms=now_ms)
    )
