"""Sessions, hot reads and row-level security on both back ends."""

import asyncio
import sqlite3

import pytest
import sqlalchemy as sa

from kernel.db.database import Database, connect_sqlite
from kernel.db.statement import Statement, among
from kernel.db.tables import owner
from kernel.errors import Unavailable
from kernel.events.tables import event
from kernel.scope import Actor, Scope
from kernel.settings import DatabaseSettings, Settings

ADD = sa.insert(owner)
ALL = Statement(sa.select(owner.c.id, owner.c.path).order_by(owner.c.id))
SOME = Statement(sa.select(owner.c.path).where(among(owner.c.id, "ids")).order_by(owner.c.id))
EVENTS = Statement(sa.select(event.c.topic).order_by(event.c.id))
SYSTEM = Scope.system("test")


def scope_of(*owners: int) -> Scope:
    return Scope(frozenset(owners), Actor("session", "7"), "test")


async def add_owners(database: Database) -> None:
    async with database.session(SYSTEM, write=True) as session:
        rows = [{"id": n, "path": f"/52/{n}", "state": "active"} for n in (2, 3)]
        await session.execute(ADD, rows)


async def add_event(database: Database, scope: Scope, owner_id: int) -> None:
    row = {"topic": f"t{owner_id}", "key": "", "payload": "{}", "owner_id": owner_id}
    async with database.session(scope, write=True) as session:
        await session.execute(sa.insert(event).values(**row, created_at=1.0))


@pytest.mark.backend
async def test_a_fresh_database_knows_the_local_owner(database: Database) -> None:
    assert await database.fetch(ALL, {}) == [(1, "/local")]


@pytest.mark.backend
async def test_a_session_commits_at_its_end_and_rolls_back_on_an_error(database: Database) -> None:
    await add_owners(database)
    with pytest.raises(RuntimeError):
        async with database.session(SYSTEM, write=True) as session:
            await session.execute(ADD, {"id": 9, "path": "/9", "state": "active"})
            raise RuntimeError
    assert [row[0] for row in await database.fetch(ALL, {})] == [1, 2, 3]


@pytest.mark.backend
async def test_a_reading_session_cannot_write(database: Database) -> None:
    with pytest.raises(sa.exc.DBAPIError, match=r"(?i)read.?only"):
        async with database.session(SYSTEM) as session:
            await session.execute(ADD, {"id": 9, "path": "/9", "state": "active"})
    await add_owners(database)


@pytest.mark.backend
async def test_a_list_parameter_is_compiled_once_and_takes_any_length(database: Database) -> None:
    await add_owners(database)
    assert await database.fetch(SOME, {"ids": [3, 1]}) == [("/local",), ("/52/3",)]
    assert await database.fetch(SOME, {"ids": []}) == []


def test_a_list_parameter_keeps_the_index_of_the_column(settings: Settings) -> None:
    connection = connect_sqlite(settings.data / "index.sqlite")
    plan = connection.execute(
        "EXPLAIN QUERY PLAN " + SOME.sql("sqlite"), SOME.args("sqlite", {"ids": [1]})
    ).fetchall()
    connection.close()
    assert any("USING INTEGER PRIMARY KEY" in step[3] for step in plan)


def test_a_statement_with_an_expanding_list_is_refused() -> None:
    listed = Statement(sa.select(owner).where(owner.c.id.in_([1, 2])))
    with pytest.raises(ValueError, match="among"):
        listed.sql("sqlite")


def test_a_missing_parameter_is_named() -> None:
    with pytest.raises(KeyError, match="ids"):
        SOME.args("postgresql", {})


@pytest.mark.backend
async def test_readers_work_while_a_writer_is_busy(database: Database) -> None:
    async with database.session(SYSTEM, write=True) as session:
        await session.execute(ADD, {"id": 2, "path": "/2", "state": "active"})
        rows = await asyncio.gather(*(database.fetch(ALL, {}) for _ in range(20)))
    assert rows == [[(1, "/local")]] * 20


async def test_sqlite_connections_are_durable_and_check_keys(database: Database) -> None:
    connection = database.connect_sqlite()
    asked = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
    answers = [connection.execute(f"PRAGMA {one}").fetchone()[0] for one in asked]
    connection.close()
    assert answers == ["wal", 2, 1, 10_000]
    async with database.session(SYSTEM) as session:
        held = [await session.scalar(sa.text(f"PRAGMA {one}")) for one in asked]
    assert held == answers


async def test_a_lock_that_stays_is_reported_as_busy(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "kernel.db.database._PRAGMAS", ("PRAGMA journal_mode = WAL", "PRAGMA busy_timeout = 1")
    )
    blocker = sqlite3.connect(database.settings.data / "index.sqlite", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="busy"):
        await add_owners(database)
    blocker.close()


async def test_a_server_that_does_not_answer_is_reported(settings: Settings) -> None:
    away = DatabaseSettings(url="postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(Unavailable) as caught:
        await Database.open(Settings(data=settings.data, database=away))
    assert caught.value.code == "database.unreachable"


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_a_database_that_was_never_set_up_is_reported(empty_settings: Settings) -> None:
    nobody = Settings(data=empty_settings.data, database=empty_settings.database)
    with pytest.raises(Unavailable) as caught:
        await Database.open(nobody, "nobody")  # type: ignore[arg-type]
    assert caught.value.code == "database.not_set_up"


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_row_security_hides_and_refuses_other_owners_rows(settings: Settings) -> None:
    system = await Database.open(settings, "svc")
    people = await Database.open(settings, "app")
    await add_owners(system)
    for number in (2, 3):
        await add_event(system, SYSTEM, number)
    await add_event(people, scope_of(2), 2)
    with pytest.raises(sa.exc.DBAPIError, match="row-level security"):
        await add_event(people, scope_of(2), 3)
    assert await people.fetch(EVENTS, {}, scope_of(2)) == [("t2",), ("t2",)]
    assert await people.fetch(EVENTS, {}, scope_of(2, 3)) == [("t2",), ("t3",), ("t2",)]
    assert await people.fetch(EVENTS, {}) == []
    assert await people.fetch(EVENTS, {}, SYSTEM) == []
    async with people.session(scope_of(3)) as session:
        assert (await session.scalars(sa.select(event.c.topic))).all() == ["t3"]
    async with people.session(SYSTEM) as session:
        assert (await session.scalars(sa.select(event.c.topic))).all() == []
    assert len(await system.fetch(EVENTS, {})) == 3
    await people.close()
    await system.close()


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_the_serving_role_cannot_change_the_schema(settings: Settings) -> None:
    people = await Database.open(settings, "app")
    with pytest.raises(sa.exc.DBAPIError, match=r"permission denied|must be owner"):
        async with people.session(scope_of(1), write=True) as session:
            await session.execute(sa.text("CREATE TABLE mine (id int)"))
    await people.close()
