"""Several nodes on one PostgreSQL and one S3: each settles its own, all read everything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from archive.index.tables import instance, pack, pack_copy, series
from archive.journal.domain import Outcome
from archive.query.service import Catalog
from archive.receive.recovery import recover
from archive.receive.service import Receiver
from archive.retrieve.service import Reader
from archive.settle.quarantine import settle_quarantine
from archive.settle.service import Settler
from archive.settle.sweep import sweep
from archive.store.service import open_stores
from archive.versions.service import compare_pending, versions_of
from dataset.refs import SeriesRef, StudyRef
from kernel.db.database import Database
from kernel.errors import Unavailable
from kernel.settings import ArchiveSettings, InternalSettings, ObjectSettings, Settings
from server.internal import serve_internal
from tests.archive.conftest import LOCAL, Archive
from tests.archive.material import Made, make, uid
from tests.archive.test_settling import new_bucket, segments
from tests.archive.test_store_and_find import stored_dataset
from tests.servers import S3Server
from tests.waiting import eventually

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)

HASTY = ArchiveSettings(segment_grace_s=0.0)
SERIES = SeriesRef.parse(uid(1), uid(1, 1))


@dataclass(slots=True)
class Node:
    """One machine: its archive, and its listener while it is up."""

    archive: Archive
    listening: AsyncExitStack

    async def start(self) -> None:
        """Listen for the others, on a new port each time."""
        await serve_internal(self.archive.settings, self.archive.database, self.listening)

    async def stop(self) -> None:
        """Do not answer the others any more."""
        await self.listening.aclose()


@pytest.fixture
async def nodes(
    settings: Settings, s3_server: S3Server, tmp_path: Path
) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes named a and b that listen."""
    objects = ObjectSettings(
        url=f"s3://{new_bucket(s3_server)}/nodes",
        endpoint=s3_server.endpoint,
        access_key=s3_server.access_key,
        secret_key=s3_server.secret_key,
    )
    internal = InternalSettings(bind="127.0.0.1:0", secret="known to both")
    shared = replace(settings, objects=objects, internal=internal)
    async with AsyncExitStack() as stack:
        made = []
        for name in ("a", "b"):
            archive = await open_archive(replace(shared, node=name, data=tmp_path / name), stack)
            listening = await stack.enter_async_context(AsyncExitStack())
            node = Node(archive, listening)
            await node.start()
            made.append(node)
        yield made[0], made[1]


async def open_archive(settings: Settings, stack: AsyncExitStack) -> Archive:
    database = await Database.open(settings)
    stack.push_async_callback(database.close)
    stores = open_stores(settings)
    receiver = await Receiver.open(settings, database)
    stack.push_async_callback(receiver.close)
    return Archive(
        settings,
        database,
        receiver,
        await Reader.open(settings, database),
        Catalog(database),
        Settler(settings, database, stores),
        stores,
    )


async def unsettled(archive: Archive) -> int:
    async with archive.database.session(LOCAL) as session:
        return int(await session.scalar(select(func.sum(series.c.unsettled))) or 0)


async def assert_equal(archive: Archive, *made: Made) -> None:
    for one in made:
        assert await stored_dataset(archive, one) == one.data


async def test_what_one_node_received_the_other_reads_before_and_after_settling(
    nodes: tuple[Node, Node],
) -> None:
    a, b = nodes[0].archive, nodes[1].archive
    made = [make(1, 1, 1, side=64), make(1, 2, 1), make(2, 1, 1)]
    await a.store(*made)
    await assert_equal(b, *made)
    (found,) = await b.reader.find(LOCAL, SERIES)
    whole = await b.reader.read(found)
    assert b"".join([chunk async for chunk in b.reader.stream(found, 1000)]) == whole
    assert len((await b.reader.series_metadata(LOCAL, SERIES)).datasets()) == 1
    assert (await b.reader.frame_table(found)).frames
    await a.settle()
    await assert_equal(b, *made)
    assert await b.reader.read(found) == whole  # found at its old place, read at the new one


async def test_a_series_that_came_to_two_nodes_is_settled_by_each_for_its_share(
    nodes: tuple[Node, Node],
) -> None:
    a, b = nodes[0].archive, nodes[1].archive
    made = [make(number=number) for number in (1, 2, 3)]
    await a.store(*made[:2])
    await b.store(made[2])
    assert await a.settler.settle_due(everything=True) == 1
    assert await unsettled(a) == 1
    assert await a.settler.settle_due(everything=True) == 0  # the rest is not its work
    assert len((await a.reader.series_metadata(LOCAL, SERIES)).datasets()) == 3
    await a.store(make(number=4))
    assert await a.settler.settle_due(everything=True) == 1  # and it is not held up by that
    assert await a.settler.complete_studies() == 0
    assert await b.settler.settle_due(everything=True) == 1
    assert await b.settler.settle_due(everything=True) == 0
    assert await unsettled(b) == 0
    for archive in (a, b):
        metadata = await archive.reader.series_metadata(LOCAL, SERIES)
        assert metadata.gzip is not None
        assert [one["00200013"]["Value"] for one in metadata.datasets()] == [[1], [2], [3], [4]]
        await assert_equal(archive, *made)


