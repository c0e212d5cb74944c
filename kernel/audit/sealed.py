"""Audit rows beside their entries in the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Double, bindparam, select, type_coerce

from kernel.audit.tables import audit
from kernel.db.database import Database
from kernel.db.statement import Statement, among
from kernel.ledger.domain import Entry, Fields, Finding, differing, digest_of

STREAM = "audit"

# What a row is sealed with. Never change the names: old entries could not be checked any more.
SEALED = (
    "action", "actor_id", "actor_kind", "at", "count", "detail", "id", "outcome", "owner_id",
    "peer", "purpose", "refs", "study_instance_uid",
)  # fmt: skip

_c = audit.c
_LARGEST_ID = 1 << 63


def sealed_columns() -> list[ColumnElement[Any]]:
    """The columns a row is sealed with, in the order of SEALED, in plain values."""
    return [type_coerce(_c.at, Double).label("at") if n == "at" else _c[n] for n in SEALED]


def sealed_fields(row: Sequence[Any]) -> Fields:
    """A row of `sealed_columns` by name."""
    return dict(zip(SEALED, row, strict=True))


_BY_SEQ = Statement(
    select(*sealed_columns(), _c.seq).where(
        _c.seq >= bindparam("first"), _c.seq <= bindparam("last")
    )
)
_BY_ID = Statement(select(*sealed_columns(), _c.seq).where(among(_c.id, "ids")))


@dataclass(frozen=True, slots=True)
class Row:
    """An audit row: its fields, and the number that it says it has."""

    fields: Fields
    seq: int | None

    @property
    def ref(self) -> str:
        """How an entry names it."""
        return str(self.fields["id"])

    @property
    def at(self) -> float:
        """When it happened, in seconds since 1970."""
        return float(self.fields["at"] or 0)


@dataclass(frozen=True, slots=True)
class Paired:
    """Entries with their rows (None: gone), and rows that have a number of theirs but no entry."""

    pairs: list[tuple[Entry, Row | None]]
    extra: list[Row]


async def pair(database: Database, page: list[Entry]) -> Paired:
    """Find the rows of consecutive entries: by number, else by key."""
    found = await database.fetch(_BY_SEQ, {"first": page[0].seq, "last": page[-1].seq})
    rows = {row.ref: row for row in map(_row, found)}
    lost = [int(one.ref) for one in page if one.ref not in rows and _is_id(one.ref)]
    moved = await database.fetch(_BY_ID, {"ids": lost}) if lost else []
    strays = {row.ref: row for row in map(_row, moved)}
    pairs = [(one, rows.pop(one.ref, None) or strays.get(one.ref)) for one in page]
    return Paired(pairs, list(rows.values()))


def compare(entry: Entry, row: Row | None) -> Finding | None:
    """What is wrong with the row of an entry; of a missing one the time of sealing is told."""
    if row is None:
        return Finding("row_missing", entry.seq, entry.ref, entry.sealed_at)
    differs: tuple[str, ...] = ()
    if digest_of(row.fields) != entry.digest:
        differs = differing(row.fields, entry.marks) or ("digest",)
    if row.seq != entry.seq:
        differs += ("seq",)
    return Finding("row_changed", entry.seq, entry.ref, row.at, differs) if differs else None


def _is_id(ref: str) -> bool:
    return ref.isascii() and ref.isdigit() and int(ref) < _LARGEST_ID


def _row(values: tuple[Any, ...]) -> Row:
    return Row(sealed_fields(values[:-1]), values[-1])
