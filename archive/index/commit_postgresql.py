"""Committing a batch to PostgreSQL: the sync in a thread, then few statements in a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg

from archive.index import statements as sql
from archive.index.arrival import Arrival
from archive.index.durable import DRAIN_BATCHES, Take, Told, index_failed, learn, sync
from archive.index.plan import BatchPlan
from archive.index.steps import Instances, Memory, Stale, Step
from archive.journal.clock import now_ms
from archive.journal.domain import Outcome
from kernel.db.database import Database


class PostgresCommitter:
    """Syncs in a thread and commits on a connection of its own; a batch is few statements."""

    def __init__(self, database: Database, node_id: str) -> None:
        self._database = database
        self._node_id = node_id
        self._memory = Memory()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sync")

    async def prepare(self) -> None:
        """See `Committer.prepare`; connections are there already."""

    async def commit(self, arrivals: Sequence[Arrival]) -> list[Outcome]:
        """See `Committer.commit`."""
        await asyncio.get_running_loop().run_in_executor(self._thread, sync, arrivals)
        try:
            plan = await self._transaction(arrivals)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, Stale) as error:
            self._memory.clear()
            raise index_failed(error) from error
        learn(plan, self._memory)
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
        plan = BatchPlan(arrivals, self._memory, self._node_id, now_ms())
        async with self._database.pg_pool.acquire() as connection, connection.transaction():
            await self._database.enter(connection, {one.origin.owner_id for one in arrivals})
            steps = plan.steps()
            try:
                step = next(steps)
                while True:
                    step = steps.send(await _run_step(connection, step))
            except StopIteration:
                pass
        return plan


async def _run_step(connection: asyncpg.Connection, step: Step) -> list[Any]:
    if isinstance(step, Instances):
        columns = [list(column) for column in zip(*step.rows, strict=True)]
        found = await connection.fetch(sql.INSTANCE_INSERT_POSTGRESQL, *columns)
        return [(row[0], row[1]) for row in found]
    words = step.statement.sql("postgresql")
    rows = await connection.fetch(words, *step.statement.args("postgresql", step.params))
    return list(rows)