async def test_nodes_that_settle_the_same_series_at_once_leave_complete_metadata(
    nodes: tuple[Node, Node],
) -> None:
    a, b = nodes[0].archive, nodes[1].archive
    for study in range(1, 6):
        await a.store(*(make(study, number=number) for number in (1, 3)))
        await b.store(*(make(study, number=number) for number in (2, 4)))
    await asyncio.gather(a.settle(), b.settle())
    assert await unsettled(a) == 0
    for study in range(1, 6):
        ref = SeriesRef.parse(uid(study), uid(study, 1))
        metadata = await a.reader.series_metadata(LOCAL, ref)
        assert metadata.gzip is not None
        assert [one["00200013"]["Value"] for one in metadata.datasets()] == [[1], [2], [3], [4]]


async def test_a_settling_that_broke_off_is_completed_by_another_node(
    nodes: tuple[Node, Node],
) -> None:
    a, b = nodes[0].archive, nodes[1].archive
    await a.store(make(number=1), make(number=2))
    await a.settle()
    async with a.database.session(LOCAL, write=True) as session:  # as after the last switch
        await session.execute(update(series).values(unsettled=2, metadata_pack_id=None))
    await b.settle()
    assert await unsettled(b) == 0
    metadata = await b.reader.series_metadata(LOCAL, SERIES)
    assert metadata.gzip is not None
    assert len(metadata.datasets()) == 2


async def test_a_silent_holder_is_an_outage_and_no_missing_study(
    nodes: tuple[Node, Node],
) -> None:
    a, b = nodes[0].archive, nodes[1].archive
    made = make()
    await a.store(made)
    await nodes[0].stop()
    (found,) = await b.reader.find(LOCAL, StudyRef.parse(uid(1)))
    for _ in range(2):
        with pytest.raises(Unavailable) as failure:
            await b.reader.read(found)
        assert failure.value.code == "node.unreachable"
    with pytest.raises(Unavailable):
        await b.reader.series_metadata(LOCAL, SERIES)
    assert await b.settler.settle_due(everything=True) == 0
    await a.settle()
    await assert_equal(a, made)
    await assert_equal(b, made)


async def test_a_node_that_comes_back_at_another_address_is_found(
    nodes: tuple[Node, Node],
) -> None:
    a, b = nodes[0].archive, nodes[1].archive
    made = make()
    await a.store(made)
    await assert_equal(b, made)
    await nodes[0].stop()
    await nodes[0].start()

    async def is_read() -> bool:
        try:
            await assert_equal(b, made)
        except Unavailable:
            return False
        return True

    assert await eventually(is_read)


async def test_another_secret_opens_nothing(nodes: tuple[Node, Node]) -> None:
    a, b = nodes[0].archive, nodes[1].archive
    await a.store(make())
    stranger = replace(b.settings, internal=InternalSettings(secret="guessed"))
    reader = await Reader.open(stranger, b.database)
    (found,) = await reader.find(LOCAL, StudyRef.parse(uid(1)))
    with pytest.raises(Unavailable) as failure:
        await reader.read(found)
    assert failure.value.code == "node.refused"


async def test_segments_are_swept_by_the_node_that_has_them(nodes: tuple[Node, Node]) -> None:
    a, b = nodes[0].archive, nodes[1].archive
    await a.store(make())
    await a.receiver.close()
    await a.settle()
    for _ in range(2):
        assert await sweep(b.database, b.stores, HASTY) == 0
    assert len(segments(a.settings)) == 1
    assert await sweep(a.database, a.stores, HASTY) == 1
    assert segments(a.settings) == []


async def test_what_is_kept_aside_is_settled_by_the_node_that_has_it(
    nodes: tuple[Node, Node],
) -> None:
    a, b = nodes[0].archive, nodes[1].archive
    (receipt,) = await a.store(make(SeriesInstanceUID=None))
    assert receipt.outcome is Outcome.QUARANTINED
    assert await settle_quarantine(b.database, b.stores, set(), quiet_ms=-1) == 0
    assert await settle_quarantine(a.database, a.stores, set(), quiet_ms=-1) == 1


async def test_versions_are_compared_where_both_can_be_read(nodes: tuple[Node, Node]) -> None:
    a, b = nodes[0].archive, nodes[1].archive
    await a.store(make())
    await b.store(make(seed=1))
    assert await compare_pending(a.database, a.stores) == 0
    assert await compare_pending(b.database, b.stores) == 0
    await a.settle()
    assert await compare_pending(a.database, a.stores) == 0
    assert await compare_pending(b.database, b.stores) == 1
    assert [one[1] for one in await versions_of(b.database, LOCAL, uid(1, 1, 1))] == ["pixels"]
    assert await a.settler.settle_due(everything=True) == 0
    assert await b.settler.settle_due(everything=True) == 1
    assert await b.settler.settle_due(everything=True) == 0


async def test_recovery_takes_up_what_lies_on_its_own_disk(nodes: tuple[Node, Node]) -> None:
    a, b = nodes[0].archive, nodes[1].archive
    made = make()
    await a.store(made)
    await a.receiver.close()
    assert (await recover(b.settings, b.database)).segments == 0
    async with AsyncExitStack() as stack:  # the machine comes back under another name
        renamed = await open_archive(replace(a.settings, node="c"), stack)
        await recover(renamed.settings, renamed.database)
        async with renamed.database.session(LOCAL) as session:
            held = await session.scalars(
                select(pack_copy.c.node_id)
                .join(pack, pack.c.id == pack_copy.c.pack_id)
                .join(instance, instance.c.pack_id == pack.c.id)
            )
            assert held.all() == ["c"]
        await renamed.settle()
        await assert_equal(b, made)
