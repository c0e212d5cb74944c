"""Whatever happened to an archive, in any order: its index made again is equal."""

from __future__ import annotations

import random
from typing import Any

import pytest
from sqlalchemy import select

from archive.index.tables import instance, series, study
from archive.settle.clock import now_ms
from archive.settle.quarantine import settle_quarantine
from archive.versions.service import compare_pending
from dataset.refs import InstanceRef, SeriesRef, StudyRef
from tests.archive.conftest import Archive
from tests.archive.material import ORIGIN, Made, make, uid
from tests.archive.test_rebuild import SYSTEM, assert_equal, drop, forget, past, rebuild, swept

__all__ = ["past"]

pytestmark = pytest.mark.backend
STEPS = 30


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
    await drop(archive, chance.choice(refs))


async def settle_some(archive: Archive, chance: random.Random) -> None:
    """Settle a series or two, others stay in the journal."""
    async with archive.database.session(SYSTEM) as session:
        ids = list((await session.scalars(select(series.c.id).order_by(series.c.id))).all())
    for series_id in chance.sample(ids, min(len(ids), 2)):
        await archive.settler.settle_series(series_id)


async def compare(archive: Archive, _chance: random.Random) -> None:
    """Compare what came again."""
    await compare_pending(archive.database, archive.stores)


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
    for _ in range(STEPS):
        await chance.choice(deeds)(past, chance)
    await past.receiver.close()
    await past.settler.complete_studies()
    before = await swept(past)
    assert (await rebuild(await forget(past))).good
    after = await swept(past)
    assert_equal(after, before)
