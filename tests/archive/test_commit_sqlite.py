"""The SQLite committer: two hands on one batch, and the write lock in somebody else's."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from archive.journal.domain import Outcome
from archive.receive.service import Receiver
from kernel.db.database import Database, connect_sqlite, sqlite_file
from kernel.errors import Unavailable
from kernel.settings import Settings
from tests.archive.faults import Disk
from tests.archive.material import ORIGIN, make


@contextmanager
def write_lock(settings: Settings) -> Iterator[sqlite3.Connection]:
    """Somebody else's transaction."""
    other = connect_sqlite(sqlite_file(settings))
    other.execute("BEGIN IMMEDIATE")
    try:
        yield other
    finally:
        if other.in_transaction:
            other.execute("ROLLBACK")
        other.close()


async def test_a_locked_index_neither_stops_the_loop_nor_fails_the_sender(
    settings: Settings, database: Database
) -> None:
    receiver = await Receiver.open(settings, database)
    made = make()
    with write_lock(settings):
        stored = receiver.append(ORIGIN, made.identity, [made.data])
        turns = 0
        while turns < 50:  # the loop is free all the while
            await asyncio.sleep(0.002)
            turns += 1
        assert not stored.done()
    assert (await stored).reason is None
    await receiver.close()


async def test_rows_are_seen_by_others_only_after_the_bytes_are_synced(
    settings: Settings, database: Database
) -> None:
    seen: list[int] = []
    reader = connect_sqlite(sqlite_file(settings))

    def look(step: str) -> None:
        if step == "synced":  # after the sync, before the thread commits
            seen.append(reader.execute("SELECT count(*) FROM instance").fetchone()[0])

    receiver = await Receiver.open(settings, database, Disk(look).open)
    for number in (1, 2, 3):
        made = make(number=number)
        await receiver.append(ORIGIN, made.identity, [made.data])
    await receiver.close()
    assert seen == [0, 1, 2]
    assert reader.execute("SELECT count(*) FROM instance").fetchone()[0] == 3
    reader.close()


def size(path: Path) -> int:
    return path.stat().st_size


async def test_the_log_has_its_size_before_the_first_batch_and_keeps_it(
    settings: Settings, database: Database
) -> None:
    index = sqlite_file(settings)
    log = Path(f"{index}-wal")
    receiver = await Receiver.open(settings, database)
    before = size(log)
    assert before >= 16 << 20
    await asyncio.gather(
        *[
            receiver.append(ORIGIN, made.identity, [made.data])
            for made in (make(number=number) for number in range(1, 30))
        ]
    )
    assert size(log) == before
    await receiver.close()


async def test_a_sender_is_answered_when_a_known_series_goes_and_somebody_else_then_writes(
    settings: Settings, database: Database
) -> None:
    receiver = await Receiver.open(settings, database)
    first, second = make(number=1), make(number=2)
    await receiver.append(ORIGIN, first.identity, [first.data])
    with write_lock(settings) as other:  # what a deletion does
        other.execute("PRAGMA foreign_keys = OFF")
        for table in ("instance", "series", "study"):
            other.execute(f"DELETE FROM {table}")
        other.execute("COMMIT")
        begun = asyncio.Event()

        def look(statement: str) -> None:
            if statement == "ROLLBACK" and not begun.is_set():  # the loop gives up
                begun.set()
                asyncio.get_running_loop().call_later(0.1, other.execute, "ROLLBACK")

        index = receiver._committer._index  # type: ignore[attr-defined]
        index._connected().set_trace_callback(look)
        stored = receiver.append(ORIGIN, second.identity, [second.data])
        await begun.wait()
        with contextlib.suppress(sqlite3.OperationalError):
            other.execute("BEGIN IMMEDIATE")
        assert (await stored).reason is None
        index._connected().set_trace_callback(None)
    await receiver.close()


@pytest.mark.parametrize("word", ["_COMMIT", "_CHECKPOINT"])
async def test_what_goes_wrong_once_does_not_go_on_going_wrong(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setattr("archive.index.commit_sqlite._CHECKPOINT_EVERY", 1)
    receiver = await Receiver.open(settings, database)
    with monkeypatch.context() as broken:
        broken.setattr(f"archive.index.commit_sqlite.{word}", "NO SUCH THING")
        made = make(number=1)
        stored = receiver.append(ORIGIN, made.identity, [made.data])
        if word == "_COMMIT":
            with pytest.raises(Unavailable, match="index could not be written"):
                await stored
        else:  # the batch was committed: its sender is not told otherwise
            assert (await stored).reason is None
    for number in (1, 2):
        made = make(number=number)
        receipt = await receiver.append(ORIGIN, made.identity, [made.data])
        again = word == "_CHECKPOINT" and number == 1
        assert receipt.outcome == (Outcome.AGAIN if again else Outcome.STORED)
    await receiver.close()
