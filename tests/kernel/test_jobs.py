"""Jobs are durable: they survive a crash, report progress and can be cancelled."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from kernel.db.database import Database
from kernel.errors import Conflict, Invalid, NotFound, Unavailable
from kernel.jobs.domain import TRANSITIONS, Job, State, is_over, may_go, pause_s
from kernel.jobs.runner import JobCancelled, JobContext, JobHandler, Jobs
from kernel.jobs.service import cancel, enqueue, get, listed
from kernel.jobs.tables import job
from kernel.scope import Scope
from kernel.settings import DatabaseSettings, Settings
from tests.waiting import eventually

SYSTEM = Scope.system("test")
STRANGER = Scope(frozenset({99}), SYSTEM.actor, "test")
LEGAL = {
    ("queued", "running"),
    ("queued", "cancelled"),
    ("running", "done"),
    ("running", "failed"),
    ("running", "cancelled"),
    ("running", "queued"),
}


async def ask(database: Database, kind: str = "count", key: str = "", **args: Any) -> int:
    async with database.session(SYSTEM, write=True) as session:
        return await enqueue(session, kind, args, 1, key=key)


async def look(database: Database, job_id: int) -> Job:
    async with database.session(SYSTEM) as session:
        return await get(session, SYSTEM, job_id)


async def stop(database: Database, job_id: int) -> None:
    async with database.session(SYSTEM, write=True) as session:
        await cancel(session, SYSTEM, job_id)


async def over(database: Database, job_id: int) -> Job:
    async def ended() -> Job | None:
        found = await look(database, job_id)
        return found if is_over(found.state) else None

    found = await eventually(ended)
    assert found is not None
    return found


@asynccontextmanager
async def running(
    database: Database, handlers: Mapping[str, JobHandler], **options: Any
) -> AsyncIterator[Jobs]:
    jobs = Jobs(database, handlers, **{"poll_s": 0.02, "pause": lambda _: 0.02, **options})
    task = asyncio.create_task(jobs.run())
    try:
        yield jobs
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def count(context: JobContext) -> Mapping[str, Any]:
    context.progress(3, 3, "counted")
    return {"sum": sum(context.args["numbers"]), "owner": context.owner_id}


@pytest.mark.parametrize(("state", "to"), list(product(TRANSITIONS, repeat=2)))
def test_only_listed_transitions_are_legal(state: State, to: State) -> None:
    assert may_go(state, to) is ((state, to) in LEGAL)


def test_pauses_grow_to_five_minutes() -> None:
    assert [pause_s(n) for n in (1, 2, 3, 20)] == [2, 4, 8, 300]


@pytest.mark.backend
async def test_a_job_runs_and_leaves_its_result(database: Database) -> None:
    job_id = await ask(database, numbers=[1, 2, 3])
    async with running(database, {"count": count}):
        found = await over(database, job_id)
    assert (found.state, found.result) == ("done", {"sum": 6, "owner": 1})
    assert (found.done, found.total, found.note) == (3, 3, "counted")
    assert found.started_at is not None
    assert found.finished_at is not None
    assert found.created_at <= found.started_at <= found.finished_at


@pytest.mark.backend
async def test_many_workers_run_each_job_once(database: Database) -> None:
    ran: list[int] = []

    async def note(context: JobContext) -> None:
        ran.append(context.args["n"])

    ids = [await ask(database, "note", n=n) for n in range(30)]
    async with running(database, {"note": note}), running(database, {"note": note}, slots=4):
        for job_id in ids:
            await over(database, job_id)
    assert sorted(ran) == list(range(30))


@pytest.mark.backend
async def test_a_rolled_back_request_leaves_no_job(database: Database) -> None:
    with pytest.raises(RuntimeError):
        async with database.session(SYSTEM, write=True) as session:
            await enqueue(session, "count", {}, 1)
            raise RuntimeError
    async with database.session(SYSTEM) as session:
        assert await listed(session, SYSTEM) == []


@pytest.mark.backend
async def test_of_one_key_only_one_job_lives(database: Database) -> None:
    first = await ask(database, key="study 1", numbers=[])
    assert await ask(database, key="study 1", numbers=[]) == first
    assert await ask(database, key="study 2", numbers=[]) != first
    async with running(database, {"count": count}):
        await over(database, first)
    assert await ask(database, key="study 1", numbers=[]) != first


@pytest.mark.backend
async def test_progress_is_seen_while_it_runs_and_it_can_be_cancelled(database: Database) -> None:
    async def endless(context: JobContext) -> None:
        context.progress(7, 100, "half way")
        while not context.cancelled:  # noqa: ASYNC110 - as a handler between two steps
            await asyncio.sleep(0.01)
        raise JobCancelled

    job_id = await ask(database, "endless")
    async with running(database, {"endless": endless}):

        async def told() -> bool:
            return (await look(database, job_id)).note == "half way"

        await eventually(told)
        seen = await look(database, job_id)
        assert (seen.state, seen.done, seen.total) == ("running", 7, 100)
        await stop(database, job_id)
        found = await over(database, job_id)
    assert found.state == "cancelled"
    with pytest.raises(Conflict):
        await stop(database, job_id)


@pytest.mark.backend
async def test_a_queued_job_is_cancelled_at_once(database: Database) -> None:
    job_id = await ask(database, numbers=[])
    await stop(database, job_id)
    assert (await look(database, job_id)).state == "cancelled"


@pytest.mark.backend
async def test_jobs_are_listed_newest_first_within_the_scope(database: Database) -> None:
    ids = [await ask(database, numbers=[n]) for n in range(3)]
    await stop(database, ids[1])
    async with database.session(SYSTEM) as session:
        assert [one.id for one in await listed(session, SYSTEM)] == ids[::-1]
        assert [one.id for one in await listed(session, SYSTEM, before_id=ids[2], limit=1)] == [
            ids[1]
        ]
        assert [one.id for one in await listed(session, SYSTEM, states=["cancelled"])] == [ids[1]]
        assert await listed(session, STRANGER) == []
        with pytest.raises(NotFound):
            await get(session, STRANGER, ids[0])


@pytest.mark.backend
async def test_what_is_unavailable_is_tried_again_and_a_refusal_is_not(
    database: Database,
) -> None:
    async def flaky(context: JobContext) -> Mapping[str, Any]:
        if context.attempt < 3:
            raise Unavailable("storage.failed", "The store does not answer.")
        return {"attempt": context.attempt}

    async def refusing(_: JobContext) -> None:
        raise Invalid("study.bad", "Study {uid} is bad.", uid="1.2")

    async def buggy(_: JobContext) -> None:
        raise KeyError("王小明")

    handlers = {"flaky": flaky, "refusing": refusing, "buggy": buggy}
    ids = {kind: await ask(database, kind) for kind in handlers}
    async with running(database, handlers, attempts=3):
        ended = {kind: await over(database, job_id) for kind, job_id in ids.items()}
    assert (ended["flaky"].state, ended["flaky"].result) == ("done", {"attempt": 3})
    assert (ended["refusing"].state, ended["refusing"].attempts) == ("failed", 1)
    assert (ended["refusing"].error_code, ended["refusing"].error) == (
        "study.bad",
        "Study 1.2 is bad.",
    )
    assert (ended["buggy"].error_code, ended["buggy"].attempts) == ("job.failed", 3)
    assert "王" not in ended["buggy"].error


@pytest.mark.backend
async def test_an_orderly_stop_puts_the_job_back_without_counting(database: Database) -> None:
    begun = asyncio.Event()

    async def slow(_: JobContext) -> None:
        begun.set()
        await asyncio.Event().wait()

    job_id = await ask(database, "slow")
    async with running(database, {"slow": slow}):
        await asyncio.wait_for(begun.wait(), 20)
    found = await look(database, job_id)
    assert (found.state, found.attempts) == ("queued", 0)


@pytest.mark.backend
async def test_a_job_of_an_unknown_kind_waits(database: Database) -> None:
    unknown = await ask(database, "unknown")
    known = await ask(database, numbers=[])
    async with running(database, {"count": count}):
        await over(database, known)
    assert (await look(database, unknown)).state == "queued"


@pytest.mark.backend
async def test_a_job_whose_lease_was_lost_is_stopped_here(database: Database) -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def slow(_: JobContext) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    job_id = await ask(database, "slow")
    async with running(database, {"slow": slow}):
        await asyncio.wait_for(begun.wait(), 20)
        await stolen(database, job_id)
        await asyncio.wait_for(stopped.wait(), 20)
        assert (await look(database, job_id)).state == "running"


async def stolen(database: Database, job_id: int) -> None:
    async with database.session(SYSTEM, write=True) as session:
        await session.execute(job.update().where(job.c.id == job_id).values(holder="another"))


CRASHING = """
import asyncio, os, sys
from pathlib import Path
from kernel.db.database import Database
from kernel.jobs.runner import Jobs
from tests.kernel.test_jobs import settings_of

