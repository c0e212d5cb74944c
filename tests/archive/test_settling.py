"""Settling under trouble: outages, damage, and what goes when its time has passed."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from sqlalchemy import select

from archive.index.tables import pack, pack_copy
from archive.query.service import Catalog
from archive.receive.service import Receiver
from archive.retrieve.service import Reader
from archive.settle.service import Settler
from archive.settle.sweep import sweep
from archive.store.s3 import S3Store
from archive.store.service import open_stores
from dataset.refs import SeriesRef, StudyRef
from kernel.db.database import Database
from kernel.db.statement import Statement
from kernel.errors import NotFound, Unavailable
from kernel.events.service import feed, number_events
from kernel.settings import ArchiveSettings, ObjectSettings, Settings
from tests.archive.conftest import LOCAL, Archive
from tests.archive.material import make, uid
from tests.archive.test_store_and_find import stored_dataset
from tests.servers import S3Server

PACKS = Statement(
    select(pack.c.kind, pack.c.state, pack_copy.c.store, pack_copy.c.key)
    .join(pack_copy, pack_copy.c.pack_id == pack.c.id)
    .order_by(pack.c.id)
)


def new_bucket(server: S3Server) -> str:
    """A bucket of this test's own."""
    client: Any = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=server.region,
    )
    name = "b" + secrets.token_hex(6)
    client.create_bucket(Bucket=name)
    client.close()
    return name


@pytest.fixture
async def s3_archive(
    settings: Settings, database: Database, s3_server: S3Server
) -> AsyncIterator[Archive]:
    """An archive that keeps settled objects in a real S3 server."""
    objects = ObjectSettings(
        url=f"s3://{new_bucket(s3_server)}/archive",
        endpoint=s3_server.endpoint,
        access_key=s3_server.access_key,
        secret_key=s3_server.secret_key,
    )
    settings = replace(settings, objects=objects)
    stores = open_stores(settings)
    receiver = await Receiver.open(settings, database)
    reader, settler = Reader(database, stores), Settler(settings, database, stores)
    yield Archive(settings, database, receiver, reader, Catalog(database), settler, stores)
    await receiver.close()


async def test_settled_studies_come_back_from_s3_byte_for_byte(s3_archive: Archive) -> None:
    made = [make(number=number, side=64) for number in (1, 2, 3)]
    large = make(2, side=3000)  # 18 MB: goes up in parts
    await s3_archive.store(*made, large)
    await s3_archive.settle()
    stores = {(row[0], row[2]) for row in await s3_archive.database.fetch(PACKS, {})}
    assert stores == {("journal", "journal"), ("pack", "s3"), ("metadata", "s3")}
    for one in [*made, large]:
        assert await stored_dataset(s3_archive, one) == one.data
    metadata = await s3_archive.reader.series_metadata(LOCAL, SeriesRef.parse(uid(1), uid(1, 1)))
    assert metadata.gzip is not None
    assert len(metadata.datasets()) == 3


async def test_s3_says_what_is_missing_and_what_is_short(s3_archive: Archive) -> None:
    store = s3_archive.stores.objects
    assert isinstance(store, S3Store)
    writer = store.create("packs/aa/test")
    writer.write(b"0123456789")
    assert writer.commit() == 10
    assert store.read("packs/aa/test", 2, 3) == b"234"
    assert store.read("packs/aa/test", 8) == b"89"
    assert store.read("packs/aa/test") == b"0123456789"
    assert [found.key for found in store.keys("packs/")] == ["packs/aa/test"]
    with pytest.raises(Unavailable):
        store.read("packs/aa/test", 8, 5)
    with pytest.raises(NotFound):
        store.read("packs/aa/other")
    store.delete("packs/aa/test")
    store.delete("packs/aa/test")
    with pytest.raises(NotFound):
        store.size("packs/aa/test")


async def test_an_outage_of_the_store_neither_stops_receiving_nor_loses(
    settings: Settings, database: Database
) -> None:
    nowhere = ObjectSettings(
        url="s3://archive", endpoint="http://127.0.0.1:1", access_key="a", secret_key="b"
    )
    away = replace(settings, objects=nowhere)
    stores = open_stores(away)
    receiver = await Receiver.open(away, database)
    archive = Archive(
        away,
        database,
        receiver,
        Reader(database, stores),
        Catalog(database),
        Settler(away, database, stores),
        stores,
    )
    made = [make(number=1), make(number=2)]
    await archive.store(made[0])
    with pytest.raises(Unavailable):
        await archive.settle()
    await archive.store(made[1])
    for one in made:
        assert await stored_dataset(archive, one) == one.data
    back = replace(archive, settler=Settler(settings, database, open_stores(settings)))
    await back.settle()
    back.reader = Reader(database, open_stores(settings))
    for one in made:
        assert await stored_dataset(back, one) == one.data
    await receiver.close()


