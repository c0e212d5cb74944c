"""What a plan of the index asks for, step by step, and what a committer remembers between plans.

A plan is a generator: it yields steps, receives the rows that came back and does no I/O itself.
`archive.index.commit` runs it on a plain sqlite3 connection or on asyncpg.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kernel.db.statement import Statement


class Stale(Exception):
    """A row that was known, or met a moment ago, has been deleted: forget all and plan anew."""


class Call(NamedTuple):
    """One statement to run; the plan receives its rows."""

    statement: Statement
    params: dict[str, Any]


class Instances(NamedTuple):
    """Instance rows to insert; the plan receives the (owner, UID) pairs that were new."""

    rows: list[tuple[Any, ...]]


Step = Call | Instances
Rows = Sequence[Any]
Steps = Generator[Step, Rows, Any]


@dataclass(slots=True)
class SeriesContext:
    """What the committer remembers of a series it has written to.

    `overlay_version` is the study's: where it has changed, first values may have too.
    """

    series_id: int
    study_id: int
    overlay_version: int
    fingerprint: tuple[bytes | None, ...] | None = None  # None: read from the index, unchecked
    differing: set[tuple[bytes | None, ...]] = field(default_factory=set)


@dataclass(slots=True)
class Memory:
    """Row ids that a committer knows, so that an instance of a known series costs one insert."""

    series: dict[tuple[int, str, str], SeriesContext] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    limit: int = 4096

    def absorb(self, fresh: Memory) -> None:
        """Take over what a committed batch has learnt; the oldest goes when there is too much."""
        self.codes.update(fresh.codes)
        self.series.update(fresh.series)
        while len(self.series) > self.limit:
            del self.series[next(iter(self.series))]

    def clear(self) -> None:
        """Forget all: some row is gone."""
        self.series.clear()
        self.codes.clear()


def insert_or_select(
    insert: Statement, values: dict[str, Any], select: Statement, key: dict[str, Any]
) -> Steps:
    """The id of a row that may be there already."""
    rows = yield Call(select, key)
    if not rows:
        rows = yield Call(insert, values)
    if not rows:  # another process was faster
        rows = yield Call(select, key)
    return rows[0][0]
