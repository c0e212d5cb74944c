"""Receiving: an instance is appended to a segment at once and answered when it is durable.

Appending happens on the event loop; a commit per natural batch (whatever arrived while the last
commit ran) syncs the bytes and writes the index. Nobody is answered before both are done, and there
is no timer.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Sequence
from pathlib import Path

import xxhash

from archive.index.arrival import Arrival, identify
from archive.index.commit import open_committer
from archive.index.durable import Committer, Waiting
from archive.journal.clock import now_ms
from archive.journal.domain import Identity, Origin, Outcome, Receipt
from archive.journal.node import journal_folder, node_id
from archive.journal.pressure import Pressure
from archive.journal.record import (
    FLAG_QUARANTINED,
    FLAG_STREAMED,
    HEADER_BYTES,
    RecordHeader,
    pack_header,
)
from archive.journal.segment import Buffer, OpenSegment, OsSegmentFile, Segment
from dataset.layout import Layouts
from dataset.names import PersonName, name_keys
from dataset.part10 import file_head
from dataset.scanner import Scanner, ScanResult
from kernel.db.database import Database
from kernel.errors import Invalid, Unavailable
from kernel.settings import Settings

_BATCH_LIMIT = 256  # instances in one index transaction
_HOLD_BYTES = 1 << 20  # of a stream whose identity the sender did not announce
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Receiver:
    """Takes instances, makes them durable and indexes them. One per process."""

    def __init__(
        self,
        folder: Path,
        segment_bytes: int,
        node: str,
        committer: Committer,
        open_file: OpenSegment,
        pressure: Pressure,
    ) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._node = node
        self._committer = committer
        self._open_file = open_file
        self._pressure = pressure
        self._segment: Segment | None = None
        self._pending: list[Waiting] = []
        self._committing: asyncio.Task[None] | None = None
        self._open_segments: set[Segment] = set()
        self._closed = False
        self._layouts = Layouts()

    @classmethod
    async def open(
        cls, settings: Settings, database: Database, open_file: OpenSegment = OsSegmentFile
    ) -> Receiver:
        """A receiver that writes below the data folder of `settings`."""
        folder = journal_folder(settings)
        node = await asyncio.to_thread(_prepare, folder, settings)
        committer = open_committer(database, node)
        await committer.prepare()
        pressure = Pressure(settings)
        return cls(folder, settings.archive.segment_bytes, node, committer, open_file, pressure)

    async def close(self) -> None:
        """Wait for what is on its way, then give up files and threads; twice is as good."""
        if self._closed:
            return
        self._closed = True
        while self._committing is not None:
            await self._committing
        for segment in self._open_segments:
            segment.sealed = True
        await self._close_finished()
        await self._committer.close()

    def append(
        self, origin: Origin, identity: Identity, parts: Sequence[Buffer]
    ) -> asyncio.Future[Receipt]:
        """Take a whole data set (without group 2) lying in `parts`.

        The bytes are in the page cache when this returns, so the buffers may be used again; the
        Future is done when bytes and index are durable. It, or this call, raises `Unavailable`
        (``storage.*``, ``index.failed``) when the instance was not stored.
        """
        key = (origin.source, identity.sop_class_uid, identity.transfer_syntax_uid)
        try:
            scanned = self._layouts.scan(key, parts, identity.transfer_syntax_uid)
        except Invalid as error:
            return self._append(origin, identity, parts, None, error)
        return self._append(origin, identity, parts, scanned, None)

    def open_stream(self, origin: Origin, identity: Identity) -> IncomingStream:
        """Take a data set piece by piece into a segment of its own; for what fits no buffer."""
        return IncomingStream(self, self._new_segment(), origin, identity)

    def _append(
        self,
        origin: Origin,
        identity: Identity,
        parts: Sequence[Buffer],
        scanned: ScanResult | None,
        error: Invalid | None,
    ) -> asyncio.Future[Receipt]:
        arrival = arrival_of(origin, identity, scanned, error)
        head = _head(arrival)
        check = xxhash.xxh3_128(head)
        length = len(head)
        for part in parts:
            check.update(part)
            length += len(part)
        arrival.checksum = check.digest()
        arrival.byte_length = length
        segment = self._writable(length)
        header = pack_header(_record(arrival, 0), segment.seed)
        try:
            offset = segment.append([header, head, *parts])
        except OSError as failure:
            raise _storage_error(failure) from failure
        arrival.segment = segment
        arrival.byte_offset = offset + HEADER_BYTES
        return self.enqueue(arrival)

    def enqueue(self, arrival: Arrival) -> asyncio.Future[Receipt]:
        """Put an appended arrival into the next batch."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Receipt] = loop.create_future()
        arrival.segment.uncommitted += 1
        self._pending.append((arrival, future))
        if self._committing is None:
            self._committing = loop.create_task(self._commit_pending())
        return future

    async def _commit_pending(self) -> None:
        """Commit batch after batch until nothing is left."""
        try:
            while self._pending:
                begun = time.monotonic()
                await self._committer.drain(self._take, self._told)
                await self._close_finished()
                pause_s = self._pressure.pause_s(time.monotonic() - begun)
                if pause_s and not self._closed:  # settling gets its share of the disk
                    await asyncio.sleep(pause_s)
        finally:
            self._committing = None

    def _take(self) -> list[Waiting]:
        """The next batch."""
        batch = self._pending[:_BATCH_LIMIT]
        del self._pending[: len(batch)]
        return batch

    def _told(self, batch: list[Waiting], result: list[Outcome] | Exception) -> None:
        """A batch is durable, or it failed: its senders hear of it."""
        for n, (arrival, future) in enumerate(batch):
            arrival.segment.uncommitted -= 1
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
                future.exception()  # a sender that is gone does not ask
            else:
                future.set_result(_receipt(arrival, result[n]))

    def _writable(self, length: int) -> Segment:
        """The current segment, or a new one where it is full or sealed."""
        segment = self._segment
        if segment is not None and (
            segment.sealed or (segment.size and segment.size + length > self._segment_bytes)
        ):
            segment.sealed = True
            segment = None
        if segment is None:
            segment = self._segment = self._new_segment()
        return segment

    def _new_segment(self) -> Segment:
        try:
            segment = Segment(self._folder, self._node, self._open_file)
        except OSError as failure:
            raise _storage_error(failure) from failure
        self._open_segments.add(segment)
        return segment

    async def _close_finished(self) -> None:
        """Close sealed segments whose last record was answered; their lock goes with them.

        One that broke, or that holds an aborted stream, is left to recovery.
        """
        finished = [s for s in self._open_segments if s.sealed and not s.uncommitted]
        whole = [s for s in finished if s.pack_id is not None and not s.broken]
        if whole:
            await self._committer.seal([(s.pack_id or 0, s.size) for s in whole])
        for segment in finished:
            segment.file.close()
            self._open_segments.discard(segment)


