"""Recovery: what a writer that died left in its segments is found and indexed.

A segment belongs to its writer as long as that one lives: it holds the file's lock. Recovery takes
only segments whose lock it gets. Every record with a good checksum is indexed (where its row is
there already nothing happens), but for what was deleted since by a decision; what is no record is
noted and stays in the file.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import structlog
from sqlalchemy import and_, bindparam, select, update

from archive.index.arrival import Arrival
from archive.index.commit import open_committer
from archive.index.deletions import load_deletions
from archive.index.durable import Committer
from archive.index.tables import instance, pack_copy
from archive.journal.node import node_id
from archive.journal.record import HEADER_BYTES
from archive.receive.taken import TakenSegment, arrival_in, is_deleted, segment_files, take_over
from kernel.db.database import Database
from kernel.db.statement import Statement
from kernel.scope import Scope
from kernel.settings import Settings

_log = structlog.get_logger(__name__)
_BATCH = 100
_SCOPE = Scope.system("recovery")

_FIRST = Statement(
    select(instance.c.received_ms).where(
        instance.c.owner_id == bindparam("owner_id"),
        instance.c.sop_instance_uid == bindparam("sop_instance_uid"),
    )
)


@dataclass(slots=True)
class Recovered:
    """What recovery did: segments taken over, records met, bytes that are no record."""

    segments: int = 0
    records: int = 0
    stray_bytes: int = 0


async def recover(settings: Settings, database: Database) -> Recovered:
    """Take over every segment whose writer is gone."""
    done = Recovered()
    node = node_id(settings)
    committer = open_committer(database, node)
    try:
        paths = await asyncio.to_thread(segment_files, settings)
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
    segment = await take_over(path, database)
    if segment is None:
        return
    try:
        await _index_again(segment, database, committer)
        await segment.conclude(database, node, committer)
    finally:
        segment.release()
    done.stray_bytes += segment.size - sum(
        record.header.length + HEADER_BYTES for record in segment.records
    )
    done.segments += bool(segment.records)
    done.records += len(segment.records)


async def _index_again(segment: TakenSegment, database: Database, committer: Committer) -> None:
    """Index what is not deleted by a decision."""
    records = segment.records
    since_ms = min((record.header.received_ms for record in records), default=0)
    deletions = await load_deletions(database, since_ms)
    for at in range(0, len(records), _BATCH):
        arrivals = [arrival_in(segment, record) for record in records[at : at + _BATCH]]
        wanted = [
            one
            for one in arrivals
            if not is_deleted(one, deletions) or await _is_version(one, database)
        ]
        if wanted:
            await committer.commit(wanted)


async def _is_version(arrival: Arrival, database: Database) -> bool:
    """Whether an instance that came earlier is still here: a version is deleted with its instance,
    whatever study or series it names itself.
    """
    key = {
        "owner_id": arrival.origin.owner_id,
        "sop_instance_uid": arrival.sop_instance_uid,
    }
    rows = await database.fetch(_FIRST, key)
    return bool(rows) and rows[0][0] <= arrival.received_ms
