"""Recovery: what a writer that died left in its segments is found and indexed.

A segment belongs to its writer as long as that one lives: it holds the file's lock. Recovery takes
only segments whose lock it gets. Every record with a good checksum is indexed (where its row is
there already nothing happens), but for what was deleted since by a decision; what is no record is
noted and stays in the file.
"""

from __future__ import annotations

import asyncio
import fcntl
import mmap
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog
import xxhash
from sqlalchemy import and_, bindparam, select, update

from archive.index.arrival import Arrival
from archive.index.commit import open_committer
from archive.index.deletions import Deletions, load_deletions
from archive.index.durable import Committer
from archive.index.statements import PACK_COPY_INSERT, PACK_INSERT
from archive.index.tables import pack, pack_copy
from archive.journal.domain import Identity, Origin
from archive.journal.node import journal_folder, node_id
from archive.journal.record import HEADER_BYTES, MAGIC, RecordHeader, seed_of, unpack_header
from archive.journal.segment import OsSegmentFile, Segment
from archive.receive.service import arrival_of
from dataset.part10 import parse_head
from dataset.scanner import scan
from kernel.db.database import Database
from kernel.db.statement import Statement
from kernel.errors import Invalid
from kernel.scope import Scope
from kernel.settings import Settings

_log = structlog.get_logger(__name__)
_BATCH = 100
_SCOPE = Scope.system("recovery")

_STATE = Statement(
    select(pack.c.state, pack.c.id)
    .join(pack_copy, pack_copy.c.pack_id == pack.c.id)
    .where(pack_copy.c.store == "journal", pack_copy.c.key == bindparam("key"))
)


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """A record whose header and checksum are good; `offset` is that of its Part 10 file."""

    header: RecordHeader
    offset: int
    body: memoryview


@dataclass(slots=True)
class Recovered:
    """What recovery did: segments taken over, records met, bytes that are no record."""

    segments: int = 0
    records: int = 0
    stray_bytes: int = 0


async def recover(settings: Settings, database: Database) -> Recovered:
    """Take over every segment whose writer is gone."""
    folder = journal_folder(settings)
    done = Recovered()
    node = node_id(settings)
    committer = open_committer(database, node)
    try:
        paths = await asyncio.to_thread(_segments, folder)
        await _adopt([path.name for path in paths], database, node)
        for path in paths:
            await _recover(path, database, node, committer, done)
    finally:
        await committer.close()
    if done.segments:
        _log.info(
            "journal_recovered",
            segments=done.segments,
            records=done.records,
            stray_bytes=done.stray_bytes,
        )
    return done


async def _adopt(keys: list[str], database: Database, node: str) -> None:
    """A segment that lies here is this node's, also after the machine was given another name."""
    renamed = and_(
        pack_copy.c.store == "journal", pack_copy.c.key.in_(keys), pack_copy.c.node_id != node
    )
    async with database.session(_SCOPE) as session:
        found = (await session.scalars(select(pack_copy.c.key).where(renamed))).all()
    if found:
        _log.warning("segments_of_a_former_name", segments=len(found))
        async with database.session(_SCOPE, write=True) as session:
            await session.execute(update(pack_copy).where(renamed).values(node_id=node))


async def _recover(
    path: Path, database: Database, node: str, committer: Committer, done: Recovered
) -> None:
    rows = await database.fetch(_STATE, {"key": path.name})
    if rows and rows[0][0] != "writing":
        return
    fd = await asyncio.to_thread(_take, path)
    if fd is None:
        return
    try:
        segment = TakenSegment(path, fd, os.fstat(fd).st_size)
        segment.pack_id = rows[0][1] if rows else None
        records = await _index_again(segment, database, committer, done)
        if segment.pack_id is None and not records:  # nothing but a stream that broke off
            await asyncio.to_thread(path.unlink)
            return
        if segment.pack_id is None:  # all of it was deleted since: the sweep takes it away
            segment.pack_id = await _register(segment, database, node)
        await committer.seal([(segment.pack_id, segment.size)])
        done.segments += 1
        done.records += records
    finally:
        os.close(fd)


