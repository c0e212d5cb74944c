"""What was acknowledged survives: power failures at random moments, in any order of the disk.

A kill keeps the page cache and proves little; here every write that was not synced is dropped or
torn, sector by sector, at crash points between any two steps of a run.
"""

from __future__ import annotations

import asyncio
import errno
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from archive.journal.segment import Buffer, OsSegmentFile, Segment
from archive.query.domain import Query
from archive.query.service import Catalog
from archive.receive.recovery import recover
from archive.receive.service import Receiver
from archive.retrieve.service import Reader
from archive.store.service import open_stores
from dataset.part10 import parse_head
from dataset.refs import InstanceRef
from kernel.db.database import Database
from kernel.errors import Unavailable
from kernel.settings import ArchiveSettings, Settings
from server.migrations.run import upgrade
from tests.archive.conftest import LOCAL
from tests.archive.faults import Disk, copy_index
from tests.archive.material import ORIGIN, Made, make

SENDERS = 4
EACH = 10


@dataclass(slots=True)
class Crash:
    """One moment at which the power went: the data folder then, and what was acknowledged."""

    data: Path
    acknowledged: list[Made]


class Run:
    """Senders storing at the same time, with power failures noted at random steps."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self.disk = Disk(self._step)
        self.crashes: list[Crash] = []
        self._settings = settings
        self._rng = random.Random(seed)
        self._acknowledged: list[Made] = []

    async def go(self, database: Database) -> None:
        receiver = await Receiver.open(self._settings, database, self.disk.open)
        try:
            await asyncio.gather(*[self._send(receiver, n) for n in range(1, SENDERS + 1)])
        finally:
            await receiver.close()
        self._crash()

    async def _send(self, receiver: Receiver, sender: int) -> None:
        for number in range(1, EACH + 1):
            made = make(sender, 1, number, side=96)
            if number % 4:
                await receiver.append(ORIGIN, made.identity, [made.data])
            else:
                stream = receiver.open_stream(ORIGIN, made.identity)
                for at in range(0, len(made.data), 5000):
                    stream.write(made.data[at : at + 5000])
                    await asyncio.sleep(0)
                await stream.finish()
            self._acknowledged.append(made)

    def _step(self, step: str) -> None:
        if self._rng.random() < (0.02 if step == "write" else 0.25):
            self._crash()

    def _crash(self) -> None:
        data = self._settings.data.parent / f"crash{len(self.crashes)}"
        acknowledged = list(self._acknowledged)
        copy_index(self._settings.data, data)
        self.disk.power_failure(data / "journal", self._rng)
        self.crashes.append(Crash(data, acknowledged))


async def lost(crash: Crash) -> list[str]:
    """Start again after a crash: the acknowledged instances that are not there byte for byte, and
    those that the index names though their bytes are not whole.
    """
    settings = Settings(data=crash.data)
    database = await Database.open(settings)
    try:
        await recover(settings, database)
        reader = Reader(database, open_stores(settings))
        missing = []
        for made in crash.acknowledged:
            ref = InstanceRef.parse(made.study, made.series, made.identity.sop_instance_uid)
            if not await _whole(reader, ref, made):
                missing.append(made.identity.sop_instance_uid)
        return missing + await _half_served(Catalog(database), reader)
    finally:
        await database.close()


async def _whole(reader: Reader, ref: InstanceRef, made: Made) -> bool:
    try:
        (instance,) = await reader.find(LOCAL, ref)
        part10 = await reader.read(instance)
        head = parse_head(part10)
    except Exception:  # noqa: BLE001 - whatever it is, the instance is lost
        return False
    return head is not None and part10[head.dataset_offset :] == made.data


async def _half_served(catalog: Catalog, reader: Reader) -> list[str]:
    broken = []
    page = await catalog.search(LOCAL, Query("IMAGE", limit=1000))
    for match in page.matches:
        values = match.dataset
        uids = [values[tag]["Value"][0] for tag in ("0020000D", "0020000E", "00080018")]
        number = values["00200013"]["Value"][0]
        study = int(uids[0].rsplit(".", 1)[1])
        made = make(study, 1, number, side=96)
        if not await _whole(reader, InstanceRef.parse(*uids), made):
            broken.append(uids[2])
    return broken


async def leave_spares(settings: Settings) -> None:
    """Segments of an earlier life, full of records of the same instances, wait to be used again."""
    before = replace(settings, data=settings.data.parent / "before")
    await upgrade(before)
    database = await Database.open(before)
    disk = Disk()
    receiver = await Receiver.open(before, database, disk.open)
    for study in range(1, SENDERS + 1):
        for number in range(1, EACH + 1):
            made = make(study, 1, number, side=96)
            await receiver.append(ORIGIN, made.identity, [made.data])
    await receiver.close()
    await database.close()
    (segment,) = (before.data / "journal").glob("*.seg")
    journal = settings.data / "journal"
    journal.mkdir(parents=True, exist_ok=True)
    for number in range(EACH * SENDERS // 4 + 1):  # one for each stream, one for the rest
        shutil.copyfile(segment, journal / f"{number:04d}.spare")


@pytest.mark.parametrize("spares", [False, True], ids=["fresh", "recycled"])
@pytest.mark.parametrize("seed", range(4))
async def test_nothing_acknowledged_is_lost_when_the_power_fails(
    settings: Settings, database: Database, seed: int, *, spares: bool
) -> None:
    if spares:
        await leave_spares(settings)
    run = Run(settings, seed)
    await run.go(database)
    assert len(run.crashes) > 3
    for crash in run.crashes:
        assert await lost(crash) == []


class NeverSynced(Segment):
    """What a journal without its fdatasync would be."""

    def sync(self) -> None:
        self.dirty = False
        self.named = True


class NeverNamed(Segment):
    """What a journal that does not sync its directory would be."""

    def sync(self) -> None:
        self.dirty = False
        self.file.datasync()
        self.named = True


@pytest.mark.parametrize("mutilated", [NeverSynced, NeverNamed])
async def test_the_proof_notices_a_missing_sync(
    settings: Settings,
    database: Database,
    mutilated: type[Segment],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("archive.receive.service.Segment", mutilated)
    run = Run(settings, seed=1)
    await run.go(database)
    assert any([await lost(crash) for crash in run.crashes])


class FailingFile(OsSegmentFile):
    """A disk that fails once, at the sync or at the write with this number."""

    def __init__(self, path: Path, fail: list[str]) -> None:
        super().__init__(path)
        self._fail = fail

    def write(self, parts: Sequence[Buffer], offset: int) -> None:
        if self._fail and self._fail[0] == "write":
            self._fail.pop(0)
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(parts, offset)

    def datasync(self) -> None:
        if self._fail and self._fail[0] == "sync":
            self._fail.pop(0)
            raise OSError(errno.EIO, "Input/output error")
        super().datasync()


async def test_a_failed_sync_fails_the_batch_and_seals_the_segment(
    settings: Settings, database: Database
) -> None:
    fail = ["sync"]
    receiver = await Receiver.open(settings, database, lambda path: FailingFile(path, fail))
    first = make(number=1)
    with pytest.raises(Unavailable) as failure:
        await receiver.append(ORIGIN, first.identity, [first.data])
    assert failure.value.code == "storage.failed"
    again = await receiver.append(ORIGIN, first.identity, [first.data])
    assert again.reason is None
    await receiver.close()
    assert len(list((settings.data / "journal").glob("*.seg"))) == 2


async def test_a_full_disk_is_said_and_the_next_instance_is_stored(
    settings: Settings, database: Database
) -> None:
    fail = ["write"]
    receiver = await Receiver.open(settings, database, lambda path: FailingFile(path, fail))
    made = make()
    with pytest.raises(Unavailable) as failure:
        await receiver.append(ORIGIN, made.identity, [made.data])
    assert failure.value.code == "storage.full"
    receipt = await receiver.append(ORIGIN, made.identity, [made.data])
    assert receipt.reason is None
    await receiver.close()


async def test_segments_are_closed_at_their_size_and_recovery_leaves_living_ones_alone(
    settings: Settings, database: Database
) -> None:
    small = Settings(data=settings.data, archive=ArchiveSettings(segment_bytes=10_000))
    receiver = await Receiver.open(small, database)
    for number in range(1, 7):
        made = make(number=number, side=48)
        await receiver.append(ORIGIN, made.identity, [made.data])
    segments = list((settings.data / "journal").glob("*.seg"))
    assert len(segments) == 6
    assert (await recover(small, database)).segments == 0
    await receiver.close()
    assert (await recover(small, database)).segments == 0  # sealed by their writer


async def test_an_aborted_stream_leaves_no_record(settings: Settings, database: Database) -> None:
    receiver = await Receiver.open(settings, database)
    made = make(side=256)
    stream = receiver.open_stream(ORIGIN, made.identity)
    stream.write(made.data[:50_000])
    stream.abort()
    await receiver.close()
    done = await recover(settings, database)
    assert done.records == 0
    assert list((settings.data / "journal").glob("*.seg")) == []
