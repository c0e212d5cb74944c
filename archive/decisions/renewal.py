"""After a decision: first values and contradictions are those of what is left, corrected.

The stored files are read outside any transaction; what they say is written only if the study did
not change meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from archive.decisions import files
from archive.decisions.domain import CHOOSE, CORRECT, Decision
from archive.decisions.files import StoredFile
from archive.decisions.names import drop_names, names_of
from archive.decisions.overlay import Overlay, Place
from archive.decisions.removal import drop_patient, series_of
from archive.decisions.rows import attempt, overlay_of, owner_scope
from archive.decisions.showing import named
from archive.index.arrival import Arrival
from archive.index.corrected import corrected
from archive.index.levels import Levels, instance_values, series_values
from archive.index.mismatch import SERIES_IN_TWO_STUDIES
from archive.index.steps import Call, Memory, Steps
from archive.index.tables import instance, mismatch, patient, series, study
from archive.journal.clock import now_ms
from archive.store.service import Stores
from kernel.db.database import Database

_TRIES = 5
_log = structlog.get_logger(__name__)


# What is read: ("study", 0), ("series", its row id), ("instance", its row id), ("flags", 0).
Wanted = tuple[str, int]
FLAGS: Wanted = ("flags", 0)


@dataclass(slots=True)
class _Study:
    """What is known of a study before its files are read, and what they said."""

    id: int
    uid: str
    stamp: tuple[Any, ...]
    overlay: Overlay
    instances: dict[int, Place] = field(default_factory=dict)
    series: dict[int, str] = field(default_factory=dict)
    files: dict[Wanted, list[StoredFile]] = field(default_factory=dict)
    read: dict[Wanted, list[tuple[StoredFile, Arrival]]] = field(default_factory=dict)


async def renew(database: Database, stores: Stores, made: Decision) -> None:
    """Renew what a decision touched. Raises `Unavailable` where a store fails."""
    flagged = set(made.detail.get("flagged", ()))
    patients = set(made.detail.get("patients", ()))
    for uid in sorted(flagged | {made.study_instance_uid}):
        values = uid == made.study_instance_uid
        for _ in range(_TRIES):
            found = await _renew_study(
                database, stores, made, uid, values=values, flags=uid in flagged
            )
            if found is not None:
                patients |= found
                break
        else:
            _log.warning("study_not_renewed", study_instance_uid=uid)
    for patient_id in sorted(patients):
        await renew_patient(database, stores, made.owner_id, patient_id)


async def _renew_study(
    database: Database, stores: Stores, made: Decision, uid: str, *, values: bool, flags: bool
) -> set[int] | None:
    """Renew one study; the patients it was and is of, None where it changed meanwhile."""
    scope = owner_scope(made.owner_id, "renew")
    async with database.session(scope) as session:
        found = await _look(session, made, uid, values=values, flags=flags)
    if found is None:
        return set()
    for name, listed in found.files.items():
        found.read[name] = await asyncio.to_thread(files.read, stores, made.owner_id, listed)

    async def write(session: AsyncSession) -> set[int] | None:
        if await _stamp(session, found.id, lock=True) != found.stamp:
            return None
        patients = await _write_values(session, found) if values else set()
        if flags:
            await _write_flags(session, found)
        return patients

    return await attempt(database, scope, write)


async def _look(
    session: AsyncSession, made: Decision, uid: str, *, values: bool, flags: bool
) -> _Study | None:
    """The study with the files to be read: its first, those of its series, all where flagged."""
    where = (study.c.owner_id == made.owner_id, study.c.study_instance_uid == uid)
    study_id = await session.scalar(select(study.c.id).where(*where))
    if study_id is None:
        return None
    stamp = await _stamp(session, study_id, lock=False)
    overlay = await overlay_of(session, made.owner_id, uid)
    found = _Study(study_id, uid, stamp, overlay)
    if values:
        found.files["study", 0] = await files.first(session, series.c.study_fk == study_id)
        found.series = await _series(session, study_id, made)
        for series_id in found.series:
            found.files["series", series_id] = await files.first(session, series.c.id == series_id)
        found.instances = await _instances(session, found, made)
        for instance_id in found.instances:
            found.files["instance", instance_id] = await files.shown(session, instance_id)
    if flags:
        found.files[FLAGS] = await files.of_study(session, made.owner_id, study_id, uid)
    return found


async def _series(session: AsyncSession, study_id: int, made: Decision) -> dict[int, str]:
    """The series whose first values a decision may change, with their UIDs."""
    if made.kind in (CORRECT, CHOOSE) and (made.sop_instance_uid or not made.series_instance_uid):
        return {}
    ids = await series_of(session, study_id, made)
    chosen = select(series.c.id, series.c.series_instance_uid).where(series.c.id.in_(ids))
    return {row[0]: row[1] for row in await session.execute(chosen.order_by(series.c.id))}


async def _instances(session: AsyncSession, found: _Study, made: Decision) -> dict[int, Place]:
    """The instances whose values on the row come from elsewhere than the first file received."""
    places = {place for part in (found.overlay.corrections, found.overlay.chosen) for place in part}
    if made.kind in (CORRECT, CHOOSE):
        places = {(made.series_instance_uid, made.sop_instance_uid)}
    ids = {}
    for place in sorted(one for one in places if one[1]):
        row_id = await session.scalar(named(found.id, place))
        if row_id is not None:
            ids[row_id] = place
    return ids


async def _stamp(session: AsyncSession, study_id: int, *, lock: bool) -> tuple[Any, ...]:
    chosen = select(study.c.last_received_ms, study.c.overlay_version, study.c.patient_fk).where(
        study.c.id == study_id
    )
    row = (await session.execute(chosen.with_for_update() if lock else chosen)).first()
    return () if row is None else tuple(row)


async def _write_values(session: AsyncSession, found: _Study) -> set[int]:
    """Set the values of the study, its series and instances; the patients it was and is of."""
    names = await names_of(session, found.id)
    patients = {found.stamp[2]}
    for (what, row_id), read in found.read.items():
        if not read:
            continue
        arrivals = [arrival for _, arrival in read]
        if what == "study":
            changes = found.overlay.changes("", "")
            steps = Levels(arrivals, Memory(), now_ms()).study_values(arrivals[0], changes)
            values = await run(session, steps)
            patients.add(values["patient_fk"])
            if found.overlay.corrections:
                values["corrected"] = 1
            values["overlay_version"] = study.c.overlay_version + 1  # who remembers the old ones?
            await session.execute(update(study).where(study.c.id == found.id).values(values))
        elif what == "series":
            changes = found.overlay.corrections.get((found.series[row_id], ""), {})
            values = series_values(arrivals[0], changes)
            await session.execute(update(series).where(series.c.id == row_id).values(values))
        elif what == "instance":
            changes = found.overlay.corrections.get(found.instances[row_id], {})
            values = instance_values(corrected(arrivals[0], changes))
            await session.execute(update(instance).where(instance.c.id == row_id).values(values))
    await drop_names(session, names)
    return patients


async def _write_flags(session: AsyncSession, found: _Study) -> None:
    """Look for contradictions anew, in the order of receiving.

    A version says nothing of a series that had no instance when it came.
    """
    await session.execute(
        delete(mismatch).where(
            mismatch.c.study_fk == found.id, mismatch.c.kind != SERIES_IN_TWO_STUDIES
        )
    )
    levels = Levels([arrival for _, arrival in found.read[FLAGS]], Memory(), now_ms())
    begun = set()
    for file, arrival in found.read[FLAGS]:
        uid = arrival.series_instance_uid
        if not file.version:
            begun.add(uid)
        if uid in begun and arrival.study_instance_uid == found.uid:
            await run(session, levels.context(arrival))


async def renew_patient(database: Database, stores: Stores, owner_id: int, patient_id: int) -> None:
    """Set a patient's values to those of the first instance of the first study left."""
    scope = owner_scope(owner_id, "renew")
    async with database.session(scope) as session:
        chosen = (
            select(study.c.id, study.c.study_instance_uid)
            .where(study.c.patient_fk == patient_id)
            .order_by(study.c.first_received_ms, study.c.id)
            .limit(1)
        )
        row = (await session.execute(chosen)).first()
        listed = await files.first(session, series.c.study_fk == row[0]) if row else []
        overlay = await overlay_of(session, owner_id, row[1]) if row else Overlay()
    read = await asyncio.to_thread(files.read, stores, owner_id, listed)
    arrivals = [arrival for _, arrival in read]

    async def write(session: AsyncSession) -> None:
        name = select(patient.c.name_id).where(patient.c.id == patient_id)
        before = await session.scalar(name.with_for_update())
        if before is None:
            return
        if arrivals:
            levels = Levels(arrivals, Memory(), now_ms())
            first = await run(session, levels.shown(arrivals[0], overlay.changes("", "")))
            values = await run(session, levels.patient_values(first))
            await session.execute(update(patient).where(patient.c.id == patient_id).values(values))
        await drop_patient(session, patient_id)
        await drop_names(session, {before})

    await attempt(database, scope, write)


async def run(session: AsyncSession, steps: Steps) -> Any:
    """Run a plan of statements in a session; gives what the plan returns."""
    answer: Collection[Any] = ()
    try:
        step = next(steps)
        while True:
            if not isinstance(step, Call):
                raise TypeError(step)
            result = await session.execute(step.statement.core, step.params)
            answer = result.all() if result.returns_rows else ()  # type: ignore[attr-defined]
            step = steps.send(list(answer))
    except StopIteration as done:
        return done.value
