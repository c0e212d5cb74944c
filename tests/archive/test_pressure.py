"""A journal that fills faster than it is settled: receiving pauses, settling does not wait."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from archive.journal.pressure import Pressure
from archive.receive.service import Receiver
from archive.settle.service import Settler
from archive.settle.sweep import keep_sweeping
from dataset.refs import StudyRef
from kernel.db.database import Database
from kernel.settings import ArchiveSettings, Settings
from tests.archive.conftest import LOCAL, Archive
from tests.archive.material import ORIGIN, make
from tests.waiting import eventually


@pytest.mark.parametrize(
    ("segments", "share"), [(0, 0.0), (9, 0.0), (10, 0.25), (12, 0.45), (15, 0.75), (99, 1.0)]
)
def test_the_pause_grows_with_the_journal_and_never_stops_receiving(
    settings: Settings, segments: int, share: float
) -> None:
    limits = ArchiveSettings(journal_bytes=10_000)
    journal = settings.data / "journal"
    journal.mkdir()
    for number in range(segments):
        (journal / f"{number}.seg").write_bytes(bytes(1000))
    (journal / "0.spare").write_bytes(bytes(50_000))
    pressure = Pressure(replace(settings, archive=limits))
    assert pressure.high == (segments >= 10)
    assert pressure.pause_s(2.0) == pytest.approx(2.0 * share)


async def test_under_pressure_a_series_settles_while_it_arrives_and_its_segment_goes(
    archive: Archive,
) -> None:
    full = replace(archive.settings, archive=ArchiveSettings(journal_bytes=1))
    made = make()
    await archive.store(made)
    await archive.receiver.close()
    settler = Settler(full, archive.database, archive.stores)
    tasks = [
        asyncio.create_task(settler.run()),
        asyncio.create_task(keep_sweeping(full, archive.database, archive.stores)),
    ]

    async def gone() -> bool:
        return not list((full.data / "journal").glob("*.seg"))

    await eventually(gone)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    (found,) = await archive.reader.find(LOCAL, StudyRef.parse(made.study))
    assert (await archive.reader.read(found)).endswith(made.data)


async def test_a_sender_is_answered_under_pressure(settings: Settings, database: Database) -> None:
    full = replace(settings, archive=ArchiveSettings(journal_bytes=1))
    receiver = await Receiver.open(full, database)
    for number in range(1, 6):
        made = make(number=number)
        assert (await receiver.append(ORIGIN, made.identity, [made.data])).reason is None
    await receiver.close()
