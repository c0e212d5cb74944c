"""Whatever happened to an archive, in any order: its index made again is equal."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import select

from archive.decisions.domain import CHOOSE, CORRECT, HOLD, REJECT, RELEASE, RESTORE, Ref
from archive.decisions.service import Desk
from archive.index.tables import (
    instance,
    instance_version,
    merged_patient,
    patient,
    series,
    study,
)
from archive.journal.clock import now_ms
from archive.settle.quarantine import settle_quarantine
from archive.versions.domain import POLICIES, SameUid
from archive.versions.service import Policies, compare_pending
from dataset.correction import attribute_of, tag_of
from dataset.refs import InstanceRef, SeriesRef, StudyRef
from kernel.errors import Conflict, Invalid
from tests.archive.conftest import Archive
from tests.archive.material import ORIGIN, Made, make, uid
from tests.archive.test_corrections import join, take
from tests.archive.test_rebuild import SYSTEM, assert_equal, drop, forget, past, rebuild, swept

__all__ = ["past"]

pytestmark = pytest.mark.backend
STEPS = 40

# By level: what is corrected, and to which values.
CORRECTIONS = (
    (
        ("PatientName", ["Li^Wei=李^伟", "X"]),
        ("PatientID", ["P00001", "P00003", "NEW"]),
        ("StudyDescription", ["corrected"]),
        ("PatientWeight", ["70"]),
    ),
    (("Modality", ["PT"]), ("SeriesDescription", ["corrected"])),
    (("InstanceNumber", ["77"]), ("ImageComments", ["corrected"])),
)


def some(chance: random.Random) -> Made:
    """An instance of one of few studies that agrees with the others, mostly."""
    number, of_series = chance.randint(1, 4), chance.randint(1, 3)
    more: dict[str, Any] = {}
    if chance.random() < 0.3:
        more["PatientName"] = chance.choice(["Li^Wei=李^伟", "Yang^XiuYing", "", "Wang^Fang"])
    if chance.random() < 0.2:
        more["PatientID"] = chance.choice(["P00001", "P00002", "", "X"])
    if chance.random() < 0.2:
        more["PatientSex"] = chance.choice(["M", "O", None])
    if chance.random() < 0.3:
        more["StudyDescription"] = chance.choice(["a", "b"])
    if chance.random() < 0.2:
        more["Modality"] = chance.choice(["MR", "SR"])
    if chance.random() < 0.15:
        more["SeriesInstanceUID"] = uid(77)
    if chance.random() < 0.05:
        more["SeriesInstanceUID"] = None
    more["SeriesDescription"] = chance.choice(["x", "y"])
    return make(chance.randint(1, 4), of_series, number, seed=chance.randint(0, 1), **more)


async def send(archive: Archive, chance: random.Random) -> None:
    """Some instances at once: they share commit batches, but no millisecond."""
    answers = []
    for _ in range(chance.randint(1, 8)):
        made, now = some(chance), now_ms()
        while now_ms() == now:
            pass
        answers.append(archive.receiver.append(ORIGIN, made.identity, [made.data]))
    for answer in answers:
        await answer


async def take_away(archive: Archive, chance: random.Random) -> None:
    """Delete a study, series or instance that is there."""
    chosen = (
        select(
            study.c.study_instance_uid, series.c.series_instance_uid, instance.c.sop_instance_uid
        )
        .join(series, series.c.study_fk == study.c.id)
        .join(instance, instance.c.series_fk == series.c.id)
        .order_by(instance.c.id)
    )
    async with archive.database.session(SYSTEM) as session:
        there = [tuple(row) for row in await session.execute(chosen)]
    if not there:
        return
    uids = chance.choice(there)
    refs: list[StudyRef | SeriesRef | InstanceRef] = [
        StudyRef.parse(uids[0]),
        SeriesRef.parse(*uids[:2]),
        InstanceRef.parse(*uids),
    ]
    with suppress(Conflict):  # a legal hold
        await drop(archive, chance.choice(refs))


async def ask(archive: Archive, *columns: Any) -> list[tuple[Any, ...]]:
    """Rows of instances with their series, study and patient, oldest first."""
    chosen = (
        select(*columns)
        .select_from(instance)
        .join(series, series.c.id == instance.c.series_fk)
        .join(study, study.c.id == series.c.study_fk)
        .join(patient, patient.c.id == study.c.patient_fk)
        .order_by(instance.c.id)
    )
    async with archive.database.session(SYSTEM) as session:
        return [tuple(row) for row in await session.execute(chosen)]


async def decide_something(archive: Archive, chance: random.Random) -> None:
    """Correct, reject, restore, hold, release, or choose a version; what cannot be is refused."""
    columns = (
        study.c.study_instance_uid,
        series.c.series_instance_uid,
        instance.c.sop_instance_uid,
    )
    there = await ask(archive, *columns)
    if not there:
        return
    uids = chance.choice(there)
    refs: list[Ref] = [
        StudyRef.parse(uids[0]),
        SeriesRef.parse(*uids[:2]),
        InstanceRef.parse(*uids),
    ]
    level = chance.randrange(3)
    name, texts = chance.choice(CORRECTIONS[level])
    text = chance.choice([*texts, None])
    tag = tag_of(name)
    attributes = {f"{tag:08X}": attribute_of(tag, text) if text is not None else None}
    versions = await kept(archive, uids[2])
    kind, ref, detail = chance.choice(
        [
            (CORRECT, refs[level], {"attributes": attributes}),
            (CORRECT, refs[level], {"attributes": attributes}),
            (REJECT, refs[level], {"code": "113001"}),
            (RESTORE, refs[level], {}),
            (chance.choice([HOLD, RELEASE, RELEASE]), refs[0], {}),
            (CHOOSE, refs[2], {"version": chance.choice([None, *versions])}),
        ]
    )
    with suppress(Conflict):
        await take(archive, kind, ref, **detail)


async def kept(archive: Archive, sop_uid: str) -> list[list[int]]:
    """The versions of an instance that were compared."""
    chosen = (
        select(instance_version.c.received_ms, instance_version.c.byte_length)
        .join(instance, instance.c.id == instance_version.c.instance_fk)
        .where(instance.c.sop_instance_uid == sop_uid, instance_version.c.compared_ms > 0)
        .order_by(instance_version.c.id)
    )
    async with archive.database.session(SYSTEM) as session:
        return [list(row) for row in await session.execute(chosen)]


async def join_patients(archive: Archive, chance: random.Random) -> None:
    """Merge a patient into another, or take a merge back."""
    names = sorted({row[0] for row in await ask(archive, patient.c.patient_id)} - {""})
    async with archive.database.session(SYSTEM) as session:
        table = merged_patient.c
        merges = await session.execute(select(table.patient_id, table.into_patient_id))
        pairs = sorted((row[0], row[1]) for row in merges)
    with suppress(Conflict, Invalid):
        if pairs and chance.random() < 0.5:
            await join(archive, *chance.choice(pairs), undo=True)
        elif len(names) > 1:
            await join(archive, *chance.sample(names, 2))


async def settle_some(archive: Archive, chance: random.Random) -> None:
    """Settle a series or two, others stay in the journal."""
    async with archive.database.session(SYSTEM) as session:
        ids = list((await session.scalars(select(series.c.id).order_by(series.c.id))).all())
    for series_id in chance.sample(ids, min(len(ids), 2)):
        await archive.settler.settle_series(series_id)


async def compare(archive: Archive, chance: random.Random) -> None:
    """Compare what came again, under some policy of its senders."""

    async def of(_owner_id: int, _source: str) -> SameUid:
        return chance.choice(POLICIES)

    desk = Desk(archive.database, archive.stores, archive.settler)
    await compare_pending(archive.database, archive.stores, Policies(desk, of))


async def put_aside(archive: Archive, _chance: random.Random) -> None:
    """Settle the quarantine."""
    await settle_quarantine(archive.database, archive.stores, set(), quiet_ms=-1)


async def settle(archive: Archive, _chance: random.Random) -> None:
    """Settle everything, and let segments go."""
    await archive.settle()
    await archive.settler.complete_studies()
    await swept(archive)


@pytest.mark.parametrize("seed", range(3))
async def test_a_history_of_chance_comes_back_as_it_was(past: Archive, seed: int) -> None:
    chance = random.Random(seed)
    deeds = [send] * 6 + [settle_some] * 3 + [take_away] * 3 + [compare] * 2 + [put_aside, settle]
    deeds += [decide_something] * 6 + [join_patients] * 2
    for _ in range(STEPS):
        await chance.choice(deeds)(past, chance)
    await past.receiver.close()
    await past.settler.complete_studies()
    before = await swept(past)
    assert (await rebuild(await forget(past))).good
    after = await swept(past)
    assert_equal(after, before)
