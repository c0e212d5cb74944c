"""What is received is found and comes back byte for byte, before and after settling."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pytest
from sqlalchemy import func, select

from archive.index.tables import instance, pack, quarantine
from archive.journal.domain import Outcome
from archive.query.domain import LEVELS, Query
from dataset.part10 import parse_head
from dataset.refs import InstanceRef, SeriesRef, StudyRef
from kernel.db.statement import Statement
from kernel.errors import Invalid, NotFound
from kernel.scope import Actor, Scope
from tests.archive.conftest import LOCAL, Archive
from tests.archive.material import ORIGIN, Made, make, uid

pytestmark = pytest.mark.backend
KINDS = Statement(
    select(pack.c.kind, func.count())
    .join(instance, instance.c.pack_id == pack.c.id)
    .group_by(pack.c.kind)
)
QUARANTINED = Statement(select(quarantine.c.reason))
OTHERS = Scope(frozenset({2}), Actor("client", "other"), "test")


def bad_uid() -> Made:
    """An instance whose Study Instance UID would be a path."""
    made = make()
    before, tag, after = made.data.partition(b"\x20\x00\x0d\x00UI")
    return replace(made, data=before + tag + after[:2] + b"../../x" + after[9:])


async def stored_dataset(archive: Archive, made: Made) -> bytes:
    ref = InstanceRef.parse(made.study, made.series, made.identity.sop_instance_uid)
    (found,) = await archive.reader.find(LOCAL, ref)
    part10 = await archive.reader.read(found)
    head = parse_head(part10)
    assert head is not None
    assert head.transfer_syntax_uid == made.identity.transfer_syntax_uid
    return part10[head.dataset_offset :]


async def test_an_instance_comes_back_byte_for_byte_from_journal_and_pack(archive: Archive) -> None:
    made = [make(1, series, number) for series in (1, 2) for number in (3, 1, 2)]
    receipts = await archive.store(*made)
    assert {receipt.outcome for receipt in receipts} == {Outcome.STORED}
    for one in made:
        assert await stored_dataset(archive, one) == one.data
    await archive.settle()
    kinds = await archive.database.fetch(KINDS, {})
    assert [tuple(row) for row in kinds] == [("pack", 6)]
    for one in made:
        assert await stored_dataset(archive, one) == one.data


async def test_a_large_instance_is_streamed_into_a_segment_of_its_own(archive: Archive) -> None:
    made = make(side=1200)
    stream = archive.receiver.open_stream(ORIGIN, made.identity)
    for at in range(0, len(made.data), 100_001):
        stream.write(memoryview(made.data)[at : at + 100_001])
    receipt = await stream.finish()
    assert receipt.outcome is Outcome.STORED
    assert receipt.study_instance_uid == made.study
    assert await stored_dataset(archive, made) == made.data
    await archive.settle()
    assert await stored_dataset(archive, made) == made.data


async def test_instances_come_in_series_and_instance_order(archive: Archive) -> None:
    await archive.store(make(1, 2, 1), make(1, 1, 10), make(1, 1, 9))
    found = await archive.reader.find(LOCAL, StudyRef.parse(uid(1)))
    assert [one.sop_instance_uid for one in found] == [uid(1, 1, 9), uid(1, 1, 10), uid(1, 2, 1)]


async def test_another_owner_finds_and_reads_nothing(archive: Archive) -> None:
    await archive.store(make())
    for level in LEVELS:
        page = await archive.catalog.search(OTHERS, Query(level))
        assert page.matches == []
    for ref in (
        StudyRef.parse(uid(1)),
        SeriesRef.parse(uid(1), uid(1, 1)),
        InstanceRef.parse(uid(1), uid(1, 1), uid(1, 1, 1)),
    ):
        with pytest.raises(NotFound):
            await archive.reader.find(OTHERS, ref)
    assert await archive.reader.find_any(OTHERS, sop_uids=[uid(1, 1, 1)]) == []


async def test_metadata_are_one_object_once_settled_and_the_same_before(archive: Archive) -> None:
    await archive.store(make(number=2), make(number=1))
    ref = SeriesRef.parse(uid(1), uid(1, 1))
    before = await archive.reader.series_metadata(LOCAL, ref)
    assert before.gzip is None
    await archive.settle()
    after = await archive.reader.series_metadata(LOCAL, ref)
    assert after.gzip is not None
    assert json.loads(gzip.decompress(after.gzip)) == after.datasets() == before.datasets()
    assert after.etag != before.etag
    assert [one["00200013"]["Value"] for one in after.datasets()] == [[1], [2]]
    assert after.datasets()[0]["00100010"]["Value"][0]["Ideographic"] == "杨^秀英"


async def test_late_instances_join_pack_and_metadata(archive: Archive) -> None:
    await archive.store(make(number=1))
    await archive.settle()
    await archive.store(make(number=2))
    ref = SeriesRef.parse(uid(1), uid(1, 1))
    assert len((await archive.reader.series_metadata(LOCAL, ref)).datasets()) == 2
    await archive.settle()
    settled = await archive.reader.series_metadata(LOCAL, ref)
    assert settled.gzip is not None
    assert len(settled.datasets()) == 2


async def test_many_packs_of_a_series_are_merged(archive: Archive) -> None:
    made = [make(number=number, side=64) for number in range(1, 11)]
    for one in made:
        await archive.store(one)
        await archive.settle()
    found = await archive.reader.find(LOCAL, StudyRef.parse(uid(1)))
    assert len({one.pack_id for one in found}) <= 8
    for one in made:
        assert await stored_dataset(archive, one) == one.data


async def test_a_frame_is_a_byte_range_of_the_stored_file(archive: Archive) -> None:
    made = make(side=32)
    await archive.store(made)
    await archive.settle()
    (found,) = await archive.reader.find(LOCAL, StudyRef.parse(uid(1)))
    layout = await archive.reader.frame_table(found)
    ((offset, length),) = layout.frames[0]
    assert await archive.reader.read(found, offset, length) == made.data[-32 * 32 * 2 :]


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({0x00100010: "杨*"}, 3),
        ({0x00100010: "*秀英*"}, 3),
        ({0x00100010: "yang*"}, 3),
        ({0x00100010: "yxy"}, 3),
        ({0x00100010: "Yang^XiuYing"}, 3),
        ({0x00100010: "Li*"}, 0),
        ({0x00100020: "P00002"}, 1),
        ({0x00100020: "P0000*"}, 3),
        ({0x00100020: "*2"}, 1),
        ({0x00100020: "P?0002"}, 1),
        ({0x00100020: "p00002"}, 0),
        ({0x00100020: "P_0002"}, 0),
        ({0x00080050: "A00003"}, 1),
        ({0x00080020: "20240303"}, 1),
        ({0x00080020: "20240303-"}, 2),
        ({0x00080020: "-20240303"}, 2),
        ({0x00080020: "20240302-20240303"}, 2),
        ({0x00080030: "0815"}, 3),
        ({0x00080030: "0816-"}, 0),
        ({0x00080061: "CT\\MR"}, 3),
        ({0x00080061: "MR"}, 0),
        ({0x0020000D: uid(1) + "\\" + uid(3)}, 2),
        ({0x00080062: "1.2.840.10008.5.1.4.1.1.2"}, 3),
        ({0x0020000E: uid(2, 1)}, 1),
        ({0x00081030: "胸部*"}, 3),
        ({0x00100020: "", 0x00100010: "*"}, 3),
    ],
)
async def test_studies_are_found_by(archive: Archive, asked: dict[int, str], count: int) -> None:
    await archive.store(make(1), make(2), make(3))
    page = await archive.catalog.search(LOCAL, Query("STUDY", asked))
    assert len(page.matches) == count
    assert not page.unsupported


async def test_pages_by_key_meet_every_study_once_newest_first(archive: Archive) -> None:
    await archive.store(*[make(study) for study in range(1, 8)])
    seen: list[str] = []
    after = None
    while True:
        page = await archive.catalog.search(LOCAL, Query("STUDY", limit=3, after=after))
        seen += [match.dataset["0020000D"]["Value"][0] for match in page.matches]
        after = page.after
        if not page.more:
            break
    assert seen == [uid(study) for study in range(7, 0, -1)]


async def test_the_search_box_takes_name_id_and_accession(archive: Archive) -> None:
    await archive.store(make(1), make(2, PatientName="Li^Wei=李^伟"))
    for text, count in (("秀英", 1), ("liw", 1), ("lw", 1), ("P0000", 2), ("A00002", 1), ("赵", 0)):
        page = await archive.catalog.search(LOCAL, Query("STUDY", text=text))
        assert len(page.matches) == count, text


async def test_counts_and_modalities_are_in_the_answers(archive: Archive) -> None:
    await archive.store(make(1, 1, 1), make(1, 1, 2), make(1, 2, 1, Modality="SR"))
    (study,) = (await archive.catalog.search(LOCAL, Query("STUDY"))).matches
    assert study.dataset["00080061"]["Value"] == ["CT", "SR"]
    assert study.dataset["00201206"]["Value"] == [2]
    assert study.dataset["00201208"]["Value"] == [3]
    assert study.unsettled == 3
    patient = (await archive.catalog.search(LOCAL, Query("PATIENT"))).matches[0].dataset
    assert patient["00201200"]["Value"] == [1]
    assert patient["00201204"]["Value"] == [3]


async def test_a_bad_range_and_a_bad_page_key_are_said_in_words(archive: Archive) -> None:
    with pytest.raises(Invalid, match="YYYYMMDD"):
        await archive.catalog.search(LOCAL, Query("STUDY", {0x00080020: "yesterday"}))
    for key in ("x", "bm8=", "WzEsMl0=", "W10="):
        with pytest.raises(Invalid, match="page key"):
            await archive.catalog.search(LOCAL, Query("STUDY", after=key))


async def test_patients_without_an_id_are_never_merged(archive: Archive) -> None:
    await archive.store(make(1, PatientID=""), make(2, PatientID=None))
    page = await archive.catalog.search(LOCAL, Query("PATIENT"))
    assert len(page.matches) == 2


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (make(StudyInstanceUID=None), "instance.study_instance_uid.missing"),
        (make(SeriesInstanceUID=None), "instance.series_instance_uid.missing"),
        (bad_uid(), "instance.study_instance_uid.invalid"),
    ],
)
async def test_what_cannot_be_indexed_is_quarantined_once(
    archive: Archive, broken: Made, reason: str
) -> None:
    receipts = await archive.store(broken, broken, make(2))
    assert [one.outcome for one in receipts[:2]] == [Outcome.QUARANTINED] * 2
    assert receipts[0].reason == reason
    assert "(0020,000" in receipts[0].detail
    assert receipts[2].outcome is Outcome.STORED
    rows = await archive.database.fetch(QUARANTINED, {})
    assert [tuple(row) for row in rows] == [(reason,)]