async def _index_again(
    segment: TakenSegment, database: Database, committer: Committer, done: Recovered
) -> int:
    """Index what is not deleted by a decision; returns how many records there are."""
    records: list[FoundRecord] = []
    if segment.size:
        view = memoryview(mmap.mmap(segment.fd, segment.size, access=mmap.ACCESS_READ))
        records = await asyncio.to_thread(lambda: list(records_in(view, segment.seed)))
        # What stands behind the last record is of an earlier life of the file, or nothing.
        segment.size = max((r.offset + r.header.length for r in records), default=0)
        done.stray_bytes += segment.size - sum(r.header.length + HEADER_BYTES for r in records)
    since_ms = min((r.header.received_ms for r in records), default=0)
    deletions = await load_deletions(database, since_ms)
    for at in range(0, len(records), _BATCH):
        arrivals = [_arrival(record, segment) for record in records[at : at + _BATCH]]
        wanted = [one for one in arrivals if not _deleted(one, deletions)]
        if wanted:
            await committer.commit(wanted)
    return len(records)


def _deleted(arrival: Arrival, deletions: Deletions) -> bool:
    return deletions.cover(
        arrival.origin.owner_id,
        arrival.study_instance_uid,
        arrival.series_instance_uid,
        arrival.sop_instance_uid,
        arrival.received_ms,
    )


async def _register(segment: Segment, database: Database, node: str) -> int:
    row = {"kind": "journal", "state": "writing", "owner_id": None, "series_fk": None}
    times = {"created_ms": time.time_ns() // 1_000_000, "lease_ms": 0}
    async with database.session(_SCOPE, write=True) as session:
        pack_id = int((await session.execute(PACK_INSERT.core, row | times)).scalar_one())
        copy = {"pack_id": pack_id, "store": "journal", "key": segment.key, "node_id": node}
        await session.execute(PACK_COPY_INSERT.core, copy)
    return pack_id


class TakenSegment(Segment):
    """A dead writer's segment under its new owner; its bytes are synced before they are indexed."""

    replayed = True

    def __init__(self, path: Path, fd: int, size: int) -> None:
        self.key = path.name
        self.seed = seed_of(self.key)
        self.fd = fd
        self.file = _TakenFile(path, fd)
        self.size = size
        self.named = False
        self.dirty = True
        self.sealed = True
        self.broken = False
        self.pack_id = None
        self.uncommitted = 0


class _TakenFile(OsSegmentFile):
    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd


def records_in(view: memoryview, seed: int) -> Iterator[FoundRecord]:
    """The good records of the segment with `seed`, in order; what lies between is skipped."""
    at = 0
    while at + HEADER_BYTES <= len(view):
        header = unpack_header(view[at : at + HEADER_BYTES], seed)
        end = at + HEADER_BYTES + (header.length if header else 0)
        if header is not None and end <= len(view):
            body = view[at + HEADER_BYTES : end]
            if xxhash.xxh3_128_digest(body) == header.checksum:
                yield FoundRecord(header, at + HEADER_BYTES, body)
                at = end
                continue
        at = _next_magic(view, at + 1)


def _next_magic(view: memoryview, start: int) -> int:
    """Where the next record may begin; the end where there is none."""
    step = 1 << 20
    while start < len(view):
        found = bytes(view[start : start + step + len(MAGIC)]).find(MAGIC)
        if found >= 0:
            return start + found
        start += step
    return len(view)


def _segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.seg"))


def _take(path: Path) -> int | None:
    """The file opened and locked; None where its writer lives or the sweep was faster."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _arrival(record: FoundRecord, segment: Segment) -> Arrival:
    """An arrival as it was when the record was written."""
    header = record.header
    origin = Origin(header.owner_id, header.via, header.source, header.peer, header.called)
    arrival = indexable(record.body, origin)
    arrival.received_ms = header.received_ms
    arrival.segment = segment
    arrival.byte_offset = record.offset
    arrival.byte_length = header.length
    arrival.checksum = header.checksum
    return arrival


def indexable(part10: bytes | memoryview, origin: Origin) -> Arrival:
    """What the index wants of a stored Part 10 file; its place is still to be filled in."""
    head = parse_head(part10, final=True)
    if head is None:
        raise Invalid("part10.not_dicom", "the stored file is too short to be one")
    identity = Identity(
        head.sop_class_uid or "", head.sop_instance_uid or "", head.transfer_syntax_uid
    )
    try:
        scanned = scan([memoryview(part10)[head.dataset_offset :]], head.transfer_syntax_uid)
    except Invalid as error:
        return arrival_of(origin, identity, None, error)
    return arrival_of(origin, identity, scanned, None)
