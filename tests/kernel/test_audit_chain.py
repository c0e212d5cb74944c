"""Every audit row is sealed once; whatever is changed, removed or put in afterwards is named."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from kernel.audit.domain import FOLD_S, AuditRecord
from kernel.audit.seal import LATE_S, seal
from kernel.audit.sealed import STREAM
from kernel.audit.service import append, take_in
from kernel.audit.verify import Walked, verify
from kernel.db.database import Database
from kernel.ledger.domain import Finding, Head
from kernel.ledger.service import find_stream
from kernel.ledger.witness import Witness
from kernel.scope import Actor, Scope

SYSTEM = Scope.system("test")
NOON = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)


def record(number: int, **more: Any) -> AuditRecord:
    return AuditRecord(
        Actor("session", str(number)),
        "archive.study.read",
        ("ok", "denied", "failed")[number % 3],  # type: ignore[arg-type]
        1 if number % 2 else None,
        f"1.2.{number}",
        ("1.2.3.4",),
        "10.0.0.7",
        "care",
        {"n": number, "why": "会诊"},
        NOON + timedelta(seconds=number, microseconds=number * 7919),
        **more,
    )


async def fill(database: Database, count: int = 25) -> None:
    async with database.session(SYSTEM, write=True) as session:
        for number in range(count):
            await append(session, record(number))
    await seal(database)


async def keep_head(database: Database) -> Head:
    stream = await find_stream(database, STREAM)
    assert stream is not None
    Witness(database.settings, STREAM).note(stream.head)
    return stream.head


async def tamper(database: Database, *statements: str) -> None:
    """What an administrator of the database can do; the tables' owner on PostgreSQL."""
    owner = await Database.open(database.settings, "owner")
    async with owner.session(SYSTEM, write=True) as session:
        for statement in statements:
            await session.execute(text(statement))
    await owner.close()


async def walk(database: Database) -> tuple[list[Finding], Walked]:
    found = [one async for one in verify(database)]
    walked = found.pop()
    assert isinstance(walked, Walked)
    return [one for one in found if isinstance(one, Finding)], walked


@pytest.mark.backend
async def test_an_untouched_audit_is_whole(database: Database) -> None:
    assert await walk(database) == ([], Walked(1, 0, 0, 0))
    await fill(database)
    await keep_head(database)
    assert await seal(database) == 0
    assert await walk(database) == ([], Walked(1, 25, 0, 1))


@pytest.mark.backend
async def test_one_changed_byte_is_found_and_named(database: Database) -> None:
    await fill(database)
    await tamper(database, "UPDATE audit SET actor_id = '8' WHERE id = 8")
    (found,), _ = await walk(database)
    at = (NOON + timedelta(seconds=7, microseconds=7 * 7919)).timestamp()
    assert found == Finding("row_changed", 8, "8", at, ("actor_id",))


@pytest.mark.backend
async def test_each_column_of_a_row_is_protected(database: Database) -> None:
    await fill(database)
    changes = {
        2: "at = at + 0.000001",
        3: "outcome = 'ok'",
        4: "owner_id = NULL",
        5: "owner_id = 1",
        6: "detail = '{}'",
        7: "count = 2",
        9: "refs = '[]', peer = ''",
        10: "seq = 1000",
        11: "purpose = 'Care'",
        12: "study_instance_uid = '1.2.3', action = 'x'",
    }
    await tamper(
        database, *(f"UPDATE audit SET {how} WHERE id = {row}" for row, how in changes.items())
    )
    found, _ = await walk(database)
    named = {one.seq: one.fields for one in found if one.kind == "row_changed"}
    assert named == {
        2: ("at",),
        3: ("outcome",),
        4: ("owner_id",),
        5: ("owner_id",),
        6: ("detail",),
        7: ("count",),
        9: ("peer", "refs"),
        10: ("seq",),
        11: ("purpose",),
        12: ("action", "study_instance_uid"),
    }


@pytest.mark.backend
async def test_every_one_of_several_wrongs_is_named(database: Database) -> None:
    await fill(database, 1500)
    await keep_head(database)
    await tamper(
        database,
        "DELETE FROM audit WHERE id IN (3, 1200)",
        "UPDATE audit SET detail = '{}' WHERE id = 700",
        "INSERT INTO audit (id, at, actor_kind, actor_id, peer, action, outcome, purpose,"
        " study_instance_uid, refs, detail, count, seq) SELECT 90000, at, actor_kind, '99', peer,"
        " action, outcome, purpose, '', refs, detail, 1, 90000 FROM audit WHERE id = 10",
        "UPDATE audit SET seq = NULL WHERE id = 20",
        "INSERT INTO audit (id, at, actor_kind, actor_id, peer, action, outcome, purpose,"
        " study_instance_uid, refs, detail, count, seq) SELECT 90001, at, actor_kind, '99', peer,"
        " action, outcome, purpose, '', refs, detail, 1, 20 FROM audit WHERE id = 10",
    )
    found, _ = await walk(database)
    assert [(one.kind, one.seq, one.ref) for one in found] == [
        ("row_missing", 3, "3"),
        ("row_changed", 20, "20"),
        ("row_inserted", 20, "90001"),
        ("row_changed", 700, "700"),
        ("row_missing", 1200, "1200"),
        ("row_inserted", 90000, "90000"),
    ]
    assert found[0].at is not None


