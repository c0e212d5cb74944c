"""The same SOP Instance UID again: success for the sender, nothing lost, told apart later."""

from __future__ import annotations

import pytest
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from sqlalchemy import select

from archive.index.tables import mismatch
from archive.journal.domain import Identity, Outcome
from archive.query.domain import Query
from archive.versions.service import compare_pending, versions_of
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
