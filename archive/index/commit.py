"""Running a batch plan: one durable transaction on sqlite3 or asyncpg.

The order is the promise of the archive: bytes are written, then synced, then the index commits,
then the sender is answered.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import asyncpg

from archive.index import statements as sql
from archive.index.arrival import Arrival
from archive.index.plan import BatchPlan
from archive.index.steps import Instances, Memory, Stale, Step
from archive.journal.domain import Outcome, Receipt
from archive.journal.segment import Segment
from kernel.db.database import Database
from kernel.errors import Unavailable

_CHECKPOINT_EVERY = 64  # commits
_BUSY_TRIES = 40  # of the connection's busy timeout each


Waiting = tuple[Arrival, "asyncio.Future[Receipt]"]
Take = Callable[[], list[Waiting]]
Told = Callable[[list[Waiting], "list[Outcome] | Exception"], None]
DRAIN_BATCHES = 64


class Committer(Protocol):
    """Makes a batch durable: its segments' bytes first, then its index rows."""

    async def commit(self, arrivals: Sequence[Arrival]) -> list[Outcome]:
        """The outcomes in the order of `arrivals`. Raises `Unavailable`: nothing was said."""

    async def drain(self, take: Take, told: Told) -> None:
        """Commit batch after batch as `take` gives them, until it gives an empty one.

        `told` hears of each batch on the event loop, with its outcomes or with the error that
        befell it. Comes back after `DRAIN_BATCHES` too, so that others get their turn.
        """

    async def seal(self, packs: Sequence[tuple[int, int]]) -> None:
        """Note that these segments, as (pack id, size in bytes), take no more records."""

    async def close(self) -> None:
        """Give up threads and connections."""


def open_committer(database: Database, node_id: str) -> Committer:
    """The committer for the database at hand."""
    if database.dialect == "sqlite":
        return SqliteCommitter(database, node_id)
    return PostgresCommitter(database, node_id)


def _segments(arrivals: Sequence[Arrival]) -> list[Segment]:
    return list({id(a.segment): a.segment for a in arrivals}.values())


def _sync(arrivals: Sequence[Arrival]) -> None:
    try:
        for segment in _segments(arrivals):
            if segment.dirty or not segment.named:
                segment.sync()
    except OSError as error:
        raise Unavailable(
            "storage.failed", "the journal could not be synced: {why}", why=str(error)
        ) from error


def _learn(plan: BatchPlan, memory: Memory) -> None:
    """After the commit: what the plan found out is true now."""
    memory.absorb(plan.fresh)
    for arrival in plan.arrivals:
        arrival.segment.pack_id = plan.packs[arrival.segment.key]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class SqliteCommitter:
    """Syncs and commits in one thread of its own, on one plain connection."""

    def __init__(self, database: Database, node_id: str) -> None:
        self._database = database
        self._node_id = node_id
        self._memory = Memory()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._connection: sqlite3.Connection | None = None
        self._commits = 0

    async def commit(self, arrivals: Sequence[Arrival]) -> list[Outcome]:
        """See `Committer.commit`."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._commit, arrivals
        )

    async def drain(self, take: Take, told: Told) -> None:
        """See `Committer.drain`. The thread goes on by itself: while senders are answered and the
        loop receives, the next batch is on its way already.
        """
        loop = asyncio.get_running_loop()

        def tell(batch: list[Waiting], result: list[Outcome] | Exception) -> None:
            loop.call_soon_threadsafe(told, batch, result)

        await loop.run_in_executor(self._thread, self._drain, take, tell)

    def _drain(self, take: Take, tell: Told) -> None:
        for _ in range(DRAIN_BATCHES):
            batch = take()
            if not batch:
                return
            try:
                tell(batch, self._commit([arrival for arrival, _ in batch]))
            except Exception as error:  # noqa: BLE001 - every sender of the batch must hear of it
                tell(batch, error)

    async def seal(self, packs: Sequence[tuple[int, int]]) -> None:
        """See `Committer.seal`."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._seal, packs)

    def _seal(self, packs: Sequence[tuple[int, int]]) -> None:
        words = sql.PACK_SEAL.sql("sqlite")
        connection = self._connected()
        for pack_id, size in packs:
            connection.execute(words, sql.PACK_SEAL.args("sqlite", {"id": pack_id, "bytes": size}))

    async def close(self) -> None:
        """See `Committer.close`."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._database.connect_sqlite()
            self._connection.execute("PRAGMA wal_autocheckpoint = 0")
        return self._connection

    def _commit(self, arrivals: Sequence[Arrival]) -> list[Outcome]:
        _sync(arrivals)
        try:
            connection = self._connected()
            plan = self._transaction(connection, arrivals)
            _learn(plan, self._memory)
            self._checkpoint(connection)
        except sqlite3.Error as error:
            self._memory.clear()
            raise Unavailable(
                "index.failed", "the index could not be written: {why}", why=str(error)
            ) from error
        return plan.outcomes

    def _transaction(
        self, connection: sqlite3.Connection, arrivals: Sequence[Arrival]
    ) -> BatchPlan:
        self._begin(connection)
        try:
            try:
                plan = self._run(connection, arrivals)
            except (sqlite3.IntegrityError, Stale):  # a row we knew was deleted
                connection.execute("ROLLBACK")
                self._memory.clear()
                self._begin(connection)
                plan = self._run(connection, arrivals)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return plan

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Take the write lock; settling holds it for 20 ms at most, so waiting is right."""
        for left in reversed(range(_BUSY_TRIES)):
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if left == 0 or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
            else:
                return

    def _run(self, connection: sqlite3.Connection, arrivals: Sequence[Arrival]) -> BatchPlan:
        plan = BatchPlan(arrivals, self._memory, self._node_id, _now_ms())
        steps = plan.steps()
        try:
            step = next(steps)
            while True:
                step = steps.send(_run_step(connection, step))
        except StopIteration:
            return plan

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        """Move the write-ahead log home now and then, between two batches."""
        self._commits += 1
        if self._commits % _CHECKPOINT_EVERY == 0:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


