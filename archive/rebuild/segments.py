"""The journal's part of a rebuild: segments without a writer, their records noted like files.

They are fed together with the packs in the order of receiving: what is unsettled may have come
before what is settled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from archive.index.deletions import Deletions
from archive.rebuild.ledger import Ledger
from archive.receive.taken import TakenSegment, arrival_in, is_deleted, segment_files, take_over
from archive.settle.pack import ManifestEntry
from kernel.db.database import Database
from kernel.settings import Settings


async def take_segments(
    settings: Settings, database: Database, held: ExitStack
) -> list[TakenSegment]:
    """Every segment that the index does not know to its end; released with `held`."""
    taken = []
    for path in await asyncio.to_thread(segment_files, settings):
        segment = await take_over(path, database)
        if segment is not None:
            held.callback(segment.release)
            taken.append(segment)
    return taken


def numbered(segments: Sequence[TakenSegment]) -> Iterator[tuple[int, TakenSegment]]:
    """The segments with the numbers that the ledger has for them."""
    return ((-number, segment) for number, segment in enumerate(segments, 1))


def note_records(ledger: Ledger, segments: Sequence[TakenSegment], deletions: Deletions) -> int:
    """Note every record; returns how many there are."""
    count = 0
    for number, segment in numbered(segments):
        for record in segment.records:
            arrival = arrival_in(segment, record)
            origin = arrival.origin
            entry = ManifestEntry(
                "instance",
                arrival.sop_instance_uid,
                arrival.sop_class_uid,
                arrival.transfer_syntax_uid,
                arrival.study_instance_uid,
                arrival.series_instance_uid,
                record.offset,
                record.header.length,
                "",
                origin.via,
                origin.source,
                origin.peer,
                origin.called,
                arrival.received_ms,
                arrival.reason or "",
            )
            deleted = arrival.reason is None and is_deleted(arrival, deletions)
            ledger.add_record(number, origin.owner_id, entry, deleted=deleted)
            count += 1
    return count