@pytest.mark.backend
async def test_a_segment_goes_when_its_records_have_settled_and_its_grace_is_over(
    archive: Archive,
) -> None:
    made = make()
    await archive.store(made)
    await archive.receiver.close()
    patient = ArchiveSettings()
    assert await sweep(archive.database, archive.stores, patient) == 0
    await archive.settle()
    assert await sweep(archive.database, archive.stores, patient) == 0  # its grace has begun
    assert len(segments(archive.settings)) == 1
    hasty = ArchiveSettings(segment_grace_s=0.0)
    assert await sweep(archive.database, archive.stores, hasty) == 1
    assert segments(archive.settings) == []
    assert await stored_dataset(archive, made) == made.data


async def test_a_reader_that_knew_the_old_place_finds_the_new_one(archive: Archive) -> None:
    made = make()
    await archive.store(made)
    (before,) = await archive.reader.find(LOCAL, StudyRef.parse(uid(1)))
    assert await archive.reader.read(before)
    await archive.receiver.close()
    await archive.settle()
    hasty = ArchiveSettings(segment_grace_s=0.0)
    await sweep(archive.database, archive.stores, hasty)
    assert segments(archive.settings) == []
    assert (await archive.reader.read(before)).endswith(made.data)


async def test_a_damaged_record_stays_where_it_is_and_the_others_settle(archive: Archive) -> None:
    good, bad = make(number=1), make(number=2)
    await archive.store(good, bad)
    (segment,) = segments(archive.settings)
    raw = bytearray(segment.read_bytes())
    at = raw.find(bad.data[-200:])
    raw[at] ^= 0xFF
    segment.write_bytes(raw)
    await archive.settler.settle_due(everything=True)
    found = await archive.reader.find(LOCAL, StudyRef.parse(uid(1)))
    kinds = [one.pack_id for one in found]
    assert kinds[0] != kinds[1]
    assert await stored_dataset(archive, good) == good.data
    hasty = ArchiveSettings(segment_grace_s=0.0)
    await sweep(archive.database, archive.stores, hasty)
    assert len(segments(archive.settings)) == 1


@pytest.mark.backend
async def test_events_tell_of_study_and_series(archive: Archive) -> None:
    await archive.store(make(1), make(2))
    await archive.settle()
    archive.settler._limits = ArchiveSettings(study_quiet_s=-1.0)
    await archive.settler.complete_studies()
    while await number_events(archive.database):
        pass
    topics = [event.topic for event in await feed(archive.database, 0, 100)]
    for topic in ("study.registered.v1", "series.settled.v1", "study.settled.v1"):
        assert topics.count(topic) == 2, topic
    await archive.store(make(1, number=2))
    await archive.settle()
    await archive.settler.complete_studies()
    while await number_events(archive.database):
        pass
    topics = [event.topic for event in await feed(archive.database, 0, 100)]
    assert topics.count("study.amended.v1") == 1


def segments(settings: Settings) -> list[Path]:
    """The segment files that are there."""
    return sorted((settings.data / "journal").glob("*.seg"))


def test_pack_manifests_say_what_is_damaged(tmp_path: Path) -> None:
    from archive.settle.pack import Manifest, PackWriter, read_manifest
    from archive.store.files import LocalFiles
    from kernel.errors import Invalid

    store = LocalFiles(tmp_path)
    pack_writer = PackWriter(store.create("packs/aa/one"), Manifest(1, 5))
    pack_writer.finish()
    size = store.size("packs/aa/one")

    def read(data: bytes) -> Any:
        return read_manifest(len(data), lambda start, length: data[start : start + length])

    data = store.read("packs/aa/one")
    assert read(data).created_ms == 5
    for at in range(size):
        broken = bytearray(data)
        broken[at] ^= 0x40
        with pytest.raises(Invalid):
            read(bytes(broken))
    with pytest.raises(Invalid):
        read(data[:10])
