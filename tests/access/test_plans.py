"""The core queries use indexes, for a clinic with fifty studies and for who sees a prefecture."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kernel.db.database import Database
from kernel.scope import Actor, Scope
from kernel.settings import Settings
from tests.access.many import CLINIC, CLINIC_STUDIES, OWNERS, all_owners, fill
from tests.access.plans import core_queries, postgresql_plan, scanned, sqlite_plan, visited

# Rows of large tables looked at for one answer: a page is 100, a day of everybody 700.
MOST_FOR_A_CLINIC, MOST_FOR_ALL = 4 * CLINIC_STUDIES, 5_000
STUDIES = [100_000, pytest.param(1_000_000, marks=pytest.mark.soak)]


def scopes(studies: int) -> list[tuple[Scope, int, int]]:
    """A scope, a study that it sees, and the most rows."""
    actor = Actor("session", "7")
    return [
        (Scope(frozenset({CLINIC}), actor, "test"), studies - 3, MOST_FOR_A_CLINIC),
        (Scope(all_owners(), actor, "test"), 777, MOST_FOR_ALL),
    ]


@pytest.fixture
async def people(
    settings: Settings, database: Database, backend: str, studies: int
) -> AsyncIterator[Database]:
    """The database of a prefecture, as those who serve people open it."""
    await fill(database, studies)
    if backend == "sqlite":
        yield database
        return
    opened = await Database.open(settings, "app")
    yield opened
    await opened.close()


def test_a_prefecture_has_thousands_of_owners() -> None:
    assert OWNERS > 3_900


@pytest.mark.parametrize("studies", STUDIES)
@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_plans_under_row_level_security_use_indexes(people: Database, studies: int) -> None:
    problems = []
    for scope, number, most in scopes(studies):
        for one in await core_queries(people, scope, number):
            if one.scope is None:
                continue
            plan = await postgresql_plan(people, one)
            rows, whole = visited(plan["Plan"]), scanned(plan["Plan"])
            if rows > most:
                problems.append(f"{one.question}: {rows} rows, {plan['Execution Time']} ms")
            if whole and rows > 1:
                problems.append(f"{one.question}: reads all of {whole}")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("studies", STUDIES)
async def test_plans_of_sqlite_use_indexes(people: Database, studies: int) -> None:
    large = {"patient", "study", "series", "instance", "person_name", "box_study", "box_patient"}
    problems = []
    for scope, number, _ in scopes(studies):
        for one in await core_queries(people, scope, number):
            for step in sqlite_plan(people, one):
                words = step.split()
                if words[0] == "SCAN" and words[1] in large and "USING INDEX" not in step:
                    problems.append(f"{one.question}: {step}")
                # An owner is looked up in the list, the list is not walked for each row.
                if "LIST SUBQUERY" in step and "CORRELATED" in step:
                    problems.append(f"{one.question}: {step}")
    assert not problems, "\n".join(problems)
