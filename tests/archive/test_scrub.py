"""A scrub reads everything again, names what is damaged and saves what is not."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from archive.index.tables import instance, pack, pack_copy
from archive.scrub.domain import ScrubReport
from archive.scrub.service import scrub
from archive.settle.quarantine import settle_quarantine
from archive.settle.service import manifest_of
from dataset.refs import InstanceRef, SeriesRef, StudyRef
from kernel.errors import AppError, Unavailable
from kernel.scope import Scope
from tests.archive.conftest import LOCAL, Archive
from tests.archive.material import make, uid
from tests.archive.test_store_and_find import stored_dataset

pytestmark = pytest.mark.backend
SYSTEM = Scope.system("test")


async def run(archive: Archive) -> ScrubReport:
    steps: list[tuple[int, int, str]] = []
    report = await scrub(archive.settings, archive.database, lambda *step: steps.append(step))
    assert [done for done, _, _ in steps] == list(range(1, len(steps) + 1))
    assert all(done <= total for done, total, _ in steps)
    return report


async def copies(archive: Archive, kind: str) -> list[tuple[str, str, str]]:
    chosen = (
        select(pack_copy.c.key, pack_copy.c.state, pack.c.state)
        .join(pack, pack.c.id == pack_copy.c.pack_id)
        .where(pack.c.kind == kind)
        .order_by(pack.c.id)
    )
    async with archive.database.session(SYSTEM) as session:
        return [(row[0], row[1], row[2]) for row in await session.execute(chosen)]


def object_file(archive: Archive, key: str) -> Path:
    return archive.settings.data / "objects" / key


def flip(path: Path, offset: int) -> None:
    """Change one byte of a file where it lies."""
    with path.open("r+b") as file:
        (old,) = os.pread(file.fileno(), 1, offset)
        os.pwrite(file.fileno(), bytes([old ^ 0x20]), offset)


async def test_what_is_whole_is_found_good_and_noted(archive: Archive) -> None:
    await archive.store(make(1, 1, 1), make(1, 2, 1), make(2, StudyInstanceUID=None))
    await archive.settle()
    await settle_quarantine(archive.database, archive.stores, set(), quiet_ms=-1)
    await archive.store(make(3))
    report = await run(archive)
    assert report.good
    assert (report.packs, report.metadata, report.segments, report.files) == (3, 2, 1, 4)
    assert report.unknown == []
    async with archive.database.session(SYSTEM) as session:
        verified = (await session.scalars(select(pack_copy.c.verified_ms))).all()
    assert sorted(one > 0 for one in verified) == [False] + [True] * 5


async def test_one_flipped_bit_costs_one_instance(archive: Archive) -> None:
    made = [make(number=number) for number in (1, 2, 3)]
    await archive.store(*made)
    await archive.settle()
    ((key, _, _),) = await copies(archive, "pack")
    entries = manifest_of(archive.stores, "files", key).entries
    flip(object_file(archive, key), entries[1].offset + entries[1].length - 5)
    report = await run(archive)
    assert [one.sop_instance_uid for one in report.damaged] == [uid(1, 1, 2)]
    assert report.damaged[0].study_instance_uid == uid(1)
    assert report.moved == 2
    assert not report.good
    for one in (made[0], made[2]):
        assert await stored_dataset(archive, one) == one.data
    with pytest.raises(AppError):
        await stored_dataset(archive, made[1])
    assert [(one[1], one[2]) for one in await copies(archive, "pack")] == [
        ("damaged", "live"),
        ("good", "live"),
    ]
    again = await run(archive)
    assert [one.sop_instance_uid for one in again.damaged] == [uid(1, 1, 2)]
    assert again.moved == 0
    metadata = await archive.reader.series_metadata(LOCAL, SeriesRef.parse(uid(1), uid(1, 1)))
    assert len(metadata.datasets()) == 3


async def test_a_copy_that_was_put_right_is_good_again(archive: Archive) -> None:
    made = make()
    await archive.store(made)
    await archive.settle()
    ((key, _, _),) = await copies(archive, "pack")
    flip(object_file(archive, key), 400)
    assert not (await run(archive)).good
    assert [one[1] for one in await copies(archive, "pack")] == ["damaged"]
    flip(object_file(archive, key), 400)
    assert (await run(archive)).good
    assert [one[1] for one in await copies(archive, "pack")] == ["good"]
    assert await stored_dataset(archive, made) == made.data


@pytest.mark.parametrize("how", ["cut", "gone"])
async def test_a_lost_pack_names_every_instance_in_it(archive: Archive, how: str) -> None:
    await archive.store(make(1, 1, 1), make(1, 1, 2), make(2))
    await archive.settle()
    lost, *_ = await copies(archive, "pack")
    path = object_file(archive, lost[0])
    if how == "cut":
        os.truncate(path, path.stat().st_size - 10)
    else:
        path.unlink()
    report = await run(archive)
    assert {one.sop_instance_uid for one in report.damaged} == {uid(1, 1, 1), uid(1, 1, 2)}
    assert [one[1] for one in await copies(archive, "pack")] == ["damaged", "good"]


async def test_a_store_that_is_not_mounted_is_no_damage(archive: Archive) -> None:
    await archive.store(make())
    await archive.settle()
    objects, aside = archive.settings.data / "objects", archive.settings.data / "aside"
    objects.rename(aside)
    with pytest.raises(Unavailable, match="none of the 2 objects"):
        await run(archive)
    shutil.rmtree(objects, ignore_errors=True)
    aside.rename(objects)
    assert (await run(archive)).good


@pytest.mark.parametrize("how", ["flip", "gone"])
async def test_damaged_metadata_are_written_anew(archive: Archive, how: str) -> None:
    await archive.store(make(1, 1, 1), make(1, 1, 2))
    await archive.settle()
    ref = SeriesRef.parse(uid(1), uid(1, 1))
    before = (await archive.reader.series_metadata(LOCAL, ref)).datasets()
    ((key, _, _),) = await copies(archive, "metadata")
    if how == "flip":
        flip(object_file(archive, key), 30)
    else:
        object_file(archive, key).unlink()
    report = await run(archive)
    assert report.renewed == 1
    assert not report.damaged
    after = await archive.reader.series_metadata(LOCAL, ref)
    assert after.gzip is not None
    assert after.datasets() == before
    assert (await run(archive)).good


async def test_a_damaged_journal_record_is_named_and_the_segment_kept(archive: Archive) -> None:
    made = [make(number=number) for number in (1, 2)]
    await archive.store(*made)
    (place, *_) = await archive.reader.find(LOCAL, StudyRef.parse(uid(1)))
    ((key, _, _),) = await copies(archive, "journal")
    flip(archive.settings.data / "journal" / key, place.byte_offset + 600)
    report = await run(archive)
    assert [one.sop_instance_uid for one in report.damaged] == [uid(1, 1, 1)]
    assert [one[1] for one in await copies(archive, "journal")] == ["good"]
    assert await stored_dataset(archive, made[1]) == made[1].data


async def test_objects_without_a_row_are_told_and_left(archive: Archive) -> None:
    await archive.store(make())
    await archive.settle()
    writer = archive.stores.objects.create("packs/aa/stranger.dcmpack")
    writer.write(b"not ours")
    writer.commit()
    report = await run(archive)
    assert [tuple(one) for one in report.unknown] == [("packs/aa/stranger.dcmpack", 8)]
    assert report.good
    assert archive.stores.objects.size("packs/aa/stranger.dcmpack") == 8


async def test_a_scrub_that_broke_off_goes_on_with_the_oldest(archive: Archive) -> None:
    await archive.store(*[make(study) for study in (1, 2, 3)])
    await archive.settle()
    seen: list[str] = []

    def stop_after_two(done: int, _total: int, note: str) -> None:
        seen.append(note)
        if done == 2:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await scrub(archive.settings, archive.database, stop_after_two)
    await scrub(archive.settings, archive.database, lambda _done, _total, note: seen.append(note))
    assert len(set(seen[:6])) == 6


async def test_merging_never_takes_over_damaged_bytes(archive: Archive) -> None:
    made = [make(number=number, side=64) for number in range(1, 9)]
    for one in made:
        await archive.store(one)
        await archive.settle()
    first, *_ = await copies(archive, "pack")
    flip(object_file(archive, first[0]), 2000)
    await archive.store(make(number=9, side=64))
    await archive.settle()
    report = await run(archive)
    assert [one.sop_instance_uid for one in report.damaged] == [uid(1, 1, 1)]
    for one in made[1:]:
        assert await stored_dataset(archive, one) == one.data


async def test_a_row_that_points_beside_every_file_is_damage(archive: Archive) -> None:
    await archive.store(make(number=1), make(number=2))
    await archive.settle()
    async with archive.database.session(SYSTEM, write=True) as session:
        where: Any = instance.c.sop_instance_uid == uid(1, 1, 2)
        await session.execute(
            update(instance).where(where).values(byte_offset=instance.c.byte_offset + 2)
        )
    report = await run(archive)
    assert [one.sop_instance_uid for one in report.damaged] == [uid(1, 1, 2)]
    found = await archive.reader.find(LOCAL, InstanceRef.parse(uid(1), uid(1, 1), uid(1, 1, 1)))
    assert len(await archive.reader.read(found[0])) == found[0].byte_length