async def hang(context):
    print("begun", flush=True)
    await asyncio.Event().wait()

async def main():
    database = await Database.open(settings_of(sys.argv[1], sys.argv[2]))
    await Jobs(database, {"count": hang}, lease_s=0.6, poll_s=0.05).run()

asyncio.run(main())
"""


def settings_of(data: str, url: str) -> Settings:
    return Settings(data=Path(data), database=DatabaseSettings(url=url))


@pytest.mark.backend
async def test_a_job_of_a_killed_process_is_taken_over(database: Database) -> None:
    job_id = await ask(database, numbers=[4])
    where = (str(database.settings.data), database.settings.database.url)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CRASHING, *where, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 30) == b"begun\n"
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert (await look(database, job_id)).state == "running"
    async with running(database, {"count": count}):
        found = await over(database, job_id)
    assert (found.state, found.attempts, found.result["sum"]) == ("done", 2, 4)


@pytest.mark.backend
async def test_a_job_that_kills_its_process_every_time_is_given_up(database: Database) -> None:
    job_id = await ask(database, numbers=[])
    jobs = Jobs(database, {"count": count}, attempts=2, lease_s=-1.0)
    assert await jobs._claim() is not None
    assert await jobs._claim() is not None
    assert await jobs._claim() is None
    found = await look(database, job_id)
    assert (found.state, found.error_code) == ("failed", "job.lost")
