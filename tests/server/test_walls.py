"""The second wall: what role yy_app can see and write on PostgreSQL, whatever a query forgets."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

import archive.query.service
import archive.retrieve.statements
from archive.decisions.service import Desk
from archive.query.domain import Query
from archive.query.service import Catalog
from archive.receive.service import Receiver
from archive.retrieve.service import Reader
from dataset.refs import StudyRef
from kernel.db.base import metadata
from kernel.db.database import Database
from kernel.db.statement import Statement
from kernel.db.tables import owner
from kernel.errors import NotFound, Unavailable
from kernel.scope import Actor, Scope
from kernel.settings import Settings
from tests.archive.material import ORIGIN, Made, make, uid
from tests.server.test_migrations import declare_all_tables

SYSTEM = Scope.system("test")
A, B = 2, 3
only_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)

# A journal segment holds records of several owners; a pack's row names nobody.
SHARED = {"pack"}
# Of what identity keeps, this is for everybody: the tree of organisations, and that it changed.
OPEN_TABLES = {"organisation", "organisation_version", "access_version"}


def scope_of(*owners: int) -> Scope:
    return Scope(frozenset(owners), Actor("session", "7"), "test")


@dataclass(slots=True)
class House:
    """Two hospitals' studies: 1 is A's, 2 is B's, 3 is the same study from both."""

    settings: Settings
    system: Database
    people: Database

    async def store(self, database: Database, owner_id: int, *made: Made) -> None:
        receiver = await Receiver.open(self.settings, database)
        try:
            origin = replace(ORIGIN, owner_id=owner_id)
            for one in made:
                await receiver.append(origin, one.identity, [one.data])
        finally:
            await receiver.close()


@pytest.fixture
async def house(settings: Settings, database: Database, backend: str) -> AsyncIterator[House]:
    people = database if backend == "sqlite" else await Database.open(settings, "app")
    async with database.session(SYSTEM, write=True) as session:
        rows = [{"id": n, "path": f"/52/{n}", "state": "active"} for n in (A, B)]
        await session.execute(sa.insert(owner), rows)
    found = House(settings, database, people)
    await found.store(people, A, make(1), make(3))
    await found.store(people, B, make(2), make(3))
    yield found
    if people is not database:
        await people.close()


def owned_tables() -> dict[str, sa.Table]:
    declare_all_tables()
    return {name: one for name, one in metadata.tables.items() if "owner_id" in one.columns}


@only_postgresql
async def test_every_table_with_an_owner_has_a_policy_for_those_who_serve_people(
    settings: Settings,
) -> None:
    connection = await asyncpg.connect(settings.database.url)
    rows = await connection.fetch(
        "SELECT tablename, cmd, qual, with_check FROM pg_policies WHERE 'yy_app' = ANY (roles)"
    )
    await connection.close()
    bounded: dict[str, set[str]] = {}
    for row in rows:
        said = row["qual"] if row["cmd"] == "SELECT" else (row["qual"] or "") + row["with_check"]
        if "app.owners" in (said or ""):
            bounded.setdefault(row["tablename"], set()).add(row["cmd"])
            assert "SELECT" in said, f"{row['tablename']}: the owners are read for every row"
    assert set(owned_tables()) - set(bounded) == SHARED
    assert {name for name, commands in bounded.items() if commands == {"SELECT"}} == {"audit"}


@only_postgresql
async def test_a_query_that_forgets_its_scope_gets_no_foreign_row(house: House) -> None:
    for name, table in owned_tables().items():
        if name in SHARED:
            continue
        everything = Statement(sa.select(table.c.owner_id))
        assert await house.people.fetch(everything, {}) == []
        assert await house.people.fetch(everything, {}, SYSTEM) == []
        found = await house.people.fetch(everything, {}, scope_of(A))
        assert {row[0] for row in found} <= {A}, name
        async with house.people.session(scope_of(B)) as session:
            assert set((await session.scalars(sa.select(table.c.owner_id))).all()) <= {B}
    seen = await house.people.fetch(Statement(sa.text("SELECT owner_id FROM study")), {}, SYSTEM)
    assert seen == []


