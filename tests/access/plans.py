"""The core queries as they are really asked, and how the database would answer them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from archive.query.domain import Query
from archive.query.service import Catalog
from archive.retrieve.service import Reader
from archive.store.service import open_stores
from dataset.refs import InstanceRef, SeriesRef, StudyRef
from kernel.db.database import Database, connect_sqlite, sqlite_file
from kernel.db.statement import Statement
from kernel.errors import NotFound
from kernel.scope import Scope

LARGE = frozenset({"patient", "study", "series", "instance", "person_name"})
NAME, PATIENT_ID, STUDY_UID, SERIES_UID = 0x00100010, 0x00100020, 0x0020000D, 0x0020000E
DATE, ACCESSION, MODALITIES = 0x00080020, 0x00080050, 0x00080061


@dataclass(frozen=True, slots=True)
class Asked:
    """A statement with its parameters, and which question it was part of."""

    question: str
    statement: Statement
    params: Mapping[str, Any]
    scope: Scope | None


async def core_queries(database: Database, scope: Scope, n: int) -> list[Asked]:
    """Every statement that searching for and opening study `n` runs."""
    asked: list[Asked] = []
    question = ""

    class Listening:
        """The database, noting what it is asked."""

        dialect = database.dialect

        async def fetch(
            self, statement: Statement, params: Mapping[str, Any], scope: Scope | None = None
        ) -> list[tuple[Any, ...]]:
            asked.append(Asked(question, statement, params, scope))
            return await database.fetch(statement, params, scope)

    listening: Any = Listening()
    catalog = Catalog(listening)
    reader = Reader(listening, open_stores(database.settings))
    study = StudyRef.parse(f"1.2.{n}")
    series = SeriesRef(study, f"1.3.{n}")
    searches = {
        "newest": Query("STUDY"),
        "patient id": Query("STUDY", {PATIENT_ID: f"P{n}"}),
        "accession": Query("STUDY", {ACCESSION: f"A{n}"}),
        "study uid": Query("STUDY", {STUDY_UID: study.study_instance_uid}),
        "name": Query("STUDY", {NAME: f"N{1 + n % 20000}"}),
        "name prefix": Query("STUDY", {NAME: "N1999*"}),
        "one day": Query("STUDY", {DATE: "20220511"}),
        "one day's CT": Query("STUDY", {DATE: "20220511", MODALITIES: "CT"}),
        "box": Query("STUDY", text=f"P{n}"),
        "patient": Query("PATIENT", {PATIENT_ID: f"P{n}"}),
        "series": Query("SERIES", {STUDY_UID: study.study_instance_uid}),
        "instances": Query(
            "IMAGE",
            {STUDY_UID: study.study_instance_uid, SERIES_UID: series.series_instance_uid},
        ),
    }
    for question, query in searches.items():  # noqa: B007 - Listening notes it
        await catalog.search(scope, query)
    for ref in (study, series, InstanceRef(series, f"1.4.{n}")):
        question = f"retrieve {type(ref).__name__}"
        await reader.find(scope, ref)
    for wanted in ({"patient_id": f"P{n}"}, {"series_uids": [f"1.3.{n}"]}):
        question = f"move {next(iter(wanted))}"
        await reader.find_any(scope, **wanted)  # type: ignore[arg-type]
    question = "metadata"
    try:
        await reader.series_metadata(scope, series)
    except NotFound:
        raise AssertionError("the study is not seen") from None
    except Exception:  # noqa: BLE001 - there are no stored bytes
        pass
    return asked


async def postgresql_plan(database: Database, one: Asked) -> dict[str, Any]:
    """EXPLAIN ANALYZE within the scope, as the role of `database`."""
    words = "EXPLAIN (ANALYZE, FORMAT JSON) " + one.statement.sql("postgresql")
    args = one.statement.args("postgresql", one.params)
    async with database.pg_pool.acquire() as connection, connection.transaction():
        await database.enter(connection, (one.scope.owners if one.scope else None) or ())
        (row,) = await connection.fetch(words, *args)
    plan: dict[str, Any] = json.loads(row[0])[0]
    return plan


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every node of a plan."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def visited(plan: Mapping[str, Any]) -> int:
    """How many rows of large tables were looked at."""
    return sum(
        round((one["Actual Rows"] + one.get("Rows Removed by Filter", 0)) * one["Actual Loops"])
        for one in nodes(plan)
        if one.get("Relation Name") in LARGE
    )


def scanned(plan: Mapping[str, Any]) -> set[str]:
    """The large tables that were read from end to end."""
    return {
        one["Relation Name"]
        for one in nodes(plan)
        if one["Node Type"].endswith("Seq Scan")
        and one["Relation Name"] in LARGE
        and one["Actual Loops"]
    }


def sqlite_plan(database: Database, one: Asked) -> list[str]:
    """EXPLAIN QUERY PLAN, a line for each step."""
    connection = connect_sqlite(sqlite_file(database.settings))
    words = "EXPLAIN QUERY PLAN " + one.statement.sql("sqlite")
    rows = connection.execute(words, one.statement.args("sqlite", one.params)).fetchall()
    connection.close()
    return [str(row[3]) for row in rows]