def _run_step(connection: sqlite3.Connection, step: Step) -> list[Any]:
    if isinstance(step, Instances):
        new = []
        for row in step.rows:
            if connection.execute(sql.INSTANCE_INSERT_SQLITE, row).rowcount:
                new.append((row[0], row[2]))
        return new
    words = step.statement.sql("sqlite")
    return connection.execute(words, step.statement.args("sqlite", step.params)).fetchall()


class PostgresCommitter:
    """Syncs in a thread and commits on a connection of its own; a batch is few statements."""

    def __init__(self, database: Database, node_id: str) -> None:
        self._database = database
        self._node_id = node_id
        self._memory = Memory()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sync")

    async def commit(self, arrivals: Sequence[Arrival]) -> list[Outcome]:
        """See `Committer.commit`."""
        await asyncio.get_running_loop().run_in_executor(self._thread, _sync, arrivals)
        try:
            plan = await self._transaction(arrivals)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            self._memory.clear()
            raise Unavailable(
                "index.failed", "the index could not be written: {why}", why=str(error)
            ) from error
        _learn(plan, self._memory)
        return plan.outcomes

    async def drain(self, take: Take, told: Told) -> None:
        """See `Committer.drain`."""
        for _ in range(DRAIN_BATCHES):
            batch = take()
            if not batch:
                return
            try:
                outcomes = await self.commit([arrival for arrival, _ in batch])
            except Exception as error:  # noqa: BLE001 - every sender of the batch must hear of it
                told(batch, error)
            else:
                told(batch, outcomes)

    async def seal(self, packs: Sequence[tuple[int, int]]) -> None:
        """See `Committer.seal`."""
        words = sql.PACK_SEAL.sql("postgresql")
        for pack_id, size in packs:
            args = sql.PACK_SEAL.args("postgresql", {"id": pack_id, "bytes": size})
            await self._database.pg_pool.execute(words, *args)

    async def close(self) -> None:
        """See `Committer.close`."""
        self._thread.shutdown()

    async def _transaction(self, arrivals: Sequence[Arrival]) -> BatchPlan:
        try:
            return await self._once(arrivals)
        except (asyncpg.IntegrityConstraintViolationError, asyncpg.DeadlockDetectedError, Stale):
            self._memory.clear()
            return await self._once(arrivals)

    async def _once(self, arrivals: Sequence[Arrival]) -> BatchPlan:
        plan = BatchPlan(arrivals, self._memory, self._node_id, _now_ms())
        async with self._database.pg_pool.acquire() as connection, connection.transaction():
            steps = plan.steps()
            try:
                step = next(steps)
                while True:
                    step = steps.send(await _run_step_postgres(connection, step))
            except StopIteration:
                pass
        return plan


async def _run_step_postgres(connection: asyncpg.Connection, step: Step) -> list[Any]:
    if isinstance(step, Instances):
        columns = [list(column) for column in zip(*step.rows, strict=True)]
        found = await connection.fetch(sql.INSTANCE_INSERT_POSTGRESQL, *columns)
        return [(row[0], row[1]) for row in found]
    words = step.statement.sql("postgresql")
    rows = await connection.fetch(words, *step.statement.args("postgresql", step.params))
    return list(rows)