@pytest.mark.backend
async def test_a_catalogue_and_a_reader_that_forget_their_scope_meet_the_second_wall(
    house: House, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgotten(column: Any, parameter: str, **how: bool) -> Any:
        return sa.true() if parameter == "owners" else among(column, parameter, **how)

    among = archive.query.service.among
    monkeypatch.setattr(archive.query.service, "among", forgotten)
    monkeypatch.setattr(archive.retrieve.statements, "among", forgotten)
    catalog, reader = Catalog(house.people), await Reader.open(house.settings, house.people)
    page = await catalog.search(scope_of(A), Query("STUDY"))
    found = await reader.find_any(scope_of(A), study_uids=[uid(1), uid(2), uid(3)])
    # SQLite has only the first wall, which shows that this test takes it away.
    walls = [A, A] if backend == "postgresql" else [A, A, B, B]
    assert sorted(match.owner_id for match in page.matches) == walls
    assert sorted(one.owner_id for one in found) == walls


@only_postgresql
async def test_what_a_batch_brings_is_written_as_its_owners_only(house: House) -> None:
    owners = Statement(sa.text("SELECT owner_id, count(*) FROM study GROUP BY 1 ORDER BY 1"))
    assert await house.system.fetch(owners, {}) == [(A, 2), (B, 2)]
    receiver = await Receiver.open(house.settings, house.people)
    enter = house.people.enter

    async def wrong(connection: asyncpg.Connection, _: object) -> None:
        await enter(connection, [A])

    house.people.enter = wrong  # type: ignore[method-assign]
    one = make(9)
    with pytest.raises(Unavailable):
        await receiver.append(replace(ORIGIN, owner_id=B), one.identity, [one.data])
    await receiver.close()
    assert await house.system.fetch(owners, {}) == [(A, 2), (B, 2)]


@pytest.mark.backend
async def test_decisions_of_a_person_touch_the_own_rows_only(house: House) -> None:
    desk = await Desk.open(house.settings, house.system, house.people)
    said = {"actor": "7", "reason": "test"}
    with pytest.raises(NotFound):
        await desk.decide(scope_of(A), "hold", StudyRef.parse(uid(2)), **said)
    with pytest.raises(NotFound):
        await desk.about(scope_of(A), StudyRef.parse(uid(2)))
    both = StudyRef.parse(uid(3))
    name = {"attributes": {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Long^Mei"}]}}}
    await desk.decide(scope_of(A), "correct", both, detail=name, **said)
    code = {"code": "113001"}
    await desk.decide(scope_of(A), "reject", both, detail=code, **said)
    await desk.decide(scope_of(A), "restore", both, **said)
    # The names of A's patients stand in a dictionary that B's rows point to as well.
    for study in (1, 3):
        ref = StudyRef.parse(uid(study))
        assert (await desk.decide(scope_of(A), "delete", ref, **said)).instances == 1
    left = Statement(sa.text("SELECT owner_id, study_instance_uid FROM study ORDER BY 1, 2"))
    assert await house.system.fetch(left, {}) == [(B, uid(2)), (B, uid(3))]
    names = Statement(sa.text("SELECT display FROM person_name WHERE display LIKE 'Long%'"))
    assert await house.system.fetch(names, {}) == []
    (state,) = await desk.about(scope_of(A, B), StudyRef.parse(uid(2)))
    assert state.owner_id == B


@only_postgresql
async def test_what_rights_are_made_of_is_closed_to_those_who_serve_people(
    settings: Settings,
) -> None:
    declare_all_tables()
    people = await asyncpg.connect(settings.database.url, server_settings={"role": "yy_app"})
    kept = {
        mapped.name
        for mapped in metadata.tables.values()
        if mapped.name in _tables_of("identity") or mapped.name == "owner"
    }
    readable, writable = set(), set()
    for name in kept:
        for rights, found in (("SELECT", readable), ("INSERT,UPDATE,DELETE", writable)):
            asked = "SELECT has_table_privilege('yy_app', $1, $2)"
            if await people.fetchval(asked, name, rights):
                found.add(name)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await people.fetch("SELECT phone FROM account")
    await people.close()
    assert readable == {*OPEN_TABLES, "owner"}
    assert writable == set()


def _tables_of(package: str) -> set[str]:
    """The tables that the modules of a package declare."""

    return {
        value.name
        for name, module in sys.modules.items()
        if name.startswith(f"{package}.") and name.endswith(".tables")
        for value in vars(module).values()
        if isinstance(value, sa.Table)
    }
