"""Feeding noted pack entries through the committer, as if they were received now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import structlog
import xxhash
from sqlalchemy import update

from archive.index.arrival import Arrival
from archive.index.durable import Committer
from archive.index.tables import instance_version
from archive.journal.clock import now_ms
from archive.journal.domain import Origin, Outcome
from archive.journal.segment import Segment
from archive.rebuild import rows
from archive.rebuild.domain import RebuildReport
from archive.rebuild.ledger import PackNote
from archive.receive.stored import read_arrival
from archive.receive.taken import TakenSegment
from archive.settle.pack import EntryKind, ManifestEntry
from archive.store.domain import ObjectStore
from kernel.db.database import Database
from kernel.errors import Invalid, NotFound
from kernel.scope import Scope

BATCH = 100
_READERS = 8
_SCOPE = Scope.system("rebuild")
_log = structlog.get_logger(__name__)

Fed = tuple[ManifestEntry, Arrival]


class PackSegment(Segment):
    """A pack in the committer's eyes: durable, settled, with a row of its own already."""

    replayed = True
    settled = True

    def __init__(self, key: str, pack_id: int) -> None:
        self.key = key
        self.named = True
        self.dirty = False
        self.sealed = True
        self.broken = False
        self.pack_id = pack_id
        self.uncommitted = 0


@dataclass(frozen=True, slots=True)
class _Source:
    """A pack or a segment, and how to read it."""

    segment: Segment
    read: Callable[[int, int], bytes]


class Feeder:
    """Feeds a ledger's entries. `series` is what got instances, as (owner, study, series)."""

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        committer: Committer,
        gone: rows.Gone,
        report: RebuildReport,
    ) -> None:
        self.series: set[tuple[int, str, str]] = set()
        self._database = database
        self._store = store
        self._committer = committer
        self._gone = gone
        self._report = report
        self._sources: dict[int, _Source] = {}
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="rebuild")

    def close(self) -> None:
        """Give up the reading threads."""
        self._readers.shutdown()

    def add_pack(self, note: PackNote, pack_id: int) -> None:
        """Say which row a pack has."""

        def read(start: int, length: int) -> bytes:
            return self._store.read(note.key, start, length)

        self._sources[note.id] = _Source(PackSegment(note.key, pack_id), read)

    def add_segment(self, source: int, segment: TakenSegment) -> None:
        """Say which segment the ledger means by a number."""

        def read(start: int, length: int) -> bytes:
            return bytes(segment.view[start : start + length])

        self._sources[source] = _Source(segment, read)

    async def feed(self, batch: Sequence[tuple[int, int, ManifestEntry]]) -> None:
        """Index one batch."""
        read = [self._read(*one) for one in batch]
        fed = [one for one in await asyncio.gather(*read) if one is not None]
        if not fed:
            return
        outcomes = await self._committer.commit([arrival for _, arrival in fed])
        known: dict[EntryKind, list[Arrival]] = {}
        for (entry, arrival), outcome in zip(fed, outcomes, strict=True):
            if outcome is Outcome.STORED:
                self._report.instances += 1
                uids = (arrival.study_instance_uid, arrival.series_instance_uid)
                self.series.add((arrival.origin.owner_id, *uids))
            elif arrival.segment.settled:
                known.setdefault(entry.kind, []).append(arrival)
        self._report.versions += len(known.get("version", ()))
        self._report.quarantined += len(known.get("quarantine", ()))
        await self._tell_relations([one for one in fed if one[0].kind == "version"])
        for kind, arrivals in known.items():
            await rows.put_right(self._database, kind, arrivals, self._gone)

    async def _read(self, number: int, owner_id: int, entry: ManifestEntry) -> Fed | None:
        loop = asyncio.get_running_loop()
        source = self._sources[number]
        try:
            arrival = await loop.run_in_executor(self._readers, _arrival, source, owner_id, entry)
        except (NotFound, Invalid) as error:
            self._report.objects.append((source.segment.key, str(error)))
            return None
        return entry, arrival

    async def _tell_relations(self, versions: Sequence[Fed]) -> None:
        """The versions of packs were compared already: say with what result."""
        if not versions:
            return
        async with self._database.session(_SCOPE, write=True) as session:
            for entry, arrival in versions:
                await session.execute(
                    update(instance_version)
                    .where(
                        instance_version.c.pack_id == arrival.segment.pack_id,
                        instance_version.c.byte_offset == entry.offset,
                    )
                    .values(relation=entry.reason, compared_ms=now_ms())
                )


def _arrival(source: _Source, owner_id: int, entry: ManifestEntry) -> Arrival:
    """The entry as it arrived once; its bytes are read as far as the index needs."""
    origin = Origin(owner_id, entry.via, entry.source, entry.peer, entry.called)

    def read(start: int, length: int) -> bytes:
        return source.read(entry.offset + start, length)

    if entry.kind == "quarantine":
        uids = (entry.sop_class_uid, entry.sop_instance_uid, entry.transfer_syntax_uid)
        arrival = Arrival(origin, entry.received_ms, *uids)
        arrival.reason, arrival.detail = entry.reason, entry.detail
    else:
        arrival = read_arrival(read, entry.length, origin)
        arrival.received_ms = entry.received_ms
    if arrival.reason is not None:
        arrival.checksum = xxhash.xxh3_128_digest(read(0, entry.length))
    arrival.segment = source.segment
    arrival.byte_offset = entry.offset
    arrival.byte_length = entry.length
    arrival.order = entry.order
    return arrival
