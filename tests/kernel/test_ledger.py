"""The hash chain by itself: what is altered, taken out or put in breaks exactly there."""

from dataclasses import replace

import pytest

from kernel.db.database import Database
from kernel.ledger.domain import (
    START,
    Entry,
    Finding,
    Head,
    Item,
    broken_links,
    chain,
    differing,
    digest_of,
    marks_of,
)
from kernel.ledger.service import add, find_stream, lock_stream, pages
from kernel.ledger.witness import Witness
from kernel.scope import Scope
from kernel.settings import Settings

SYSTEM = Scope.system("test")
ITEMS = [Item(str(n), {"id": n, "what": f"做{n}", "at": n / 3}) for n in range(1, 6)]


def entries() -> list[Entry]:
    return chain("test", START, ITEMS, 1000.5)


def test_a_chain_of_what_was_added_is_whole() -> None:
    assert broken_links("test", START, entries()) == []


def test_a_chain_of_another_stream_does_not_fit() -> None:
    assert broken_links("other", START, entries())[0] == Finding("entry_changed", 1, "1")


@pytest.mark.parametrize(
    "change",
    [{"ref": "9"}, {"digest": bytes(32)}, {"marks": b""}, {"sealed_at": 1.0}, {"hash": bytes(32)}],
)
def test_an_altered_link_is_named(change: dict[str, object]) -> None:
    made = entries()
    made[2] = replace(made[2], **change)  # type: ignore[arg-type]
    found = broken_links("test", START, made)
    assert found[0] == Finding("entry_changed", 3, made[2].ref)


def test_missing_links_are_a_range() -> None:
    made = entries()
    assert broken_links("test", START, made[:1] + made[3:]) == [Finding("entry_missing", 2, last=3)]


def test_a_changed_row_is_told_field_by_field() -> None:
    fields = {"who": "7", "what": "看", "at": 0.1, "owner": None}
    marks = marks_of(fields)
    assert differing(fields, marks) == ()
    assert differing(fields | {"owner": 3, "who": "8"}, marks) == ("owner", "who")
    assert digest_of(fields) != digest_of(fields | {"who": "8"})


@pytest.mark.backend
async def test_streams_do_not_mix_and_are_read_in_order(database: Database) -> None:
    for name in ("money", "test", "money"):
        async with database.session(SYSTEM, write=True) as session:
            await add(session, await lock_stream(session, name), ITEMS, 1000.5)
    stream = await find_stream(database, "money")
    assert stream is not None
    assert stream.head.seq == 10
    read = [one async for page in pages(database, stream, 0, 10) for one in page]
    assert broken_links("money", START, read) == []
    assert read[-1].hash == stream.head.hash
    assert await find_stream(database, "none") is None


def test_a_witness_keeps_the_newest_head_and_one_for_each_thousand(settings: Settings) -> None:
    witness = Witness(settings, "test")
    for seq in range(1, 3500, 7):
        witness.note(Head(seq, bytes([seq % 256]) * 32))
    witness.note(Head(3, bytes(32)))  # older: not taken
    again = Witness(settings, "test")
    assert [head.seq for head in again.heads()] == [1002, 2003, 3004, 3494]
    again.note(Head(4010, bytes(32)))
    assert [head.seq for head in again.heads()] == [1002, 2003, 3004, 4010]
