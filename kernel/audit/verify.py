"""Walking the chain: is every audit row as it was sealed, and is none missing or too many?"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from sqlalchemy import Double, bindparam, func, or_, select, type_coerce

from kernel.audit.sealed import STREAM, compare, pair
from kernel.audit.tables import audit
from kernel.audit.volumes import check_volumes
from kernel.db.database import Database
from kernel.db.statement import Statement
from kernel.ledger.domain import Entry, Finding, Head, broken_links
from kernel.ledger.service import Stream, find_stream, pages
from kernel.ledger.witness import Witness

Progress = Callable[[int, int], None]

_c = audit.c
_OUTSIDE = Statement(
    select(_c.id, type_coerce(_c.at, Double), _c.seq)
    .where(or_(_c.seq > bindparam("head"), _c.seq <= bindparam("base")))
    .order_by(_c.seq)
    .limit(1000)
)
_UNSEALED = Statement(select(func.count()).select_from(audit).where(_c.seq.is_(None)))


@dataclass(frozen=True, slots=True)
class Walked:
    """How a walk ended: the first and last number looked at, rows not sealed yet, heads known."""

    first: int
    last: int
    unsealed: int
    heads: int


async def verify(
    database: Database, show: Progress | None = None
) -> AsyncIterator[Finding | Walked]:
    """Everything that is wrong, in the order of the chain; `Walked` comes last.

    Streams in bounded memory beside running servers: what is sealed meanwhile is not looked at.
    """
    heads = Witness(database.settings, STREAM).heads()
    stream = await find_stream(database, STREAM)
    unsealed = int((await database.fetch(_UNSEALED, {}))[0][0])
    if stream is None:
        if heads:
            yield Finding("end_missing", 1, last=heads[-1].seq)
        yield Walked(1, 0, unsealed, len(heads))
        return
    async for finding in check_volumes(database, stream, heads):
        yield finding
    walk = _Walk(database, stream, heads)
    async for page in pages(database, stream, stream.base.seq, stream.head.seq):
        for finding in await walk.look(page):
            yield finding
        if show is not None:
            show(walk.last.seq - stream.base.seq, stream.head.seq - stream.base.seq)
    for finding in [*walk.end(), *await _outside(database)]:
        yield finding
    yield Walked(stream.base.seq + 1, stream.head.seq, unsealed, len(heads))


class _Walk:
    """The state of one walk: how far it is, and the last kept head that fitted."""

    def __init__(self, database: Database, stream: Stream, heads: list[Head]) -> None:
        self.last = stream.base
        self._database = database
        self._stream = stream
        self._heads = {head.seq: head for head in heads}
        self._fitted = stream.base.seq

    async def look(self, page: list[Entry]) -> list[Finding]:
        """What is wrong in the next page."""
        found = broken_links(self._stream.name, self.last, page)
        paired = await pair(self._database, page)
        for entry, row in paired.pairs:
            wrong = compare(entry, row)
            found += [wrong] if wrong is not None else []
            found += self._kept(entry)
        found += [Finding("row_inserted", one.seq or 0, one.ref, one.at) for one in paired.extra]
        self.last = Head(page[-1].seq, page[-1].hash)
        if found:  # what went into a sealed file while we walked is not missing
            now = await find_stream(self._database, STREAM)
            base = now.base.seq if now is not None else 0
            found = [one for one in found if one.seq > base]
        return sorted(found, key=lambda one: one.seq)

    def end(self) -> list[Finding]:
        """What is missing at the end of the chain."""
        found: list[Finding] = []
        head, kept = self._stream.head, max(self._heads, default=0)
        if self.last.seq < head.seq:
            found.append(Finding("entry_missing", self.last.seq + 1, last=head.seq))
        elif self.last.hash != head.hash:
            found.append(Finding("rewritten", self._fitted + 1, last=head.seq))
        if head.seq < kept:
            found.append(Finding("end_missing", head.seq + 1, last=kept))
        return found

    def _kept(self, entry: Entry) -> list[Finding]:
        head = self._heads.get(entry.seq)
        if head is None:
            return []
        began, self._fitted = self._fitted + 1, entry.seq
        return [Finding("rewritten", began, last=entry.seq)] if head.hash != entry.hash else []


async def _outside(database: Database) -> list[Finding]:
    """Rows whose numbers the chain does not have: above its head, or in files already."""
    before = await find_stream(database, STREAM)
    if before is None:
        return []
    bounds = {"head": before.head.seq, "base": before.base.seq}
    rows = await database.fetch(_OUTSIDE, bounds)
    # A row and the head that covers it are committed together: look at the head once more.
    after = await find_stream(database, STREAM) or before
    sealed = range(before.base.seq + 1, after.head.seq + 1)
    return [
        Finding("row_inserted", seq, str(number), at)
        for number, at, seq in rows
        if seq not in sealed
    ]
