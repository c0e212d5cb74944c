"""Running jobs: claimed under a lease, kept alive by a heartbeat, taken over after a crash."""

import asyncio
import json
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from sqlalchemy import Update, and_, bindparam, exists, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from kernel.db.database import Database
from kernel.db.statement import Statement
from kernel.errors import AppError, Unavailable
from kernel.events.bell import Bell
from kernel.i18n.catalog import marked
from kernel.jobs.domain import MAX_ATTEMPTS, Job, pause_s, worth_retrying
from kernel.jobs.service import as_job
from kernel.jobs.tables import job
from kernel.scope import Actor, Scope

_SCOPE = Scope.system("jobs")
_UNEXPECTED = marked("Something went wrong; the log knows more.")
_LOST = marked("The process that ran it ended every time.")

log = structlog.get_logger(__name__)


def _due(now: Any) -> Any:
    return or_(
        and_(job.c.state == "queued", job.c.due_at <= now),
        and_(job.c.state == "running", job.c.lease_until < now),
    )


_ASKED = Statement(
    select(job.c.holder, job.c.cancel_asked, job.c.state).where(job.c.id == bindparam("job_id"))
)


class JobCancelled(Exception):
    """A handler may raise this when it saw `context.cancelled`."""


class JobContext:
    """What a handler gets. `progress` and `cancelled` may be used from any thread."""

    def __init__(self, database: Database, claimed: Job) -> None:
        self.database = database
        self.job_id = claimed.id
        self.args = claimed.args
        self.owner_id = claimed.owner_id
        self.attempt = claimed.attempts
        self.scope = Scope(
            frozenset({claimed.owner_id}), Actor("system", f"job:{claimed.kind}"), claimed.kind
        )
        self.cancelled = claimed.cancel_asked
        self._progress = (claimed.done, claimed.total, claimed.note)
        self._written = self._progress

    def progress(self, done: int, total: int | None = None, note: str = "") -> None:
        """Say how far it is; written to the database within a second."""
        self._progress = (done, total, note)

    def check(self) -> None:
        """Raise JobCancelled when somebody asked to stop."""
        if self.cancelled:
            raise JobCancelled

    def columns(self) -> dict[str, Any]:
        """The progress as columns; written at the end in any case, a heartbeat may be late."""
        return dict(zip(("done", "total", "note"), self._progress, strict=True))

    def fresh_columns(self) -> dict[str, Any]:
        """The same when it changed since the last call, else nothing."""
        changed, self._written = self._progress != self._written, self._progress
        return self.columns() if changed else {}


JobHandler = Callable[[JobContext], Awaitable[Mapping[str, Any] | None]]


