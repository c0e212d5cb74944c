"""Committing a batch to SQLite: the loop writes the rows while a thread syncs the bytes.

Both hands work on one batch. The thread spends its time in fdatasync and COMMIT, where it does not
hold the interpreter lock; the rows in between cost the loop 0.2 ms, less than two threads lose by
handing that lock to and fro. A row is visible to others, and durable, with COMMIT, which comes
after the sync. Where another process has the write lock the thread does all of it, so that the loop
never waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

import structlog

from archive.index import statements as sql
from archive.index.arrival import Arrival
from archive.index.durable import (
    DRAIN_BATCHES,
    Take,
    Told,
    Waiting,
    index_failed,
    learn,
    sync,
)
from archive.index.plan import BatchPlan
from archive.index.steps import Instances, Memory, Stale, Step
from archive.journal.clock import now_ms
from archive.journal.domain import Outcome
from kernel.db.database import Database, sqlite_file

_CHECKPOINT_EVERY = 256  # commits, of some 50 KB
_LOG_BYTES = 16 << 20
_COMMIT = "COMMIT"
_CHECKPOINT = "PRAGMA wal_checkpoint(PASSIVE)"
_BUSY_FOR_S = 400.0  # others hold the write lock for 20 ms at most; this is for a stuck one
_BUSY_PAUSE_S = 0.002

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class _Batch:
    """A batch on its way; `planned` is released when the loop has done its part."""

    __slots__ = ("arrivals", "error", "plan", "planned", "waiting")

    def __init__(self, waiting: list[Waiting]) -> None:
        self.waiting = waiting
        self.arrivals = [arrival for arrival, _ in waiting]
        self.plan: BatchPlan | None = None
        self.error: Exception | None = None
        self.planned = threading.Lock()
        self.planned.acquire()


class SqliteCommitter:
    """Commits on one plain connection, used by the loop and by one thread in turns."""

    def __init__(self, database: Database, node_id: str) -> None:
        self._index = _Index(database, node_id)
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="commit", daemon=True)
        self._thread.start()

    async def prepare(self) -> None:
        """See `Committer.prepare`."""
        await self._in_thread(self._index.make_room)

    async def commit(self, arrivals: Sequence[Arrival]) -> list[Outcome]:
        """See `Committer.commit`."""
        return await self._in_thread(partial(self._commit, arrivals))

    async def drain(self, take: Take, told: Told) -> None:
        """See `Committer.drain`."""
        drain = _Drain(self._index, self._jobs.put, take, told)
        drain.start()
        await drain.over

    async def seal(self, packs: Sequence[tuple[int, int]]) -> None:
        """See `Committer.seal`."""
        await self._in_thread(partial(self._index.seal, packs))

    async def close(self) -> None:
        """See `Committer.close`."""
        await self._in_thread(self._index.close)
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _commit(self, arrivals: Sequence[Arrival]) -> list[Outcome]:
        sync(arrivals)
        plan = self._index.plan_patiently(arrivals)
        self._index.commit()
        self._index.learn(plan)
        self._index.tidy()
        return plan.outcomes

    async def _in_thread(self, call: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def job() -> None:
            try:
                result = call()
            except Exception as error:  # noqa: BLE001 - raised where it was asked for
                loop.call_soon_threadsafe(answer.set_exception, error)
            else:
                loop.call_soon_threadsafe(answer.set_result, result)

        self._jobs.put(job)
        return await answer

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


class _Drain:
    """Batch after batch, one at a time; `over` is done when nothing waits any more."""

    def __init__(
        self,
        index: _Index,
        put: Callable[[Callable[[], None]], None],
        take: Take,
        told: Told,
    ) -> None:
        self._index = index
        self._put = put
        self._take = take
        self._told = told
        self._left = DRAIN_BATCHES
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self._loop.create_future()

    def start(self) -> None:
        """Begin with the first batch."""
        self._plan(self._next())

    def _next(self) -> _Batch | None:
        """Let the thread begin with what waits; None where nothing does."""
        waiting = self._take() if self._left else []
        if not waiting:
            self.over.set_result(None)
            return None
        self._left -= 1
        batch = _Batch(waiting)
        self._put(partial(self._conclude, batch))
        return batch

    def _plan(self, batch: _Batch | None) -> None:
        """The loop's part: write the rows, unless somebody else is writing."""
        if batch is None:
            return
        try:
            batch.plan = self._index.plan_at_once(batch.arrivals)
        except Exception as error:  # noqa: BLE001 - every sender of the batch must hear of it
            batch.error = error
        finally:
            batch.planned.release()

    def _conclude(self, batch: _Batch) -> None:
        """The thread's part: sync the bytes, then commit what the loop has written."""
        error: Exception | None = None
        try:
            try:
                sync(batch.arrivals)
            finally:
                batch.planned.acquire()
            error = batch.error
            if error is None:
                if batch.plan is None:
                    batch.plan = self._index.plan_patiently(batch.arrivals)
                self._index.commit()
                self._index.tidy()
        except Exception as failure:  # noqa: BLE001 - every sender of the batch must hear of it
            self._index.roll_back()
            error = failure
        self._loop.call_soon_threadsafe(self._done, batch, error)

    def _done(self, batch: _Batch, error: Exception | None) -> None:
        """A batch is over: the thread goes on at once, then its senders hear of it."""
        if error is None and batch.plan is not None:
            self._index.learn(batch.plan)
        following = self._next()
        try:
            outcomes = batch.plan.outcomes if batch.plan is not None else []
            self._told(batch.waiting, outcomes if error is None else error)
        finally:
            self._plan(following)


