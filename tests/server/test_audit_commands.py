"""`yunying audit`, as an auditor types it."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from kernel.audit.seal import seal
from kernel.audit.sealed import STREAM
from kernel.db.database import Database, sqlite_file
from kernel.ledger.service import find_stream
from kernel.ledger.witness import Witness
from kernel.settings import Settings
from tests.server.running import fails, yunying


async def seal_all(settings: Settings) -> int:
    """What the worker does every second; the number of the last row."""
    database = await Database.open(settings)
    try:
        await seal(database)
        stream = await find_stream(database, STREAM)
        assert stream is not None
        Witness(settings, STREAM).note(stream.head)
        return stream.head.seq
    finally:
        await database.close()


def by_sql(settings: Settings, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(sqlite_file(settings))) as connection, connection:
        for statement in statements:
            connection.execute(statement)


async def test_a_changed_a_removed_and_an_inserted_row_are_named(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data")
    data = ("--data", str(settings.data))
    yunying("user", "create", "yang", "--role", "clinician", "--at", "LOCAL", *data)
    assert "rows are not sealed yet" in yunying("audit", "verify", *data)
    last = await seal_all(settings)
    assert last > 2
    said = yunying("audit", "verify", *data)
    assert f"{last} rows checked" in said
    assert "Every row is as it was sealed." in said

    exported = tmp_path / "audit.jsonl"
    yunying("audit", "export", str(exported), *data)
    assert f"leads to number {last}" in yunying("audit", "check-file", str(exported))
    exported.write_text(exported.read_text().replace('"outcome":"ok"', '"outcome":"no"', 1))
    assert "CHANGED" in fails("audit", "check-file", str(exported))
    assert "0 rows were moved" in yunying("audit", "retire", *data)
    assert "[audit.keep]" in fails("audit", "retire", "--days", "30", *data)

    by_sql(settings, "UPDATE audit SET actor_id = actor_id || '1' WHERE id = 3")
    said = fails("audit", "verify", *data)
    assert "CHANGED   row 3 (number 3, 20" in said
    assert "differs in actor_id" in said
    by_sql(settings, "DELETE FROM audit WHERE id = 1")
    assert "MISSING   row 1 (number 1, sealed 20" in fails("audit", "verify", *data)
    by_sql(
        settings,
        f"DELETE FROM audit WHERE seq = {last}",
        f"DELETE FROM ledger_entry WHERE seq = {last}",
        f"UPDATE ledger_stream SET seq = {last - 1}, hash ="
        f" (SELECT hash FROM ledger_entry WHERE seq = {last - 1})",
    )
    said = fails("audit", "verify", *data)
    assert f"CUT OFF   number {last}: removed at the end" in said
    assert "3 findings" in said