class Jobs:
    """Runs jobs of the kinds it has handlers for, several at a time.

    A handler is started again after a crash of its process, so it must bear being repeated. Long
    computing belongs into a thread: the heartbeat needs the loop.
    """

    def __init__(
        self,
        database: Database,
        handlers: Mapping[str, JobHandler],
        *,
        slots: int = 2,
        attempts: int = MAX_ATTEMPTS,
        lease_s: float = 30.0,
        poll_s: float = 0.5,
        pause: Callable[[int], float] = pause_s,
    ) -> None:
        self._database = database
        self._handlers = dict(handlers)
        self._slots = asyncio.Semaphore(slots)
        self._attempts = attempts
        self._lease_s = lease_s
        self._poll_s = poll_s
        self._pause = pause
        self._holder = f"{os.getpid()}-{uuid.uuid4().hex}"
        self._running: dict[int, tuple[JobContext, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Work until cancelled; running jobs then go back to the queue."""
        bell = await Bell.open(self._database)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._beat())
                while True:
                    await self._start_all(tasks, bell)
                    await bell.wait(self._poll_s)
        finally:
            await bell.close()

    async def _start_all(self, tasks: asyncio.TaskGroup, bell: Bell) -> None:
        """Start what is due while there are free slots."""
        try:
            while not self._slots.locked() and (claimed := await self._claim()):
                await self._slots.acquire()
                context = JobContext(self._database, claimed)
                task = tasks.create_task(self._run(claimed, context))
                task.add_done_callback(lambda _: bell.wake())  # a slot is free
                self._running[claimed.id] = (context, task)
        except (SQLAlchemyError, Unavailable, OSError):
            log.exception("jobs.claim_failed")

    async def _claim(self) -> Job | None:
        now = time.time()
        ready = and_(job.c.kind.in_(self._handlers), _due(now))
        async with self._database.session(_SCOPE) as session:
            if not await session.scalar(select(exists().where(ready))):
                return None  # a read first, so that idle processes take no lock
        choice = select(job.c.id).where(ready).order_by(job.c.due_at, job.c.id).limit(1)
        take = (
            update(job)
            .where(job.c.id == choice.with_for_update(skip_locked=True).scalar_subquery())
            .values(
                state="running",
                attempts=job.c.attempts + 1,
                holder=self._holder,
                lease_until=now + self._lease_s,
                started_at=now,
            )
            .returning(job)
        )
        async with self._database.session(_SCOPE, write=True) as session:
            row = (await session.execute(take)).mappings().one_or_none()
            if row is None:
                return None
            if row["attempts"] > self._attempts:
                await self._finish(session, row["id"], "failed", code="job.lost", error=_LOST)
                return None
        return as_job(row)

    async def _run(self, claimed: Job, context: JobContext) -> None:
        try:
            await self._attempt(claimed, context)
        except (SQLAlchemyError, Unavailable, OSError):
            # The lease runs out and the job is taken up again.
            log.exception("jobs.finish_failed", job_id=claimed.id)
        finally:
            self._running.pop(claimed.id, None)
            self._slots.release()

    async def _attempt(self, claimed: Job, context: JobContext) -> None:
        try:
            context.check()
            result = await self._handlers[claimed.kind](context)
        except JobCancelled:
            await self._end(context, "cancelled")
        except asyncio.CancelledError:
            await asyncio.shield(self._put_back(context, count=False))
            raise
        except Exception as error:
            log.exception("jobs.failed", job_id=claimed.id, kind=claimed.kind)
            if worth_retrying(error) and claimed.attempts < self._attempts:
                await self._put_back(context, pause=self._pause(claimed.attempts))
            else:
                code, text = _told(error)
                await self._end(context, "failed", code=code, error=text)
        else:
            state = "cancelled" if context.cancelled else "done"
            await self._end(context, state, result=json.dumps(dict(result or {})))

    async def _end(self, context: JobContext, state: str, **columns: str) -> None:
        async with self._database.session(_SCOPE, write=True) as session:
            await self._finish(session, context.job_id, state, **columns, progress=context)

    async def _finish(
        self,
        session: AsyncSession,
        job_id: int,
        state: str,
        *,
        code: str = "",
        error: str = "",
        result: str = "{}",
        progress: JobContext | None = None,
    ) -> None:
        last = progress.columns() if progress else {}
        change = self._mine(job_id).values(
            state=state,
            finished_at=time.time(),
            lease_until=None,
            error_code=code,
            error=error,
            result=result,
            **last,
        )
        await session.execute(change)

    async def _put_back(
        self, context: JobContext, *, pause: float = 0.0, count: bool = True
    ) -> None:
        change = self._mine(context.job_id).values(
            state="queued",
            lease_until=None,
            due_at=time.time() + pause,
            attempts=job.c.attempts - (0 if count else 1),
            **context.columns(),
        )
        async with self._database.session(_SCOPE, write=True) as session:
            await session.execute(change)

    def _mine(self, job_id: int) -> Update:
        held = and_(job.c.id == job_id, job.c.holder == self._holder, job.c.state == "running")
        return update(job).where(held)

    async def _beat(self) -> None:
        """Every moment: write progress, hear of cancelling; each third of the lease: renew it."""
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(self._poll_s)
            renew = time.monotonic() - renewed > self._lease_s / 3
            try:
                for context, task in list(self._running.values()):
                    await self._beat_one(context, task, renew=renew)
            except (SQLAlchemyError, Unavailable, OSError):
                log.exception("jobs.heartbeat_failed")
                continue
            if renew:
                renewed = time.monotonic()

    async def _beat_one(
        self, context: JobContext, task: "asyncio.Task[None]", *, renew: bool
    ) -> None:
        columns = context.fresh_columns()
        if columns or renew:
            change = self._mine(context.job_id).values(
                lease_until=time.time() + self._lease_s, **columns
            )
            async with self._database.session(_SCOPE, write=True) as session:
                await session.execute(change)
        seen = await self._database.fetch(_ASKED, {"job_id": context.job_id})
        holder, cancel_asked, state = seen[0]
        context.cancelled = context.cancelled or bool(cancel_asked)
        if context.job_id in self._running and (holder != self._holder or state != "running"):
            log.warning("jobs.lease_lost", job_id=context.job_id)
            task.cancel()


def _told(error: Exception) -> tuple[str, str]:
    """Code and words for the person who waits; an unexpected error's text stays in the log."""
    if isinstance(error, AppError):
        return error.code, str(error)
    return "job.failed", _UNEXPECTED