class IncomingStream:
    """One large data set on its way into a segment of its own.

    The record header is written last, before the sync: a stream that broke off leaves no record.
    """

    def __init__(
        self, receiver: Receiver, segment: Segment, origin: Origin, identity: Identity
    ) -> None:
        self._receiver = receiver
        self._segment = segment
        self._origin = origin
        self._identity = identity
        self._check = xxhash.xxh3_128()
        self._scanner: Scanner | None = Scanner(identity.transfer_syntax_uid)
        self._scanned: ScanResult | None = None
        self._error: Invalid | None = None
        self._held: list[bytes] | None = []  # until the head can be written
        segment.uncommitted += 1
        segment.size = HEADER_BYTES

    def write(self, part: Buffer) -> None:
        """Append `part` of the data set; raises `Unavailable` where the disk refuses."""
        if self._scanner is not None:
            self._scan(self._scanner, part)
        if self._held is None:
            self._append([part])
            return
        known = self._identity.sop_class_uid and self._identity.sop_instance_uid
        if known or self._scanner is None or sum(map(len, self._held)) > _HOLD_BYTES:
            self._begin()
            self._append([part])
        else:
            self._held.append(bytes(part))

    def finish(self) -> asyncio.Future[Receipt]:
        """The data set is complete; the Future is as that of `Receiver.append`."""
        if self._scanner is not None:
            try:
                self._scanned = self._scanner.finish()
            except Invalid as error:
                self._error = error
        if self._held is not None:
            self._begin()
        arrival = arrival_of(self._origin, self._identity, self._scanned, self._error)
        arrival.segment = self._segment
        arrival.byte_offset = HEADER_BYTES
        arrival.byte_length = self._segment.size - HEADER_BYTES
        arrival.checksum = self._check.digest()
        self._put_header(pack_header(_record(arrival, FLAG_STREAMED), self._segment.seed))
        self._segment.sealed = True
        future = self._receiver.enqueue(arrival)
        self._segment.uncommitted -= 1
        return future

    def abort(self) -> None:
        """The sender went away: what was written is no record and will be swept."""
        self._segment.sealed = True
        self._segment.uncommitted -= 1

    def _scan(self, scanner: Scanner, part: Buffer) -> None:
        try:
            self._scanned = scanner.feed(part)
        except Invalid as error:
            self._error = error
        if self._scanned is not None or self._error is not None:
            self._scanner = None

    def _begin(self) -> None:
        """Write the Part 10 head and what was held back for it."""
        held, self._held = self._held or [], None
        arrival = arrival_of(self._origin, self._identity, self._scanned, self._error)
        self._append([_head(arrival), *held])

    def _append(self, parts: Sequence[Buffer]) -> None:
        for part in parts:
            self._check.update(part)
        try:
            self._segment.append(parts)
        except OSError as failure:
            raise _storage_error(failure) from failure

    def _put_header(self, header: bytes) -> None:
        try:
            self._segment.put([header], 0)
        except OSError as failure:
            raise _storage_error(failure) from failure


