"""Events are numbered after commit and reach every subscriber at least once, in order."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import sqlalchemy as sa

from kernel.db.database import Database
from kernel.db.ringer import bell_folder
from kernel.errors import Invalid, NotFound
from kernel.events.bell import Bell
from kernel.events.dispatcher import Dispatcher
from kernel.events.domain import Event, pause_s
from kernel.events.service import EMIT, dead_letters, emit, feed, number_events, revive
from kernel.events.tables import event_delivery, event_subscriber
from kernel.scope import Scope
from kernel.settings import Settings
from tests.waiting import eventually

SYSTEM = Scope.system("test")
TOPIC = "study.settled.v1"


async def tell(database: Database, *keys: str, topic: str = TOPIC) -> None:
    async with database.session(SYSTEM, write=True) as session:
        for key in keys:
            await emit(session, topic, {"study": key}, owner_id=1, key=key)


class Hearer:
    """A handler that remembers, and fails where told."""

    def __init__(self, fails: Callable[[Event], bool] = lambda _: False) -> None:
        self.keys: list[str] = []
        self.fails = fails
        self._heard = asyncio.Event()

    async def __call__(self, event: Event) -> None:
        self._heard.set()
        if self.fails(event):
            raise Invalid("test.fails", "It does not want {key}.", key=event.key)
        self.keys.append(event.key)

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not done():
                await self._heard.wait()
                self._heard.clear()


@asynccontextmanager
async def running(dispatcher: Dispatcher) -> AsyncIterator[None]:
    task = asyncio.create_task(dispatcher.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.backend
async def test_a_feed_shows_events_in_the_order_of_their_numbers(database: Database) -> None:
    await tell(database, "a", "b")
    await tell(database, "c", topic="other.v1")
    assert await feed(database, 0, 10) == []
    assert await number_events(database) == 3
    assert await number_events(database) == 0
    found = await feed(database, 0, 10)
    assert [(one.seq, one.key) for one in found] == [(1, "a"), (2, "b"), (3, "c")]
    assert found[0].payload == {"study": "a"}
    assert [one.key for one in await feed(database, 1, 10, {TOPIC})] == ["b"]
    assert len(await feed(database, 0, 2)) == 2


@pytest.mark.backend
async def test_a_feed_stays_within_its_scope(database: Database) -> None:
    await tell(database, "a")
    await number_events(database)
    stranger = Scope(frozenset({99}), SYSTEM.actor, "test")
    assert await feed(database, 0, 10, scope=stranger) == []


@pytest.mark.backend
async def test_a_rolled_back_change_tells_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError):
        async with database.session(SYSTEM, write=True) as session:
            await emit(session, TOPIC, {}, owner_id=1)
            raise RuntimeError
    assert await number_events(database) == 0


@pytest.mark.backend
async def test_the_hot_statement_writes_the_same_event(database: Database) -> None:
    params = {"topic": TOPIC, "key": "h", "payload": '{"n":1}', "owner_id": 1, "created_at": 5.5}
    sql, args = EMIT.sql(database.dialect), EMIT.args(database.dialect, params)
    if database.dialect == "sqlite":
        connection = database.connect_sqlite()
        connection.execute(sql, args)
        connection.close()
    else:
        await database.pg_pool.fetchval(sql, *args)
    await number_events(database)
    (found,) = await feed(database, 0, 10)
    assert (found.key, found.payload, found.created_at.timestamp()) == ("h", {"n": 1}, 5.5)


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_an_event_that_commits_late_is_never_skipped(database: Database) -> None:
    """On PostgreSQL a smaller id may commit after a larger one that was already read."""
    async with database.session(SYSTEM, write=True) as slow:
        await emit(slow, TOPIC, {}, owner_id=1, key="slow")
        await tell(database, "quick")
        await number_events(database)
        assert [one.key for one in await feed(database, 0, 10)] == ["quick"]
    await number_events(database)
    assert [one.key for one in await feed(database, 1, 10)] == ["slow"]


@pytest.mark.backend
async def test_concurrent_sequencers_leave_no_gap(database: Database) -> None:
    for number in range(5):
        await tell(database, *(f"{number}.{one}" for one in range(60)))
    await asyncio.gather(*(number_events(database) for _ in range(6)))
    while await number_events(database):
        pass
    assert [one.seq for one in await feed(database, 0, 1000)] == list(range(1, 301))


@pytest.mark.backend
async def test_subscribers_get_their_topics_in_order(database: Database) -> None:
    studies, others = Hearer(), Hearer()
    dispatcher = Dispatcher(database)
    dispatcher.subscribe("studies", {TOPIC}, studies)
    dispatcher.subscribe("others", {"other.v1"}, others)
    await tell(database, "early")
    async with running(dispatcher):
        await tell(database, *(str(n) for n in range(250)))
        await tell(database, "x", topic="other.v1")
        await studies.until(lambda: len(studies.keys) == 251)
        await others.until(lambda: len(others.keys) == 1)
    assert studies.keys == ["early", *(str(n) for n in range(250))]
    assert others.keys == ["x"]


@pytest.mark.backend
async def test_a_failed_event_is_retried_while_others_pass_but_not_its_key(
    database: Database,
) -> None:
    refusals = 2

    def fails(event: Event) -> bool:
        nonlocal refusals
        refusals -= event.key == "bad"
        return event.key == "bad" and refusals >= 0

    hearer = Hearer(fails)
    dispatcher = Dispatcher(database, pause=lambda _: 0.05, poll_s=0.02)
    dispatcher.subscribe("hearer", {TOPIC}, hearer)
    await tell(database, "bad", "good", "bad", "fine")
    async with running(dispatcher):
        await hearer.until(lambda: len(hearer.keys) == 4)
    assert hearer.keys == ["good", "fine", "bad", "bad"]


@pytest.mark.backend
async def test_an_event_that_always_fails_becomes_a_dead_letter_and_can_be_revived(
    database: Database,
) -> None:
    broken = True
    hearer = Hearer(lambda _: broken)
    dispatcher = Dispatcher(database, pause=lambda _: 0.0, attempts=3, poll_s=0.02)
    dispatcher.subscribe("hearer", {TOPIC}, hearer)
    await tell(database, "a")
    async with running(dispatcher):
        (letter,) = await eventually(lambda: dead_letters(database))
        assert (letter.event.key, letter.attempts, letter.error) == ("a", 3, "test.fails")
        broken = False
        async with database.session(SYSTEM, write=True) as session:
            await revive(session, "hearer", letter.event.id)
        await hearer.until(lambda: hearer.keys == ["a"])
    with pytest.raises(NotFound):
        async with database.session(SYSTEM, write=True) as session:
            await revive(session, "hearer", letter.event.id)


@pytest.mark.backend
async def test_a_restarted_subscriber_goes_on_where_it_was(database: Database) -> None:
    for keys in (["a", "b"], ["c"]):
        await tell(database, *keys)
        hearer = Hearer()
        dispatcher = Dispatcher(database, lease_s=0.0)
        dispatcher.subscribe("hearer", {TOPIC}, hearer)
        async with running(dispatcher):
            await hearer.until(lambda: len(hearer.keys) == len(keys))  # noqa: B023
            await saved(database, 2 if keys == ["a", "b"] else 3)
        assert hearer.keys == keys


async def saved(database: Database, seq: int) -> None:
    async def there() -> bool:
        async with database.session(SYSTEM) as session:
            return await session.scalar(sa.select(event_subscriber.c.seq)) == seq

    await eventually(there)


@pytest.mark.backend
async def test_one_of_two_dispatchers_serves_a_subscriber(database: Database) -> None:
    hearers = [Hearer(), Hearer()]
    dispatchers = [Dispatcher(database, poll_s=0.02) for _ in hearers]
    for dispatcher, hearer in zip(dispatchers, hearers, strict=True):
        dispatcher.subscribe("same", {TOPIC}, hearer)
    async with running(dispatchers[0]), running(dispatchers[1]):
        for number in range(20):
            await tell(database, str(number))
        await saved(database, 20)
    assert sorted(hearers[0].keys + hearers[1].keys, key=int) == [str(n) for n in range(20)]
    assert [] in (hearers[0].keys, hearers[1].keys)


@pytest.mark.backend
async def test_a_waiting_delivery_is_kept_in_the_database(database: Database) -> None:
    dispatcher = Dispatcher(database, pause=lambda _: 3600.0)
    dispatcher.subscribe("hearer", {TOPIC}, Hearer(lambda _: True))
    await tell(database, "a")
    async with running(dispatcher):
        await saved(database, 1)
    async with database.session(SYSTEM) as session:
        (row,) = (await session.execute(sa.select(event_delivery))).all()
    assert (row.state, row.attempts) == ("waiting", 1)


def test_a_name_subscribes_once() -> None:
    dispatcher = Dispatcher(None)  # type: ignore[arg-type]
    dispatcher.subscribe("a", {TOPIC}, Hearer())
    with pytest.raises(ValueError, match="twice"):
        dispatcher.subscribe("a", {TOPIC}, Hearer())


def test_pauses_grow_to_an_hour() -> None:
    assert [pause_s(n) for n in (1, 2, 3, 20)] == [2, 4, 8, 3600]


@pytest.mark.backend
async def test_a_bell_wakes_other_listeners_and_itself(settings: Settings) -> None:
    ours, theirs = await Database.open(settings), await Database.open(settings)
    one, two = await Bell.open(ours), await Bell.open(theirs)
    assert not await one.wait(0.01)
    one.ring()
    assert await two.wait(5)
    assert await one.wait(5)
    ours.ringer.ring()
    assert await two.wait(5)
    await one.close()
    await two.close()
    await ours.close()
    await theirs.close()


async def test_a_dead_listeners_socket_is_removed(database: Database) -> None:
    bell = await Bell.open(database)
    (path,) = bell_folder(database.settings).iterdir()
    left = path.with_name("dead")
    os.link(path, left)
    await bell.close()
    assert left.exists()
    database.ringer.ring()
    assert not left.exists()
