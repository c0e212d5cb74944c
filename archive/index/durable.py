"""What makes a batch of arrivals durable, on any database: the contract and its common steps.

The order is the promise of the archive: bytes are written, then synced, then the index commits,
then the sender is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from archive.index.arrival import Arrival
from archive.index.plan import BatchPlan
from archive.index.steps import Memory
from archive.journal.domain import Outcome, Receipt
from archive.journal.segment import Segment
from kernel.errors import Unavailable

Waiting = tuple[Arrival, "asyncio.Future[Receipt]"]
Take = Callable[[], list[Waiting]]
Told = Callable[[list[Waiting], "list[Outcome] | Exception"], None]
DRAIN_BATCHES = 64


class Committer(Protocol):
    """Makes a batch durable: its segments' bytes first, then its index rows."""

    async def prepare(self) -> None:
        """Do now what would keep the first sender waiting."""

    async def commit(self, arrivals: Sequence[Arrival]) -> list[Outcome]:
        """The outcomes in the order of `arrivals`. Raises `Unavailable`: nothing was said."""

    async def drain(self, take: Take, told: Told) -> None:
        """Commit batch after batch as `take` gives them, until it gives an empty one.

        Both are called on the event loop; `told` hears of each batch, with its outcomes or with the
        error that befell it. Comes back after `DRAIN_BATCHES` too, so that others get their turn.
        """

    async def seal(self, packs: Sequence[tuple[int, int]]) -> None:
        """Note that these segments, as (pack id, size in bytes), take no more records."""

    async def close(self) -> None:
        """Give up threads and connections."""


def sync(arrivals: Sequence[Arrival]) -> None:
    """Bring the segments of a batch to stable storage; raises Unavailable `storage.failed`."""
    segments: list[Segment] = list({id(a.segment): a.segment for a in arrivals}.values())
    try:
        for segment in segments:
            if segment.dirty or not segment.named:
                segment.sync()
    except OSError as error:
        raise Unavailable(
            "storage.failed", "the journal could not be synced: {why}", why=str(error)
        ) from error


def learn(plan: BatchPlan, memory: Memory) -> None:
    """After the commit: what the plan found out is true now."""
    memory.absorb(plan.fresh)
    for arrival in plan.arrivals:
        arrival.segment.pack_id = plan.packs[arrival.segment.key]


def index_failed(error: Exception) -> Unavailable:
    """The index refused a batch: what its senders are told."""
    return Unavailable("index.failed", "the index could not be written: {why}", why=str(error))
