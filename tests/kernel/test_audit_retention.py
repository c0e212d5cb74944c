"""Old rows go into sealed files, exports prove themselves, and the chain stays whole."""

from __future__ import annotations

import csv
import io
import time
from datetime import timedelta

import pytest
from sqlalchemy import text

from kernel.audit.export import csv_lines, proven_lines
from kernel.audit.retention import DAY_S, retire
from kernel.audit.search import Question
from kernel.audit.volumes import read_lines
from kernel.db.database import Database
from kernel.errors import Conflict, Invalid
from kernel.ledger.domain import Finding, Head
from kernel.scope import Actor, Scope
from tests.kernel.test_audit_chain import NOON, SYSTEM, fill, keep_head, tamper, walk

YEAR_LATER = NOON.timestamp() + 400 * DAY_S


@pytest.mark.backend
async def test_old_rows_go_into_a_sealed_file_and_the_chain_stays_whole(
    database: Database,
) -> None:
    await fill(database, 1200)
    await keep_head(database)
    assert await retire(database.settings, 183, NOON.timestamp() + 10 * DAY_S) == 0
    half = (NOON + timedelta(seconds=600)).timestamp() + 183 * DAY_S
    moved = await retire(database.settings, 183, half)
    assert 500 < moved < 700
    found, walked = await walk(database)
    assert (found, walked.first, walked.last) == ([], moved + 1, 1200)
    await fill(database, 5)  # it tells of the move, and goes on
    found, walked = await walk(database)
    assert (found, walked.last) == ([], 1206)
    async with database.session(SYSTEM) as session:
        left = await session.scalar(text("SELECT count(*) FROM audit"))
    assert left == 1206 - moved
    (file,) = (database.settings.data / "ledger").glob("*.gz")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    found, _ = await walk(database)
    assert found == [Finding("volume_missing", 1, file.name, last=moved)]
    file.unlink()
    assert (await walk(database))[0][0].kind == "volume_missing"


@pytest.mark.backend
async def test_what_was_tampered_with_does_not_leave(database: Database) -> None:
    await fill(database)
    await tamper(database, "UPDATE audit SET purpose = 'x' WHERE id = 4")
    with pytest.raises(Conflict):
        await retire(database.settings, 183, YEAR_LATER)
    assert (await walk(database))[1].first == 1


@pytest.mark.backend
async def test_rows_that_a_repository_has_not_got_stay(database: Database) -> None:
    await fill(database)
    await tamper(database, "INSERT INTO audit_feed (name, seq) VALUES ('syslog tls://a', 9)")
    assert await retire(database.settings, 183, YEAR_LATER) == 9


async def test_less_than_half_a_year_is_refused(database: Database) -> None:
    with pytest.raises(Invalid):
        await retire(database.settings, 182, time.time())


@pytest.mark.backend
async def test_an_export_proves_itself_and_hides_what_is_not_asked_for(database: Database) -> None:
    await fill(database, 40)
    head = await keep_head(database)
    auditor = Scope(frozenset({1, 99}), Actor("session", "1"), "system.audit.read")
    question = Question(since=NOON + timedelta(seconds=10))
    data = b"".join([one async for one in proven_lines(database, SYSTEM, question)])
    lines = data.splitlines()
    assert len(lines) == 1 + 30
    assert list(read_lines(iter(lines))) == [head]
    few = Question(actor_id="12")
    one = b"".join([line async for line in proven_lines(database, auditor, few)])
    assert b'"row"' not in one or b'"actor_id":"12"' in one
    outsider = Scope(frozenset({99}), Actor("session", "1"), "system.audit.read")
    assert not [line async for line in proven_lines(database, outsider, question)]
    changed = data.replace(b'"actor_id":"20"', b'"actor_id":"21"')
    found = list(read_lines(iter(changed.splitlines())))
    assert [one.kind for one in found if isinstance(one, Finding)] == ["row_changed"]
    assert isinstance(found[-1], Head)


@pytest.mark.backend
async def test_a_spreadsheet_gets_every_row_and_no_formula(database: Database) -> None:
    await fill(database, 250)
    await tamper(database, "UPDATE audit SET peer = '=1+1' WHERE id = 5")
    data = b"".join([one async for one in csv_lines(database, SYSTEM, Question())])
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    assert len(rows) == 250
    assert [row["peer"] for row in rows if row["id"] == "5"] == ["'=1+1"]
    assert {row["outcome"] for row in rows} == {"ok", "denied", "failed"}
