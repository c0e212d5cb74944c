"""Spare segments: taken whole, never read as what they were, never taken from under a reader."""

from __future__ import annotations

import asyncio
import fcntl
import mmap
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from archive.journal.segment import Segment
from archive.journal.spares import keep_spares, prepare, recycle, spares_in
from archive.receive.recovery import recover
from archive.receive.service import Receiver
from archive.settle.sweep import sweep
from dataset.refs import StudyRef
from kernel.db.database import Database
from kernel.settings import ArchiveSettings, Settings
from tests.archive.conftest import LOCAL, Archive
from tests.archive.material import ORIGIN, make
from tests.waiting import eventually

SIZE = 1 << 20
HASTY = ArchiveSettings(segment_bytes=SIZE, spare_bytes=2 * SIZE, segment_grace_s=0.0)


def spare(folder: Path, content: bytes = b"\0" * SIZE) -> Path:
    """A spare with `content`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "0123456789abcdef.spare"
    path.write_bytes(content)
    return path


def test_a_new_segment_is_a_spare_by_another_name(tmp_path: Path) -> None:
    path = spare(tmp_path)
    was = path.stat().st_ino
    segment = Segment(tmp_path, "node")
    segment.append([b"record"])
    segment.sync()
    segment.file.close()
    now = tmp_path / segment.key
    assert not path.exists()
    assert (now.stat().st_ino, now.stat().st_size) == (was, SIZE)
    assert now.read_bytes()[:7] == b"record\0"


def test_a_spare_that_somebody_still_reads_is_left_alone(tmp_path: Path) -> None:
    path = spare(tmp_path)
    with path.open("rb") as reader, mmap.mmap(reader.fileno(), 0, access=mmap.ACCESS_READ):
        first = Segment(tmp_path, "node")
        first.file.close()
        assert path.exists()
    second = Segment(tmp_path, "node")
    second.file.close()
    assert not path.exists()


def test_somebody_who_opens_a_spare_while_it_is_taken_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = spare(tmp_path)
    readers: list[subprocess.Popen[bytes]] = []
    real = fcntl.fcntl

    def control(fd: int, command: int, argument: int = 0) -> int:
        answer = real(fd, command, argument)
        if command == fcntl.F_SETLEASE and argument == fcntl.F_WRLCK:
            reading = [sys.executable, "-c", f"print('opening', flush=True); open({str(path)!r})"]
            readers.append(subprocess.Popen(reading, stdout=subprocess.PIPE))
            assert readers[0].stdout is not None
            readers[0].stdout.readline()
            with pytest.raises(BlockingIOError):  # the kernel has told us; we are alive
                os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        return int(answer)

    monkeypatch.setattr(fcntl, "fcntl", control)
    segment = Segment(tmp_path, "node")
    segment.file.close()
    (reader,) = readers
    reader.communicate(timeout=20)
    assert (tmp_path / segment.key).stat().st_size == SIZE


def test_two_writers_never_share_a_spare(tmp_path: Path) -> None:
    spare(tmp_path)
    one, other = Segment(tmp_path, "node"), Segment(tmp_path, "node")
    sizes = sorted((tmp_path / segment.key).stat().st_size for segment in (one, other))
    assert sizes == [0, SIZE]
    one.file.close()
    other.file.close()


def test_only_whole_segments_are_kept_and_no_more_than_wanted(tmp_path: Path) -> None:
    short, whole = tmp_path / "short.seg", tmp_path / "whole.seg"
    short.write_bytes(b"x")
    whole.write_bytes(b"x" * SIZE)
    assert not recycle(short, SIZE, 1)
    assert recycle(whole, SIZE, 1)
    whole.write_bytes(b"x" * SIZE)
    assert not recycle(whole, SIZE, 1)
    assert not recycle(tmp_path / "gone.seg", SIZE, 9)
    assert len(spares_in(tmp_path)) == 1
    grown, stream = tmp_path / "grown.seg", tmp_path / "stream.seg"
    grown.write_bytes(b"x" * (SIZE * 9 // 10))
    stream.write_bytes(b"x" * (SIZE + 1))
    assert recycle(grown, SIZE, 9)
    assert not recycle(stream, SIZE, 9)


def test_writing_ahead_stops_when_somebody_sends(tmp_path: Path) -> None:
    pieces = iter([True, False])
    assert not prepare(tmp_path, 64 << 20, lambda: next(pieces))
    assert list(tmp_path.iterdir()) == []
    assert prepare(tmp_path, SIZE, lambda: True)
    (made,) = spares_in(tmp_path)
    assert made.read_bytes() == bytes(SIZE)


async def test_records_of_an_earlier_life_are_none(settings: Settings, database: Database) -> None:
    before = await Receiver.open(settings, database)
    for number in (1, 2, 3):
        made = make(1, number=number)
        await before.append(ORIGIN, made.identity, [made.data])
    await before.close()
    journal = settings.data / "journal"
    (old,) = journal.glob("*.seg")
    content = old.read_bytes()
    spare(journal, content)
    again = await Receiver.open(settings, database)
    made = make(2)
    await again.append(ORIGIN, made.identity, [made.data])
    again._segment = None
    for segment in again._open_segments:
        segment.file.close()  # as if the process had died
    await again._committer.close()
    found = await recover(settings, database)
    assert (found.segments, found.records, found.stray_bytes) == (1, 1, 0)


@pytest.mark.backend
async def test_a_segment_whose_time_has_passed_serves_again(archive: Archive) -> None:
    spare(archive.settings.data / "journal")
    first, second = make(1), make(2)
    await archive.store(first)
    await archive.receiver.close()
    await archive.settle()
    await sweep(archive.database, archive.stores, HASTY)
    journal = archive.settings.data / "journal"
    assert list(journal.glob("*.seg")) == []
    assert len(spares_in(journal)) == 1
    receiver = await Receiver.open(archive.settings, archive.database)
    await receiver.append(ORIGIN, second.identity, [second.data])
    assert spares_in(journal) == []
    for made in (first, second):
        (found,) = await archive.reader.find(LOCAL, StudyRef.parse(made.study))
        assert (await archive.reader.read(found)).endswith(made.data)
    await receiver.close()


async def test_the_worker_writes_as_many_spares_as_the_settings_want(settings: Settings) -> None:
    journal = settings.data / "journal"
    journal.mkdir(parents=True, exist_ok=True)
    (journal / "left.writing").write_bytes(b"x")
    task = asyncio.create_task(keep_spares(replace(settings, archive=HASTY)))

    async def enough() -> bool:
        return len(spares_in(journal)) == 2

    await eventually(enough)
    task.cancel()
    assert sorted(path.suffix for path in journal.iterdir()) == [".spare", ".spare"]
