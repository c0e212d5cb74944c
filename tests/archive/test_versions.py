"""The same SOP Instance UID again: success for the sender, nothing lost, told apart later."""

from __future__ import annotations

from typing import get_args

import pytest
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from sqlalchemy import select

from archive.decisions.service import Desk
from archive.index.tables import mismatch
from archive.journal.domain import Identity, Outcome
from archive.query.domain import Query
from archive.versions.domain import ACTIONS, POLICIES, Action, Relation, SameUid
from archive.versions.service import Policies, compare_pending, versions_of
from dataset.part10 import file_head
from kernel.db.statement import Statement
from kernel.events.service import feed, number_events
from tests.archive.conftest import LOCAL, Archive
from tests.archive.material import ORIGIN, Made, encode, make, uid
from tests.archive.test_store_and_find import stored_dataset

pytestmark = pytest.mark.backend


def implicit(made: Made) -> Made:
    """The same content in implicit VR little endian."""
    head = file_head(
        made.identity.sop_class_uid,
        made.identity.sop_instance_uid,
        made.identity.transfer_syntax_uid,
    )
    ds = dcmread(DicomBytesIO(head + made.data))
    identity = Identity(
        made.identity.sop_class_uid, made.identity.sop_instance_uid, "1.2.840.10008.1.2"
    )
    return Made(identity, encode(ds, implicit=True), made.study, made.series)


@pytest.mark.parametrize(
    ("again", "relation"),
    [
        (make(), None),
        (implicit(make()), "reencoded"),
        (make(SeriesDescription="other"), "header"),
        (make(seed=1), "pixels"),
        (make(PatientName="Li^Wei"), "identity"),
        (make(seed=1, PatientID="P2"), "identity"),
        (make(StudyInstanceUID=uid(2)), "identity"),
    ],
)
@pytest.mark.parametrize("settled", [False, True])
async def test_what_comes_again_is_compared_and_kept_where_it_differs(
    archive: Archive, again: Made, relation: str | None, settled: bool
) -> None:
    first = make()
    await archive.store(first)
    if settled:
        await archive.settle()
    (receipt,) = await archive.store(again)
    assert receipt.outcome is Outcome.AGAIN
    while await compare_pending(archive.database, archive.stores):
        pass
    kept = await versions_of(archive.database, LOCAL, uid(1, 1, 1))
    assert [one[1] for one in kept] == ([relation] if relation else [])
    assert await stored_dataset(archive, first) == first.data
    await archive.settle()
    assert await stored_dataset(archive, first) == first.data


async def test_a_conflict_is_told_and_a_duplicate_is_not(archive: Archive) -> None:
    await archive.store(make(), make(), make(seed=1))
    while await compare_pending(archive.database, archive.stores):
        pass
    while await number_events(archive.database):
        pass
    conflicts = [
        event.payload["relation"]
        for event in await feed(archive.database, 0, 100)
        if event.topic == "instance.conflict.v1"
    ]
    assert conflicts == ["pixels"]


async def test_contradictions_are_flagged_once_and_the_first_values_stay(
    archive: Archive,
) -> None:
    await archive.store(
        make(number=1),
        make(number=2, PatientID="OTHER"),
        make(number=3, PatientID="OTHER"),
        make(number=4, Modality="MR"),
    )
    moved = make(2, 1, 1, SeriesInstanceUID=uid(1, 1))
    await archive.receiver.append(ORIGIN, moved.identity, [moved.data])
    rows = await archive.database.fetch(Statement(select(mismatch.c.kind, mismatch.c.stored)), {})
    assert sorted(rows) == [
        ("modality_differs", '["CT"]'),
        ("patient_id_differs", '["P00001"]'),
        ("series_in_two_studies", uid(1)),
    ]
    page = await archive.catalog.search(LOCAL, Query("STUDY", {0x0020000D: uid(1)}))
    assert page.matches[0].dataset["00100020"]["Value"] == ["P00001"]


DIFFERENT: dict[str, Made] = {
    "equal": make(),
    "reencoded": implicit(make()),
    "header": make(SeriesDescription="other"),
    "identity": make(PatientName="Li^Wei"),
    "pixels": make(seed=1),
}
SHOWN_LATER = {
    ("last", "header"),
    ("last", "identity"),
    ("last", "pixels"),
    ("last_same_patient", "header"),
    ("last_same_patient", "pixels"),
}


async def compare(archive: Archive, policy: SameUid) -> None:
    async def of(owner_id: int, source: str) -> SameUid:
        assert (owner_id, source) == (1, ORIGIN.source)
        return policy

    desk = Desk(archive.database, archive.stores, archive.settler)
    while await compare_pending(archive.database, archive.stores, Policies(desk, of)):
        pass


async def told(archive: Archive) -> list[str]:
    while await number_events(archive.database):
        pass
    events = await feed(archive.database, 0, 100)
    return [one.payload["relation"] for one in events if one.topic == "instance.conflict.v1"]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("relation", DIFFERENT)
async def test_the_policy_of_the_sender_says_what_is_shown(
    archive: Archive, policy: SameUid, relation: Relation
) -> None:
    first, later = make(), DIFFERENT[relation]
    await archive.store(first, later)
    await compare(archive, policy)
    shown = later if (policy, relation) in SHOWN_LATER else first
    assert (await stored_dataset(archive, shown)) == shown.data
    kept = await versions_of(archive.database, LOCAL, uid(1, 1, 1))
    assert [one[1] for one in kept] == ([] if relation == "equal" else [relation])
    assert await told(archive) == ([relation] if relation in ("identity", "pixels") else [])
    await archive.settle()
    assert (await stored_dataset(archive, shown)) == shown.data


@pytest.mark.parametrize("policy", POLICIES)
async def test_what_cannot_be_compared_stays_behind_the_first(
    archive: Archive, policy: SameUid
) -> None:
    assert ACTIONS[policy, "unreadable"] == Action(told=True)
    first = make()
    torn = Made(first.identity, first.data[:-100], first.study, first.series)
    await archive.store(first, torn)
    await compare(archive, policy)
    assert await stored_dataset(archive, first) == first.data
    assert await told(archive) == ["unreadable"]


async def test_a_version_of_another_series_is_never_shown_by_policy(archive: Archive) -> None:
    first = make()
    await archive.store(first, make(SeriesInstanceUID=uid(1, 9)))
    await compare(archive, "last")
    assert await stored_dataset(archive, first) == first.data
    assert await told(archive) == ["identity"]


async def test_of_three_the_last_is_shown(archive: Archive) -> None:
    three = [make(), make(seed=1), make(seed=2)]
    await archive.store(*three)
    await compare(archive, "last")
    assert await stored_dataset(archive, three[2]) == three[2].data


def test_the_table_has_a_row_for_every_case() -> None:
    assert set(ACTIONS) == {(one, other) for one in POLICIES for other in get_args(Relation)}
