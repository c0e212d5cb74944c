"""Every table of the index in a form that does not depend on row ids or on when rows were made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Table, select

from archive.index import tables
from kernel.db.database import Database
from kernel.scope import Scope

Rows = list[dict[str, Any]]

# What the index says of its own making, not of what is stored: row ids, when something was noticed,
# settled, compared, verified or given up, how often, and which commit it was.
OWN_MAKING = {
    "study": {"settled_ms", "settlements"},
    "series": {"unsettled_since_ms", "pack_version"},
    "instance": {"batch_id"},
    "instance_version": {"compared_ms"},
    "pack": {"lease_ms", "dying_ms"},
    "pack_copy": {"verified_ms"},
}

INDEX = (
    tables.uid_code,
    tables.person_name,
    tables.name_gram,
    tables.patient,
    tables.merged_patient,
    tables.study,
    tables.series,
    tables.instance,
    tables.instance_version,
    tables.quarantine,
    tables.mismatch,
    tables.pack,
    tables.pack_copy,
    tables.decision,
)


NOT_INDEX = {"node"}  # where machines listen


async def dump(database: Database) -> dict[str, list[str]]:
    """The rows of each table as sorted text, ids replaced by what they stand for."""
    raw: dict[str, Rows] = {}
    here = {one.name for one in vars(tables).values() if isinstance(one, Table)}
    assert here == {table.name for table in INDEX} | NOT_INDEX, "a table is not compared"
    async with database.session(Scope.system("dump")) as session:
        for table in INDEX:
            found = await session.execute(select(table))
            raw[table.name] = [dict(row._mapping) for row in found]
    _leave_out(raw)
    names = _names(raw)
    return {
        table.name: sorted(_line(table, row, names) for row in raw[table.name]) for table in INDEX
    }


def _leave_out(raw: Mapping[str, Rows]) -> None:
    """What no row refers to, or what means nothing any more."""
    used = {
        row[column]
        for table in ("instance", "instance_version")
        for row in raw[table]
        for column in ("sop_class_id", "transfer_syntax_id")
    }
    raw["uid_code"][:] = [row for row in raw["uid_code"] if row["id"] in used]
    for row in raw["pack"]:
        if row["kind"] == "journal":  # a segment does not say when its row was made
            row["created_ms"] = None
        if row["state"] == "dying":  # nobody asks of which series it was
            row["series_fk"] = None
    for row in raw["study"]:
        row["settled"] = row["settled_ms"] > 0
    for row in raw["instance_version"]:
        row["compared"] = row["compared_ms"] > 0


def _names(raw: Mapping[str, Rows]) -> dict[str, Callable[[Any], str]]:
    """For each column that refers to a row: what it refers to, in words."""
    by_id = {
        name: {row["id"]: row for row in rows}
        for name, rows in raw.items()
        if name not in ("pack_copy", "name_gram")
    }
    keys = {row["pack_id"]: row["key"] for row in raw["pack_copy"]}

    def words(table: str, *columns: str) -> Callable[[Any], str]:
        def name(row_id: Any) -> str:
            if row_id is None:
                return "-"
            row = by_id[table].get(row_id)
            if row is None:
                return "gone"
            return "/".join(
                named[one](row[one]) if one in named else str(row[one]) for one in columns
            )

        return name

    named: dict[str, Callable[[Any], str]] = {
        "sop_class_id": words("uid_code", "uid"),
        "transfer_syntax_id": words("uid_code", "uid"),
        "name_id": words("person_name", "display"),
        "referring_name_id": words("person_name", "display"),
        "patient_fk": words("patient", "owner_id", "patient_id", "issuer", "unidentified"),
        "study_fk": words("study", "owner_id", "study_instance_uid"),
        "series_fk": words("series", "study_fk", "series_instance_uid"),
        "instance_fk": words("instance", "owner_id", "sop_instance_uid"),
        "version_fk": words("instance_version", "received_ms", "byte_length"),
        "pack_id": lambda pack_id: keys.get(pack_id, "-"),
        "metadata_pack_id": lambda pack_id: keys.get(pack_id, "-"),
    }
    return named


def _line(table: Table, row: Mapping[str, Any], names: Mapping[str, Callable[[Any], str]]) -> str:
    skipped = OWN_MAKING.get(table.name, set()) | {"id"}
    shown = {
        column: names[column](value) if column in names else value
        for column, value in row.items()
        if column not in skipped
    }
    if table.name == "pack":
        shown["key"] = names["pack_id"](row["id"])
    return " ".join(f"{column}={value!r}" for column, value in sorted(shown.items()))
