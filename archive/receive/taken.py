"""Taking over a segment whose writer is gone, and reading the records in it."""

from __future__ import annotations

import asyncio
import fcntl
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import xxhash
from sqlalchemy import bindparam, select

from archive.index.arrival import Arrival
from archive.index.deletions import Deletions
from archive.index.durable import Committer
from archive.index.statements import PACK_COPY_INSERT, PACK_INSERT
from archive.index.tables import pack, pack_copy
from archive.journal.clock import now_ms
from archive.journal.domain import Identity, Origin
from archive.journal.node import journal_folder
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


class TakenSegment(Segment):
    """A dead writer's segment under its new owner; its bytes are synced before they are indexed."""

    replayed = True

    def __init__(self, path: Path, fd: int, size: int, pack_id: int | None) -> None:
        self.key = path.name
        self.seed = seed_of(self.key)
        self.file = _TakenFile(path, fd)
        self.named = False
        self.dirty = True
        self.sealed = True
        self.broken = False
        self.pack_id = pack_id
        self.uncommitted = 0
        self._path = path
        self._fd = fd
        self.view = (
            memoryview(mmap.mmap(fd, size, access=mmap.ACCESS_READ)) if size else memoryview(b"")
        )
        self.records = list(records_in(self.view, self.seed))
        # What stands behind the last record is of an earlier life of the file, or nothing.
        self.size = max((one.offset + one.header.length for one in self.records), default=0)

    async def conclude(self, database: Database, node: str, committer: Committer) -> None:
        """Every record was indexed or passed over: the segment is sealed, or empty and goes."""
        if self.pack_id is None and not self.records:  # nothing but a stream that broke off
            await asyncio.to_thread(self._path.unlink)
            return
        if self.pack_id is None:  # all of it was deleted since: the sweep takes it away
            self.pack_id = await _register(self.key, database, node)
        await committer.seal([(self.pack_id, self.size)])

    def release(self) -> None:
        """Give up the lock."""
        os.close(self._fd)


class _TakenFile(OsSegmentFile):
    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd


def segment_files(settings: Settings) -> list[Path]:
    """The segments that lie here."""
    return sorted(journal_folder(settings).glob("*.seg"))


async def take_over(path: Path, database: Database) -> TakenSegment | None:
    """A segment with its records; None where it is sealed, its writer lives, or it is gone."""
    rows = await database.fetch(_STATE, {"key": path.name})
    if rows and rows[0][0] != "writing":
        return None
    fd = await asyncio.to_thread(_take, path)
    if fd is None:
        return None
    try:
        pack_id = rows[0][1] if rows else None
        return await asyncio.to_thread(TakenSegment, path, fd, os.fstat(fd).st_size, pack_id)
    except BaseException:
        os.close(fd)
        raise


def arrival_in(segment: TakenSegment, record: FoundRecord) -> Arrival:
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


def is_deleted(arrival: Arrival, deletions: Deletions) -> bool:
    """Whether a decision covers what an arrival says it is."""
    return deletions.cover(
        arrival.origin.owner_id,
        arrival.study_instance_uid,
        arrival.series_instance_uid,
        arrival.sop_instance_uid,
        arrival.received_ms,
    )


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


def _next_magic(view: memoryview, start: int) -> int:
    """Where the next record may begin; the end where there is none."""
    step = 1 << 20
    while start < len(view):
        found = bytes(view[start : start + step + len(MAGIC)]).find(MAGIC)
        if found >= 0:
            return start + found
        start += step
    return len(view)


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


async def _register(key: str, database: Database, node: str) -> int:
    row = {"kind": "journal", "state": "writing", "owner_id": None, "series_fk": None}
    times = {"created_ms": now_ms(), "lease_ms": 0}
    async with database.session(_SCOPE, write=True) as session:
        pack_id = int((await session.execute(PACK_INSERT.core, row | times)).scalar_one())
        copy = {"pack_id": pack_id, "store": "journal", "key": key, "node_id": node}
        await session.execute(PACK_COPY_INSERT.core, copy)
    return pack_id
