"""Adding to a stream and reading it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from kernel.db.database import Database
from kernel.db.statement import Statement
from kernel.ledger.domain import BEGIN, Entry, Head, Item, chain
from kernel.ledger.tables import ledger_entry, ledger_stream, ledger_volume

PAGE = 1000

_c = ledger_entry.c
_STREAM = Statement(
    select(
        ledger_stream.c.id,
        ledger_stream.c.seq,
        ledger_stream.c.hash,
        ledger_stream.c.base_seq,
        ledger_stream.c.base_hash,
    ).where(ledger_stream.c.name == bindparam("name"))
)
_ENTRIES = Statement(
    select(_c.seq, _c.ref, _c.digest, _c.marks, _c.sealed_at, _c.hash)
    .where(_c.stream_id == bindparam("stream_id"), _c.seq > bindparam("after"))
    .where(_c.seq <= bindparam("upto"))
    .order_by(_c.seq)
    .limit(PAGE)
)
_VOLUMES = Statement(
    select(
        ledger_volume.c.first_seq,
        ledger_volume.c.last_seq,
        ledger_volume.c.last_hash,
        ledger_volume.c.file,
        ledger_volume.c.sha256,
    )
    .where(ledger_volume.c.stream_id == bindparam("stream_id"))
    .order_by(ledger_volume.c.first_seq)
)


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream as its row tells: the head, and the base up to which entries are in files."""

    id: int
    name: str
    head: Head
    base: Head


@dataclass(frozen=True, slots=True)
class Volume:
    """A sealed file with the entries `first_seq`..`last_seq` and their rows."""

    first_seq: int
    last_seq: int
    last_hash: bytes
    file: str
    sha256: str


async def lock_stream(session: AsyncSession, name: str) -> Stream:
    """The stream for adding to it, made where it is new; held until the transaction ends."""
    known = select(ledger_stream).where(ledger_stream.c.name == name).with_for_update()
    row = (await session.execute(known)).one_or_none()
    if row is None:
        dialect = session.get_bind().dialect.name
        make = (postgresql if dialect == "postgresql" else sqlite).insert(ledger_stream)
        fresh = {"name": name, "seq": 0, "hash": BEGIN, "base_seq": 0, "base_hash": BEGIN}
        await session.execute(make.on_conflict_do_nothing(), fresh)
        row = (await session.execute(known)).one()
    return Stream(row.id, name, Head(row.seq, row.hash), Head(row.base_seq, row.base_hash))


async def add(session: AsyncSession, stream: Stream, items: list[Item], now: float) -> list[Entry]:
    """Chain `items` to a stream from `lock_stream`; their entries."""
    entries = chain(stream.name, stream.head, items, now)
    if entries:
        rows = [
            {
                "stream_id": stream.id,
                "seq": one.seq,
                "ref": one.ref,
                "digest": one.digest,
                "marks": one.marks,
                "sealed_at": one.sealed_at,
                "hash": one.hash,
            }
            for one in entries
        ]
        await session.execute(insert(ledger_entry), rows)
        last = entries[-1]
        await session.execute(
            update(ledger_stream)
            .where(ledger_stream.c.id == stream.id)
            .values(seq=last.seq, hash=last.hash)
        )
    return entries


async def find_stream(database: Database, name: str) -> Stream | None:
    """The stream as it is now; None while nothing was ever added."""
    rows = await database.fetch(_STREAM, {"name": name})
    for number, seq, last, base_seq, base in rows:
        return Stream(number, name, Head(seq, bytes(last)), Head(base_seq, bytes(base)))
    return None


async def pages(
    database: Database, stream: Stream, after: int, upto: int
) -> AsyncIterator[list[Entry]]:
    """Entries with numbers above `after` up to `upto`, in order, a thousand at a time."""
    while after < upto:
        found = await database.fetch(
            _ENTRIES, {"stream_id": stream.id, "after": after, "upto": upto}
        )
        if not found:
            return
        yield [_entry(row) for row in found]
        after = found[-1][0]


async def volumes(database: Database, stream: Stream) -> list[Volume]:
    """The sealed files of a stream, the oldest first."""
    rows = await database.fetch(_VOLUMES, {"stream_id": stream.id})
    return [Volume(first, last, bytes(end), file, sha) for first, last, end, file, sha in rows]


async def record_volume(
    session: AsyncSession, stream: Stream, volume: Volume, made_at: datetime
) -> None:
    """Let the stream begin after a sealed file. The caller deletes what is in it.

    Only the role that owns the tables may; `stream` is from `lock_stream`.
    """
    await session.execute(
        insert(ledger_volume),
        {
            "stream_id": stream.id,
            "first_seq": volume.first_seq,
            "last_seq": volume.last_seq,
            "last_hash": volume.last_hash,
            "file": volume.file,
            "sha256": volume.sha256,
            "made_at": made_at,
        },
    )
    await session.execute(
        delete(ledger_entry).where(_c.stream_id == stream.id, _c.seq <= volume.last_seq)
    )
    await session.execute(
        update(ledger_stream)
        .where(ledger_stream.c.id == stream.id)
        .values(base_seq=volume.last_seq, base_hash=volume.last_hash)
    )


def _entry(row: tuple[Any, ...]) -> Entry:
    seq, ref, digest, marks, sealed_at, last = row
    return Entry(seq, ref, bytes(digest), bytes(marks), sealed_at, bytes(last))