@pytest.mark.backend
async def test_rows_cut_off_at_the_end_are_noticed(database: Database) -> None:
    await fill(database)
    head = await keep_head(database)
    cut = (
        "DELETE FROM audit WHERE seq > 22",
        "DELETE FROM ledger_entry WHERE seq > 22",
        "UPDATE ledger_stream SET seq = 22,"
        " hash = (SELECT hash FROM ledger_entry WHERE ledger_entry.seq = 22)",
    )
    await tamper(database, *cut)
    found, _ = await walk(database)
    assert found == [Finding("end_missing", 23, last=head.seq)]
    async with database.session(SYSTEM, write=True) as session:  # work goes on over the cut
        for number in range(30, 40):
            await append(session, record(number))
    await seal(database)
    found, _ = await walk(database)
    assert [(one.kind, one.last) for one in found] == [("rewritten", 25)]


@pytest.mark.backend
async def test_a_link_that_was_altered_or_taken_out_is_noticed(database: Database) -> None:
    await fill(database)
    await tamper(
        database,
        "UPDATE ledger_entry SET ref = 'x' WHERE seq = 4",
        "DELETE FROM ledger_entry WHERE seq IN (9, 10)",
        "DELETE FROM ledger_entry WHERE seq = 25",
    )
    found, _ = await walk(database)
    kinds = {(one.kind, one.seq) for one in found}
    assert {("entry_changed", 4), ("entry_missing", 9), ("entry_missing", 25)} <= kinds


@pytest.mark.backend
async def test_rows_that_count_are_sealed_when_their_window_is_over(database: Database) -> None:
    frame = record(1, fold=True)
    clock = [frame.at.timestamp() + FOLD_S]
    async with database.session(SYSTEM, write=True) as session:
        await take_in(session, [frame] * 3 + [record(2)])
    assert await seal(database, lambda: clock[0]) == 1
    async with database.session(SYSTEM, write=True) as session:
        await take_in(session, [frame])
    clock[0] += LATE_S + FOLD_S
    assert await seal(database, lambda: clock[0]) == 1
    async with database.session(SYSTEM, write=True) as session:
        await take_in(session, [frame])  # a late one: a row of its own
    assert await seal(database, lambda: clock[0]) == 1
    async with database.session(SYSTEM) as session:
        counts = (await session.execute(text("SELECT count FROM audit ORDER BY seq"))).scalars()
        assert list(counts) == [1, 4, 1]
    assert (await walk(database))[0] == []


@pytest.mark.backend
async def test_several_sealers_chain_each_row_once(database: Database) -> None:
    async with database.session(SYSTEM, write=True) as session:
        for number in range(900):
            await append(session, record(number))
    others = [await Database.open(database.settings) for _ in range(3)]
    sealed = await asyncio.gather(*(seal(one) for one in others))
    for one in others:
        await one.close()
    assert sum(sealed) == 900
    found, walked = await walk(database)
    assert (found, walked.last, walked.unsealed) == ([], 900, 0)


@pytest.mark.backend
async def test_a_crash_before_the_commit_seals_nothing_and_loses_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with database.session(SYSTEM, write=True) as session:
        for number in range(10):
            await append(session, record(number))

    async def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kernel.audit.seal._number", die)
    with pytest.raises(KeyboardInterrupt):
        await seal(database)
    monkeypatch.undo()
    assert (await walk(database))[1] == Walked(1, 0, 10, 0)
    await seal(database)
    assert await walk(database) == ([], Walked(1, 10, 0, 0))


@pytest.mark.backend
async def test_the_walk_goes_on_while_rows_are_written_and_sealed(database: Database) -> None:
    await fill(database, 3000)
    stop = asyncio.Event()

    async def write() -> None:
        number = 5000
        while not stop.is_set():
            async with database.session(SYSTEM, write=True) as session:
                await append(session, record(number))
            await seal(database)
            number += 1

    writing = asyncio.create_task(write())
    shown: list[tuple[int, int]] = []
    found = [one async for one in verify(database, lambda done, all_: shown.append((done, all_)))]
    stop.set()
    await writing
    assert len(found) == 1
    assert [done for done, _ in shown][:2] == [1000, 2000]


@pytest.mark.soak
@pytest.mark.backend
async def test_a_million_rows_are_walked_in_bounded_memory(database: Database) -> None:
    import resource

    for _ in range(1000):
        async with database.session(SYSTEM, write=True) as session:
            await take_in(session, [record(number) for number in range(1000)])
    began = time.monotonic()
    assert await seal(database) == 1_000_000
    sealing_s = time.monotonic() - began
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    found, walked = await walk(database)
    print(f"sealing {sealing_s:.0f} s, walking {time.monotonic() - began:.0f} s")
    assert (found, walked.last) == ([], 1_000_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # KiB
