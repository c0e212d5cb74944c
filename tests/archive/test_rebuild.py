"""The index can be made again from what is stored, equal in every table, deletions included."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy import select

from archive.decisions.deciding import delete
from archive.decisions.domain import CLASSIFY, HOLD, REJECT
from archive.index.tables import instance, pack, pack_copy
from archive.journal.domain import Identity, Origin
from archive.query.service import Catalog
from archive.rebuild.domain import RebuildReport
from archive.rebuild.service import rebuild_index
from archive.receive.service import Receiver
from archive.retrieve.service import Reader
from archive.settle.quarantine import settle_quarantine
from archive.settle.service import Settler, manifest_of
from archive.settle.sweep import sweep
from archive.store.service import open_stores
from archive.versions.service import compare_pending
from dataset.part10 import parse_head
from dataset.refs import InstanceRef, SeriesRef, StudyRef
from kernel.db.database import Database, sqlite_file
from kernel.errors import Invalid, NotFound, Unavailable
from kernel.events.service import feed, number_events
from kernel.scope import Scope
from kernel.settings import ArchiveSettings, ObjectSettings, Settings
from server.migrations.run import upgrade
from tests.archive.conftest import LOCAL, Archive
from tests.archive.dump import dump
from tests.archive.material import Made, make, uid
from tests.archive.test_corrections import correct, join, take
from tests.archive.test_scrub import flip, object_file
from tests.archive.test_settling import new_bucket
from tests.archive.test_store_and_find import stored_dataset
from tests.servers import S3Server

SYSTEM = Scope.system("test")
AT_ONCE = ArchiveSettings(study_quiet_s=-1.0, segment_grace_s=-1.0)
WEB = Origin(1, "stow", "viewer", "10.0.0.7")
CORPUS = (
    "charset",
    "ct",
    "enhanced",
    "malformed",
    "mr_",
    "rt",
    "seg",
    "sr",
    "pr",
    "us",
    "ts_matrix_ct",
)


async def opened(settings: Settings, database: Database) -> Archive:
    stores = open_stores(settings)
    return Archive(
        settings,
        database,
        await Receiver.open(settings, database),
        Reader(database, stores),
        Catalog(database),
        Settler(settings, database, stores),
        stores,
    )


@pytest.fixture
async def past(settings: Settings) -> AsyncIterator[Archive]:
    """An archive that counts studies as complete and segments as over at once."""
    settings = replace(settings, archive=AT_ONCE)
    database = await Database.open(settings)
    archive = await opened(settings, database)
    yield archive
    await archive.receiver.close()
    await archive.database.close()


async def drop(archive: Archive, ref: StudyRef | SeriesRef | InstanceRef) -> None:
    await delete(
        archive.database, archive.stores, archive.settler, LOCAL, ref, actor="dr.li", reason="wrong"
    )


async def settle_all(archive: Archive) -> None:
    """Compare, settle and complete everything there is."""
    while await compare_pending(archive.database, archive.stores):
        pass
    await archive.settle()
    await settle_quarantine(archive.database, archive.stores, set(), quiet_ms=-1)
    await archive.settler.complete_studies()


async def stored(archive: Archive, *made: Made) -> None:
    """Receive, compare and settle."""
    await archive.store(*made)
    await settle_all(archive)


async def history(archive: Archive) -> None:
    """Everything that happens to an archive over the years."""
    await stored(archive, *[make(1, series, number) for series in (1, 2) for number in (1, 2, 3)])
    await stored(archive, make(1, 2, 4), make(1, 3, 1, PatientName="Other^Name", Modality="MR"))
    await stored(
        archive, make(1, 1, 1), make(1, 1, 2, SeriesDescription="x"), make(1, 1, 3, seed=1)
    )
    await stored(archive, make(1, 2, 1, PatientSex="M"))
    await stored(archive, make(2, StudyInstanceUID=None), make(3, SeriesInstanceUID=None))
    for number in range(1, 11):
        await stored(archive, make(4, 1, number, side=48))
    await stored(
        archive, make(5, PatientID=""), make(6, PatientID=None), make(7, PatientID="P00004")
    )
    shared: dict[str, Any] = {"SeriesInstanceUID": uid(99)}
    await stored(archive, make(8, **shared), make(9, **shared), make(10, **shared))
    stream = archive.receiver.open_stream(
        WEB, Identity("", "", make().identity.transfer_syntax_uid)
    )
    stream.write(make(11, side=300).data)
    await stream.finish()
    await settle_all(archive)


async def deletions(archive: Archive) -> None:
    """What people took away, and what came again."""
    wrong: dict[str, Any] = {"StudyDescription": "wrong", "PatientName": "Li^Wei"}
    await stored(
        archive, make(20, 1, 1, **wrong), make(20, 1, 2), make(20, 2, 1), make(20, 2, 2, seed=2)
    )
    await drop(archive, InstanceRef.parse(uid(20), uid(20, 1), uid(20, 1, 1)))
    await drop(archive, SeriesRef.parse(uid(20), uid(20, 2)))
    await drop(archive, SeriesRef.parse(uid(1), uid(1, 3)))
    await stored(archive, make(21, 1, 1), make(21, 1, 2), make(22))
    await drop(archive, StudyRef.parse(uid(21)))
    await drop(archive, StudyRef.parse(uid(22)))
    await stored(archive, make(21, 1, 1, seed=5), make(21, 1, 3))
    await drop(archive, StudyRef.parse(uid(8)))
    await drop(archive, StudyRef.parse(uid(4)))
    await archive.store(make(23))
    await drop(archive, StudyRef.parse(uid(23)))
    await settle_all(archive)


async def shown_otherwise(archive: Archive) -> None:
    """What people decided about how studies are shown."""
    await stored(
        archive, make(50, 1, 1), make(50, 1, 2), make(50, 1, 2, seed=9), make(51), make(52)
    )
    first = InstanceRef.parse(uid(50), uid(50, 1), uid(50, 1, 1))
    await correct(archive, StudyRef.parse(uid(50)), PatientName="Li^Wei=李^伟")
    await correct(archive, first.series, Modality="MR")
    await correct(archive, first, InstanceNumber="9")
    await take(archive, REJECT, first, code="113001")
    await take(archive, HOLD, StudyRef.parse(uid(50)))
    await take(archive, CLASSIFY, StudyRef.parse(uid(51)), kinds=["hiv", "vip"])
    await join(archive, "P00051", "P00052")
    await archive.store(make(53, PatientID="P00051"))


async def unsettled(archive: Archive) -> None:
    """What the journal alone holds at the end: a new study, and more of a settled one."""
    await archive.store(make(30, 1, 1), make(30, 1, 2), make(20, 3, 1), make(40, SOPClassUID=None))
    await archive.receiver.close()


async def forget(archive: Archive) -> Archive:
    """Delete the database, make an empty one, open the archive on it."""
    settings = archive.settings
    await archive.receiver.close()
    await archive.database.close()
    if settings.database.url:
        connection = await asyncpg.connect(settings.database.url)
        await connection.execute("DROP SCHEMA public CASCADE")
        await connection.execute("CREATE SCHEMA public")
        await connection.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")  # as in a new database
        await connection.close()
    else:
        for file in settings.data.glob("index.sqlite*"):
            file.unlink()
    await upgrade(settings)
    archive.database = await Database.open(settings)
    fresh = await opened(settings, archive.database)
    for name in ("receiver", "reader", "catalog", "settler", "stores"):
        setattr(archive, name, getattr(fresh, name))
    return archive


async def rebuild(archive: Archive) -> RebuildReport:
    steps: list[tuple[int, int, str]] = []
    report = await rebuild_index(
        archive.settings, archive.database, lambda *step: steps.append(step)
    )
    assert all(0 < done <= total for done, total, _ in steps)
    assert not list(archive.settings.data.glob("rebuild.sqlite*"))
    return report


async def swept(archive: Archive) -> dict[str, list[str]]:
    """The index once duplicates are told from versions, and segments without a reference gone.

    A duplicate leaves no row, so one that a segment still holds is met and compared again.
    """
    while await compare_pending(archive.database, archive.stores):
        pass
    while await sweep(archive.database, archive.stores, AT_ONCE):
        pass
    return await dump(archive.database)


@pytest.mark.backend
async def test_the_index_made_again_is_equal_in_every_table(past: Archive) -> None:
    await history(past)
    await deletions(past)
    await shown_otherwise(past)
    await unsettled(past)
    before = await swept(past)
    assert all(before.values()), "every table has rows"
    report = await rebuild(await forget(past))
    assert report.good
    assert report.deleted
    after = await swept(past)
    assert_equal(after, before)
    for made in (make(1, 2, 4), make(21, 1, 1, seed=5), make(30, 1, 2), make(20, 3, 1)):
        assert await stored_dataset(past, made) == made.data
    with pytest.raises(NotFound):
        await past.reader.find(LOCAL, StudyRef.parse(uid(22)))


@pytest.mark.backend
async def test_real_files_come_back_as_they_were_indexed(past: Archive, shared_data: Path) -> None:
    files = [
        path
        for path in sorted((shared_data / "dicom").rglob("*"))
        if path.is_file()
        and path.relative_to(shared_data / "dicom").parts[0].startswith(CORPUS)
        and path.stat().st_size < 2_000_000
    ]
    for path in files:
        raw = path.read_bytes()
        try:
            head = parse_head(raw, final=True)
        except Invalid:
            continue
        assert head is not None
        identity = Identity(
            head.sop_class_uid or "", head.sop_instance_uid or "", head.transfer_syntax_uid
        )
        origin = Origin(1, "import", "corpus", path.name)
        body = memoryview(raw)[head.dataset_offset :]
        await past.receiver.append(origin, identity, [body])
    await settle_all(past)
    await past.receiver.close()
    before = await swept(past)
    assert len(before["instance"]) > 60
    assert (await rebuild(await forget(past))).good
    after = await swept(past)
    assert_equal(after, before)


async def test_it_comes_back_from_s3_too(settings: Settings, s3_server: S3Server) -> None:
    objects = ObjectSettings(
        url=f"s3://{new_bucket(s3_server)}/archive",
        endpoint=s3_server.endpoint,
        access_key=s3_server.access_key,
        secret_key=s3_server.secret_key,
    )
    settings = replace(settings, archive=AT_ONCE, objects=objects)
    archive = await opened(settings, await Database.open(settings))
    await history(archive)
    await deletions(archive)
    await archive.receiver.close()
    before = await swept(archive)
    assert (await rebuild(await forget(archive))).good
    after = await swept(archive)
    await archive.receiver.close()
    await archive.database.close()
    assert_equal(after, before)


@pytest.mark.backend
async def test_on_a_whole_index_nothing_is_added(past: Archive) -> None:
    await history(past)
    before = await swept(past)
    report = await rebuild(past)
    assert report.good
    assert report.known
    assert not (report.packs or report.instances or report.versions or report.decisions)
    assert await swept(past) == before


async def test_a_rebuild_that_broke_off_is_completed_by_the_next(past: Archive) -> None:
    await history(past)
    await past.receiver.close()
    before = await swept(past)
    await forget(past)
    met: list[str] = []

    def stop(done: int, _total: int, note: str) -> None:
        met.append(note)
        if note == "indexed":
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await rebuild_index(past.settings, past.database, stop)
    assert await sweep(past.database, past.stores, AT_ONCE) == 0
    assert (await rebuild(past)).good
    after = await swept(past)
    assert_equal(after, before)


async def test_two_rebuilds_at_once_are_refused(past: Archive) -> None:
    await stored(past, make())
    await forget(past)
    refused: list[str] = []

    def again(_done: int, _total: int, _note: str) -> None:
        second = rebuild_index(past.settings, past.database, again)
        with pytest.raises(Unavailable, match="another rebuild"):
            second.send(None)
        refused.append("refused")

    await rebuild_index(past.settings, past.database, again)
    assert refused


async def test_an_older_database_is_brought_up_to_date(past: Archive, tmp_path: Path) -> None:
    await stored(past, make(1, 1, 1), make(1, 1, 2), make(2), make(3, 1, 1), make(4))
    await past.receiver.close()
    while await sweep(past.database, past.stores, AT_ONCE):
        pass
    await past.database.close()
    backup = tmp_path / "backup.sqlite"
    shutil.copyfile(sqlite_file(past.settings), backup)
    past.database = await Database.open(past.settings)
    fresh = await opened(past.settings, past.database)
    past.receiver, past.reader, past.settler = fresh.receiver, fresh.reader, fresh.settler
    await stored(past, make(1, 1, 3), make(5), make(3, 1, 2, PatientSex="M"))
    await drop(past, StudyRef.parse(uid(2)))
    await drop(past, InstanceRef.parse(uid(1), uid(1, 1), uid(1, 1, 1)))
    await past.receiver.close()
    while await sweep(past.database, past.stores, replace(AT_ONCE, dying_days=-1.0)):
        pass
    await past.database.close()
    for file in past.settings.data.glob("index.sqlite*"):
        file.unlink()
    shutil.copyfile(backup, sqlite_file(past.settings))
    past.database = await Database.open(past.settings)
    fresh = await opened(past.settings, past.database)
    past.receiver, past.reader, past.settler = fresh.receiver, fresh.reader, fresh.settler
    report = await rebuild(past)
    assert report.good
    for gone in (StudyRef.parse(uid(2)), InstanceRef.parse(uid(1), uid(1, 1), uid(1, 1, 1))):
        with pytest.raises(NotFound):
            await past.reader.find(LOCAL, gone)
    for made in (make(1, 1, 2), make(1, 1, 3), make(3, 1, 1), make(4), make(5)):
        assert await stored_dataset(past, made) == made.data
    metadata = await past.reader.series_metadata(LOCAL, SeriesRef.parse(uid(1), uid(1, 1)))
    assert [one["00200013"]["Value"] for one in metadata.datasets()] == [[2], [3]]
    metadata = await past.reader.series_metadata(LOCAL, SeriesRef.parse(uid(3), uid(3, 1)))
    assert len(metadata.datasets()) == 2


def assert_equal(after: dict[str, list[str]], before: dict[str, list[str]]) -> None:
    """Table by table, so that a difference is readable."""
    for table, lines in before.items():
        other = after[table]
        differ = [one for one in lines if one not in other], [o for o in other if o not in lines]
        assert other == lines, f"{table}: was {differ[0]}, is {differ[1]}"


async def pack_of(archive: Archive, made: Made) -> tuple[str, int]:
    chosen = (
        select(pack_copy.c.key, instance.c.byte_offset)
        .join(pack, pack.c.id == pack_copy.c.pack_id)
        .join(instance, instance.c.pack_id == pack.c.id)
        .where(instance.c.sop_instance_uid == made.identity.sop_instance_uid)
    )
    async with archive.database.session(SYSTEM) as session:
        row = (await session.execute(chosen)).one()
    return row[0], row[1]


async def test_a_truncated_pack_is_told_and_left_alone(past: Archive) -> None:
    await stored(past, make(1), make(2))
    await past.receiver.close()
    await swept(past)
    key, _ = await pack_of(past, make(1))
    path = object_file(past, key)
    size = path.stat().st_size - 7
    os.truncate(path, size)
    report = await rebuild(await forget(past))
    assert [one[0] for one in report.objects] == [key]
    assert not report.good
    assert await stored_dataset(past, make(2)) == make(2).data
    with pytest.raises(NotFound):
        await past.reader.find(LOCAL, StudyRef.parse(uid(1)))
    assert path.stat().st_size == size
    assert key not in "".join((await dump(past.database))["pack_copy"])


async def test_beside_a_damaged_file_the_others_come_back(past: Archive) -> None:
    await stored(past, make(1, 1, 1), make(1, 1, 2), make(1, 1, 3))
    await past.receiver.close()
    await swept(past)
    key, offset = await pack_of(past, make(1, 1, 2))
    flip(object_file(past, key), offset + 500)
    report = await rebuild(await forget(past))
    assert [one.sop_instance_uid for one in report.damaged] == [uid(1, 1, 2)]
    assert report.instances == 2
    for number in (1, 3):
        assert await stored_dataset(past, make(1, 1, number)) == make(1, 1, number).data
    metadata = await past.reader.series_metadata(LOCAL, SeriesRef.parse(uid(1), uid(1, 1)))
    assert metadata.gzip is not None
    assert len(metadata.datasets()) == 2


async def test_a_damaged_copy_is_made_good_by_the_pack_it_replaced(past: Archive) -> None:
    for number in range(1, 11):
        await stored(past, make(1, 1, number))
    await past.receiver.close()
    await swept(past)
    key, offset = await pack_of(past, make(1, 1, 2))
    flip(object_file(past, key), offset + 500)
    manifest = manifest_of(past.stores, "files", key)
    assert len(manifest.entries) > 1, "it was merged"
    report = await rebuild(await forget(past))
    assert [one.sop_instance_uid for one in report.damaged] == [uid(1, 1, 2)]
    assert await stored_dataset(past, make(1, 1, 2)) == make(1, 1, 2).data
    assert (await pack_of(past, make(1, 1, 2)))[0] != key


async def test_lost_metadata_are_written_anew(past: Archive) -> None:
    await stored(past, make(1, 1, 1), make(1, 1, 2))
    for one in list(past.stores.objects.keys("metadata/")):
        past.stores.objects.delete(one.key)
    assert (await rebuild(await forget(past))).good
    metadata = await past.reader.series_metadata(LOCAL, SeriesRef.parse(uid(1), uid(1, 1)))
    assert metadata.gzip is not None
    assert len(metadata.datasets()) == 2


@pytest.mark.backend
async def test_owners_without_a_row_get_one(past: Archive) -> None:
    async with past.database.session(SYSTEM, write=True) as session:
        owner = sa.table("owner", sa.column("id"), sa.column("path"), sa.column("state"))
        await session.execute(owner.insert().values(id=7, path="/52/H7", state="active"))
    made = make()
    origin = Origin(7, "dimse", "CT", "127.0.0.1")
    await past.receiver.append(origin, made.identity, [made.data])
    await settle_all(past)
    await past.receiver.close()
    before = await swept(past)
    report = await rebuild(await forget(past))
    assert report.owners == [7]
    assert await swept(past) == before
    async with past.database.session(SYSTEM, write=True) as session:
        added = owner.insert().values(path="/new", state="active").returning(owner.c.id)
        assert await session.scalar(added) == 8


@pytest.mark.backend
async def test_receiving_goes_on_while_the_index_is_rebuilt(past: Archive) -> None:
    for number in range(1, 6):
        await stored(past, make(number, 1, 1), make(number, 1, 2))
    await forget(past)

    async def send() -> None:
        for number in range(1, 6):
            await past.store(make(number, 1, 2), make(number, 1, 3), make(number + 10))

    report, _ = await asyncio.gather(rebuild(past), send())
    assert report.good
    await settle_all(past)
    for number in range(1, 6):
        assert len(await past.reader.find(LOCAL, StudyRef.parse(uid(number)))) == 3
        for made in (make(number, 1, 1), make(number, 1, 2), make(number, 1, 3)):
            assert await stored_dataset(past, made) == made.data
    async with past.database.session(SYSTEM) as session:
        unfinished = select(pack.c.id).where(pack.c.state == "writing", pack.c.kind != "journal")
        assert (await session.scalars(unfinished)).all() == []


async def test_nothing_is_announced_a_second_time(past: Archive) -> None:
    await stored(past, make(1), make(2))
    await rebuild(await forget(past))
    await past.settler.complete_studies()
    await number_events(past.database)
    topics = {event.topic for event in await feed(past.database, 0, 100)}
    assert topics == {"archive.batch.v1"}