class _Index:
    """The connection and what is remembered of the rows behind it; one user at a time."""

    def __init__(self, database: Database, node_id: str) -> None:
        self._database = database
        self._node_id = node_id
        self._memory = Memory()
        self._connection: sqlite3.Connection | None = None
        self._commits = 0

    def make_room(self) -> None:
        """Let the write-ahead log have its size from the start: a commit then writes over blocks
        that are there, and takes a third less than where the file grows.

        Zeros behind the last frame are no frame (https://sqlite.org/walformat.html, section 4.5),
        and under the write lock nobody appends. A checkpoint leaves the file as long as it is.
        """
        connection = self._connected()
        _patiently(connection, "BEGIN IMMEDIATE", ())
        try:
            index = sqlite_file(self._database.settings)
            with index.with_name(index.name + "-wal").open("r+b") as log:
                missing = _LOG_BYTES - log.seek(0, os.SEEK_END)
                if missing > 0:
                    log.write(bytes(missing))
                    log.flush()
                    os.fsync(log.fileno())
        except OSError as error:  # no room on the disk: it grows as it must
            _log.warning("log_has_no_room", why=str(error))
        finally:
            connection.execute("ROLLBACK")

    def plan_at_once(self, arrivals: Sequence[Arrival]) -> BatchPlan | None:
        """Write the rows of a batch; None where it has to be done patiently: somebody else has the
        write lock, or a row that was remembered is gone.
        """
        connection = self._connected()
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if _is_busy(error):
                return None
            raise index_failed(error) from error
        try:
            return self._write(connection, arrivals)
        except (sqlite3.IntegrityError, Stale):
            return None
        except sqlite3.Error as error:
            raise index_failed(error) from error

    def plan_patiently(self, arrivals: Sequence[Arrival]) -> BatchPlan:
        """Write the rows of a batch, waiting for the write lock; never on the loop."""
        connection = self._connected()
        try:
            _patiently(connection, "BEGIN IMMEDIATE", ())
            with contextlib.suppress(sqlite3.IntegrityError, Stale):  # a row we knew was deleted
                return self._write(connection, arrivals)
            _patiently(connection, "BEGIN IMMEDIATE", ())
            return self._write(connection, arrivals)
        except (sqlite3.Error, Stale) as error:
            raise index_failed(error) from error

    def commit(self) -> None:
        """Make the rows durable."""
        try:
            self._connected().execute(_COMMIT)
        except sqlite3.Error as error:
            self.roll_back()
            raise index_failed(error) from error

    def tidy(self) -> None:
        """Now and then, after a commit: move the write-ahead log home. A failure harms nobody."""
        self._commits += 1
        if self._commits % _CHECKPOINT_EVERY:
            return
        try:
            self._connected().execute(_CHECKPOINT)
        except sqlite3.Error as error:
            _log.warning("checkpoint_failed", why=str(error))

    def roll_back(self) -> None:
        """Give up what is not committed, and what was remembered: it may be wrong."""
        self._memory.clear()
        if self._connection is not None and self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # a broken connection has rolled back itself
                self._connection.execute("ROLLBACK")

    def learn(self, plan: BatchPlan) -> None:
        """The plan is committed: what it found out is true now."""
        learn(plan, self._memory)

    def seal(self, packs: Sequence[tuple[int, int]]) -> None:
        """See `Committer.seal`."""
        words = sql.PACK_SEAL.sql("sqlite")
        connection = self._connected()
        for pack_id, size in packs:
            args = sql.PACK_SEAL.args("sqlite", {"id": pack_id, "bytes": size})
            _patiently(connection, words, args)

    def close(self) -> None:
        """Give up the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._database.connect_sqlite()
            self._connection.execute("PRAGMA wal_autocheckpoint = 0")
            self._connection.execute("PRAGMA busy_timeout = 0")  # the loop must not wait
        return self._connection

    def _write(self, connection: sqlite3.Connection, arrivals: Sequence[Arrival]) -> BatchPlan:
        """Run the plan of a batch in the transaction that has begun; ended where it fails."""
        try:
            return self._run(connection, arrivals)
        except BaseException:
            self.roll_back()
            raise

    def _run(self, connection: sqlite3.Connection, arrivals: Sequence[Arrival]) -> BatchPlan:
        plan = BatchPlan(arrivals, self._memory, self._node_id, now_ms())
        steps = plan.steps()
        try:
            step = next(steps)
            while True:
                step = steps.send(_run_step(connection, step))
        except StopIteration:
            return plan


def _patiently(connection: sqlite3.Connection, words: str, args: Any) -> None:
    """Execute what needs the write lock, as often as somebody else has it."""
    patience = time.monotonic() + _BUSY_FOR_S
    while True:
        try:
            connection.execute(words, args)
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() > patience:
                raise index_failed(error) from error
            time.sleep(_BUSY_PAUSE_S)
        else:
            return


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def _run_step(connection: sqlite3.Connection, step: Step) -> list[Any]:
    if isinstance(step, Instances):
        new = []
        for row in step.rows:
            if connection.execute(sql.INSTANCE_INSERT_SQLITE, row).rowcount:
                new.append((row[0], row[2]))
        return new
    words = step.statement.sql("sqlite")
    return connection.execute(words, step.statement.args("sqlite", step.params)).fetchall()