def _prepare(folder: Path, settings: Settings) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    name_keys(PersonName("Wang", "王"))  # loads the pinyin table before the first sender waits
    return node_id(settings)


def _source_ae(origin: Origin) -> str:
    return origin.source if origin.via == "dimse" else ""


def arrival_of(
    origin: Origin, identity: Identity, scanned: ScanResult | None, error: Invalid | None
) -> Arrival:
    """What is known of an instance before its place in a segment is."""
    arrival = Arrival(
        origin,
        now_ms(),
        identity.sop_class_uid,
        identity.sop_instance_uid,
        identity.transfer_syntax_uid,
    )
    if scanned is not None:
        arrival.values = scanned.values
        arrival.requests = scanned.requests
        arrival.little_endian = scanned.little_endian
        try:
            found = identify(scanned, identity, binding=origin.via == "dimse")
        except Invalid as refused:
            error = refused
        else:
            arrival.sop_class_uid = found.sop_class_uid
            arrival.sop_instance_uid = found.sop_instance_uid
            arrival.study_instance_uid = found.study_instance_uid
            arrival.series_instance_uid = found.series_instance_uid
    if error is not None:
        arrival.reason, arrival.detail = error.code, str(error)
    return arrival


def _head(arrival: Arrival) -> bytes:
    return file_head(
        arrival.sop_class_uid,
        arrival.sop_instance_uid,
        arrival.transfer_syntax_uid,
        _source_ae(arrival.origin),
    )


def _record(arrival: Arrival, flags: int) -> RecordHeader:
    origin = arrival.origin
    return RecordHeader(
        origin.owner_id,
        origin.via,
        origin.source,
        origin.peer,
        origin.called,
        arrival.sop_instance_uid,
        arrival.byte_length,
        arrival.received_ms,
        arrival.checksum,
        flags | (FLAG_QUARANTINED if arrival.reason else 0),
    )


def _receipt(arrival: Arrival, outcome: Outcome) -> Receipt:
    return Receipt(
        outcome,
        arrival.study_instance_uid,
        arrival.series_instance_uid,
        arrival.sop_instance_uid,
        arrival.sop_class_uid,
        arrival.reason,
        arrival.detail,
    )


def _storage_error(failure: OSError) -> Unavailable:
    if failure.errno in _FULL:
        return Unavailable("storage.full", "the journal's disk is full")
    return Unavailable("storage.failed", "the journal cannot be written: {why}", why=str(failure))
