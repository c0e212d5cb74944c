"""Asking for background work, watching it, cancelling it."""

import json
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Select, and_, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from kernel.db.database import after_commit
from kernel.errors import Conflict, NotFound
from kernel.jobs.domain import Job, State, is_over
from kernel.jobs.tables import job
from kernel.scope import Scope

_LIVE = ("queued", "running")
_ALL = tuple(job.c)
# Arguments may be large, a list needs none.
_LISTED = tuple(one for one in _ALL if one.name != "args")


async def enqueue(
    session: AsyncSession,
    kind: str,
    args: Mapping[str, Any],
    owner_id: int,
    *,
    key: str = "",
    delay_s: float = 0.0,
    note: str = "",
) -> int:
    """Add a job to the session's transaction; its id. `note` says what it is while it waits.

    Of one `kind` and non-empty `key` at most one job is queued or running: asking again gives the
    id of that one.
    """
    now = time.time()
    row = {
        "kind": kind,
        "key": key,
        "args": json.dumps(dict(args), ensure_ascii=False),
        "owner_id": owner_id,
        "state": "queued",
        "attempts": 0,
        "due_at": now + delay_s,
        "holder": "",
        "cancel_asked": False,
        "done": 0,
        "note": note,
        "result": "{}",
        "error_code": "",
        "error": "",
        "created_at": now,
    }
    after_commit(session, session.info["ring"])
    if not key:
        made = await session.execute(insert(job).returning(job.c.id), row)
        return int(made.scalar_one())
    return await _enqueue_once(session, row)


async def get(session: AsyncSession, scope: Scope, job_id: int) -> Job:
    """One job; raises NotFound `job.not_found`."""
    found = await session.execute(_within(scope).where(job.c.id == job_id))
    row = found.mappings().one_or_none()
    if row is None:
        raise NotFound("job.not_found", "There is no job {job}.", job=job_id)
    return as_job(row)


async def listed(
    session: AsyncSession,
    scope: Scope,
    *,
    states: Collection[State] = (),
    before_id: int | None = None,
    limit: int = 50,
) -> list[Job]:
    """Jobs without their arguments, newest first; `before_id` continues a list."""
    wanted = _within(scope, _LISTED).order_by(job.c.id.desc()).limit(limit)
    if states:
        wanted = wanted.where(job.c.state.in_(states))
    if before_id is not None:
        wanted = wanted.where(job.c.id < before_id)
    return [as_job(row) for row in (await session.execute(wanted)).mappings()]


async def count_waiting(session: AsyncSession) -> int:
    """How many jobs are queued or running."""
    waiting = select(func.count()).select_from(job).where(job.c.state.in_(_LIVE))
    return int(await session.scalar(waiting) or 0)


async def cancel(session: AsyncSession, scope: Scope, job_id: int) -> None:
    """End a queued job, ask a running one to stop.

    Raises NotFound `job.not_found`, Conflict `job.over`.
    """
    now = time.time()
    at_once = (
        update(job)
        .where(job.c.id == job_id, job.c.state == "queued")
        .values(state="cancelled", finished_at=now)
        .returning(job.c.id)
    )
    ask = (
        update(job)
        .where(job.c.id == job_id, job.c.state == "running")
        .values(cancel_asked=True)
        .returning(job.c.id)
    )
    seen = await get(session, scope, job_id)
    if is_over(seen.state):
        raise Conflict("job.over", "The job ended already.")
    if await session.scalar(at_once) is None:
        await session.execute(ask)
    after_commit(session, session.info["ring"])


def as_job(row: Mapping[Any, Any]) -> Job:
    """A job from its row."""
    return Job(
        id=row["id"],
        kind=row["kind"],
        key=row["key"],
        args=json.loads(row["args"]) if "args" in row else {},
        owner_id=row["owner_id"],
        state=row["state"],
        attempts=row["attempts"],
        cancel_asked=row["cancel_asked"],
        done=row["done"],
        total=row["total"],
        note=row["note"],
        result=json.loads(row["result"]),
        error_code=row["error_code"],
        error=row["error"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
    )


def _within(scope: Scope, columns: Sequence[Column[Any]] = _ALL) -> Select[Any]:
    wanted = select(*columns)
    return wanted if scope.owners is None else wanted.where(job.c.owner_id.in_(scope.owners))


async def _enqueue_once(session: AsyncSession, row: Mapping[str, Any]) -> int:
    name = session.get_bind().dialect.name
    add = (postgresql if name == "postgresql" else sqlite).insert(job).on_conflict_do_nothing()
    live = select(job.c.id).where(
        and_(job.c.kind == row["kind"], job.c.key == row["key"], job.c.state.in_(_LIVE))
    )
    while True:  # the other one may end between the two statements
        made: int | None = (await session.execute(add.returning(job.c.id), row)).scalar()
        known = made if made is not None else await session.scalar(live)
        if known is not None:
            return int(known)
