"""Decisions about how a study is shown: what they change, what they leave, and how they end."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import select

from archive.decisions.deciding import Decided, decide, delete, merge
from archive.decisions.domain import (
    CHOOSE,
    CORRECT,
    HOLD,
    REJECT,
    RELEASE,
    RESTORE,
    PatientKey,
    Ref,
)
from archive.index.tables import (
    instance,
    instance_version,
    merged_patient,
    mismatch,
    patient,
    study,
)
from archive.query.domain import Query
from archive.versions.service import compare_pending
from dataset.correction import attribute_of, tag_of
from dataset.refs import InstanceRef, SeriesRef, StudyRef
from kernel.audit.tables import audit
from kernel.errors import AppError, NotFound
from kernel.scope import Scope
from tests.archive.conftest import LOCAL, Archive
from tests.archive.dump import dump
from tests.archive.material import make, uid

pytestmark = pytest.mark.backend

SYSTEM = Scope.system("test")
STUDY = StudyRef.parse(uid(1))
SERIES = SeriesRef.parse(uid(1), uid(1, 1))
FIRST = InstanceRef.parse(uid(1), uid(1, 1), uid(1, 1, 1))
CHINESE = "Li^Wei=李^伟"


async def take(archive: Archive, kind: str, ref: Ref, **detail: Any) -> Decided:
    return await decide(
        archive.database,
        archive.stores,
        archive.settler,
        LOCAL,
        kind,
        ref,
        actor="dr.li",
        reason="why",
        detail=detail,
    )


async def correct(archive: Archive, ref: Ref, **named: str | None) -> None:
    attributes = {
        f"{tag_of(name):08X}": None if text is None else attribute_of(tag_of(name), text)
        for name, text in named.items()
    }
    await take(archive, CORRECT, ref, attributes=attributes)


async def drop(archive: Archive, ref: Ref) -> None:
    await delete(
        archive.database, archive.stores, archive.settler, LOCAL, ref, actor="x", reason="y"
    )


async def join(archive: Archive, one: str, other: str, *, undo: bool = False) -> None:
    await merge(
        archive.database,
        archive.stores,
        archive.settler,
        LOCAL,
        PatientKey(one),
        PatientKey(other),
        actor="dr.li",
        reason="the same",
        undo=undo,
    )


async def found(archive: Archive, level: Any, **match: str) -> list[dict[str, Any]]:
    keys = {tag_of(name): text for name, text in match.items()}
    return [
        one.dataset for one in (await archive.catalog.search(LOCAL, Query(level, keys))).matches
    ]


async def sent(archive: Archive, ref: Ref) -> list[Dataset]:
    """What goes out, read by pydicom."""
    listed = await archive.reader.find(LOCAL, ref)
    return [dcmread(BytesIO(await archive.reader.content(one))) for one in listed]


async def values(archive: Archive, *columns: Any) -> list[tuple[Any, ...]]:
    async with archive.database.session(SYSTEM) as session:
        return [tuple(row) for row in await session.execute(select(*columns).order_by(*columns))]


async def code_of(work: Any) -> str:
    with pytest.raises(AppError) as refused:
        await work
    return refused.value.code


@pytest.mark.parametrize("settled", [False, True])
async def test_a_corrected_study_is_found_and_goes_out_corrected(
    archive: Archive, settled: bool
) -> None:
    made = make(1, 1, 1)
    await archive.store(made, make(1, 1, 2), make(2))
    if settled:
        await archive.settle()
    before = await archive.reader.series_metadata(LOCAL, SERIES)
    await correct(archive, STUDY, PatientName=CHINESE, StudyDescription="头颅CT", PatientSex="M")
    for asked in ("Li^Wei", "李*", "liwei"):
        (match,) = await found(archive, "STUDY", PatientName=asked)
        assert match["00081030"]["Value"] == ["头颅CT"]
    assert len(await found(archive, "STUDY", PatientName="Yang*")) == 1
    assert (await found(archive, "PATIENT", PatientSex="M"))[0]["00100020"]["Value"] == ["P00001"]
    for ds in await sent(archive, STUDY):
        assert (str(ds.PatientName), ds.PatientSex) == (CHINESE, "M")
        (told,) = ds.OriginalAttributesSequence[0].ModifiedAttributesSequence
        assert str(told.PatientName) == "Yang^XiuYing=杨^秀英"
    after = await archive.reader.series_metadata(LOCAL, SERIES)
    assert after.etag != before.etag
    shown = after.datasets()[0]
    assert shown["00100010"]["Value"][0]["Ideographic"] == "李^伟"
    assert shown["04000561"]["Value"][0]["04000565"]["Value"] == ["CORRECT"]
    assert shown == await archive.reader.instance_metadata(LOCAL, FIRST)
    original = await archive.reader.series_metadata(LOCAL, SERIES, original=True)
    assert original.datasets() == before.datasets()
    (one,) = await archive.reader.find(LOCAL, FIRST)
    stored = b"".join([piece async for piece in archive.reader.stream(one.as_received)])
    assert stored.endswith(made.data)


async def test_without_a_correction_nothing_changes(archive: Archive) -> None:
    made = make(1)
    await archive.store(made)
    await correct(archive, STUDY, PatientSex="M")
    await correct(archive, STUDY, PatientSex=None)
    (one,) = await archive.reader.find(LOCAL, FIRST)
    assert (await archive.reader.content(one)).endswith(made.data)
    assert one.corrected == 0
    assert await values(archive, study.c.first_attrs) == [(None,)]
    assert await values(archive, patient.c.sex) == [("F",)]


async def test_series_and_instances_are_corrected_by_themselves(archive: Archive) -> None:
    await archive.store(make(1, 1, 1), make(1, 1, 2), make(1, 2, 1))
    await correct(archive, SERIES, Modality="MR", SeriesDescription="T1")
    await correct(archive, FIRST, InstanceNumber="7", ImageComments="left")
    assert [one["00080060"]["Value"] for one in await found(archive, "SERIES")] == [["MR"], ["CT"]]
    assert (await found(archive, "STUDY"))[0]["00080061"]["Value"] == ["CT", "MR"]
    assert await found(archive, "IMAGE", InstanceNumber="7")
    sent_out = {str(ds.SOPInstanceUID): ds for ds in await sent(archive, STUDY)}
    first, second, other = (sent_out[uid(*one)] for one in ((1, 1, 1), (1, 1, 2), (1, 2, 1)))
    assert (first.Modality, first.InstanceNumber, first.ImageComments) == ("MR", 7, "left")
    assert (second.Modality, second.InstanceNumber, "ImageComments" in second) == ("MR", 2, False)
    assert (other.Modality, "OriginalAttributesSequence" in other) == ("CT", False)
    await correct(archive, FIRST, InstanceNumber=None)
    assert not await found(archive, "IMAGE", InstanceNumber="7")


async def test_what_comes_later_is_corrected_too_and_contradicts_nothing(archive: Archive) -> None:
    await archive.store(make(1, 1, 1))
    await correct(archive, STUDY, PatientName=CHINESE)
    await correct(archive, SERIES, Modality="MR")
    await archive.store(make(1, 1, 2), make(1, 2, 1))
    assert {str(ds.PatientName) for ds in await sent(archive, STUDY)} == {CHINESE}
    assert await values(archive, mismatch.c.kind) == []
    await drop(archive, FIRST)
    assert {str(ds.PatientName) for ds in await sent(archive, STUDY)} == {CHINESE}
    (match,) = await found(archive, "STUDY")
    assert match["00100010"]["Value"][0]["Ideographic"] == "李^伟"
    assert [one["00080060"]["Value"] for one in await found(archive, "SERIES")] == [["MR"], ["CT"]]


async def test_a_corrected_patient_id_moves_the_study(archive: Archive) -> None:
    await archive.store(make(1), make(2))
    await correct(archive, STUDY, PatientID="P00002")
    assert await values(archive, patient.c.patient_id) == [("P00002",)]
    assert len(await archive.reader.find_any(LOCAL, patient_id="P00002")) == 2
    await correct(archive, STUDY, PatientID=None)
    assert await values(archive, patient.c.patient_id) == [("P00001",), ("P00002",)]


async def test_what_was_deleted_and_comes_again_is_not_corrected(archive: Archive) -> None:
    await archive.store(make(1, 1, 1), make(1, 2, 1))
    await correct(archive, STUDY, PatientName=CHINESE)
    await correct(archive, SERIES, Modality="MR")
    await take(archive, REJECT, FIRST, code="113001")
    await drop(archive, SERIES)
    await archive.store(make(1, 1, 1))
    (ds,) = await sent(archive, FIRST)
    assert (str(ds.PatientName), ds.Modality) == (CHINESE, "CT")
    await drop(archive, FIRST)
    await drop(archive, SeriesRef.parse(uid(1), uid(1, 2)))
    await archive.store(make(1, 1, 1))
    (ds,) = await sent(archive, STUDY)
    assert str(ds.PatientName) == "Yang^XiuYing=杨^秀英"


@pytest.mark.parametrize(
    ("ref", "named", "code"),
    [
        (STUDY, {"StudyInstanceUID": "1.2"}, "correct.attribute"),
        (STUDY, {"SpecificCharacterSet": "GB18030"}, "correct.attribute"),
        (STUDY, {"PhotometricInterpretation": "RGB"}, "correct.attribute"),
        (SERIES, {"PatientName": "x"}, "correct.level"),
        (STUDY, {"Modality": "MR"}, "correct.level"),
        (FIRST, {"StudyDescription": "x"}, "correct.level"),
        (STUDY, {}, "correct.nothing"),
        (StudyRef.parse(uid(9)), {"PatientName": "x"}, "study.not_found"),
    ],
)
async def test_what_cannot_be_corrected_is_refused(
    archive: Archive, ref: Ref, named: dict[str, str], code: str
) -> None:
    await archive.store(make(1))
    assert await code_of(correct(archive, ref, **named)) == code


@pytest.mark.parametrize(
    ("ref", "studies", "series", "instances"),
    [(STUDY, 1, 1, 1), (SERIES, 2, 2, 2), (FIRST, 2, 3, 3)],
)
async def test_what_is_rejected_is_hidden_until_it_is_restored(
    archive: Archive, ref: Ref, studies: int, series: int, instances: int
) -> None:
    await archive.store(make(1, 1, 1), make(1, 1, 2), make(1, 2, 1), make(2))
    before = await dump(archive.database)
    await take(archive, REJECT, ref, code="113037")
    assert len(await found(archive, "STUDY")) == studies
    assert len(await found(archive, "PATIENT")) == studies
    assert len(await found(archive, "SERIES")) == series
    assert len(await found(archive, "IMAGE")) == instances
    assert len(await archive.reader.find_any(LOCAL, patient_id="P00001")) == instances - 1
    with pytest.raises(NotFound):
        await archive.reader.find(LOCAL, ref)
    if studies == 2:
        (match,) = await found(archive, "STUDY", StudyInstanceUID=uid(1))
        assert match["00201208"]["Value"] == [instances - 1]
        assert match["00201206"]["Value"] == [series - 1]
    assert await code_of(take(archive, REJECT, ref, code="113001")) == "decision.rejected_already"
    await archive.store(make(1, 1, 1, seed=3))
    with pytest.raises(NotFound):
        await archive.reader.find(LOCAL, ref)
    await take(archive, RESTORE, ref)
    assert await code_of(take(archive, RESTORE, ref)) == "decision.not_rejected"
    assert len(await found(archive, "IMAGE")) == 4
    after = await dump(archive.database)
    assert [line.split(" overlay_version")[0] for line in after["instance"]] == [
        line.split(" overlay_version")[0] for line in before["instance"]
    ]


async def test_a_series_of_rejected_instances_alone_is_hidden(archive: Archive) -> None:
    await archive.store(make(1, 1, 1), make(1, 2, 1))
    await take(archive, REJECT, FIRST, code="113001")
    assert len(await found(archive, "SERIES")) == 1
    assert not await found(archive, "STUDY", SeriesInstanceUID=uid(1, 1))
    metadata = await archive.reader.series_metadata(LOCAL, SeriesRef.parse(uid(1), uid(1, 2)))
    assert len(metadata.datasets()) == 1
    with pytest.raises(NotFound):
        await archive.reader.series_metadata(LOCAL, SERIES)
    await archive.store(make(1, 1, 2))
    assert len(await found(archive, "SERIES")) == 2


async def test_a_rejection_needs_a_reason_of_the_standard(archive: Archive) -> None:
    await archive.store(make(1))
    assert await code_of(take(archive, REJECT, STUDY, code="113000")) == "decision.code"


async def test_a_study_under_a_hold_is_not_deleted(archive: Archive) -> None:
    await archive.store(make(1))
    assert await code_of(take(archive, RELEASE, STUDY)) == "decision.not_held"
    await take(archive, HOLD, STUDY)
    for ref in (STUDY, SERIES, FIRST):
        assert await code_of(drop(archive, ref)) == "study.held"
    assert await code_of(take(archive, HOLD, STUDY)) == "decision.held_already"
    assert await code_of(take(archive, HOLD, SERIES)) == "decision.level"
    await take(archive, RELEASE, STUDY)
    await drop(archive, STUDY)
    assert await values(archive, instance.c.id) == []


async def test_another_version_is_shown_when_it_is_chosen(archive: Archive) -> None:
    first, other = make(1, 1, 1), make(1, 1, 1, side=32, seed=5, InstanceNumber=9)
    await archive.store(first, other, make(1, 1, 1, StudyInstanceUID=uid(2)))
    while await compare_pending(archive.database, archive.stores):
        pass
    await archive.settle()
    versions = instance_version.c
    kept = await values(archive, versions.received_ms, versions.byte_length)
    await take(archive, CHOOSE, FIRST, version=list(kept[0]))
    (one,) = await archive.reader.find(LOCAL, FIRST)
    assert (await archive.reader.content(one)).endswith(other.data)
    assert (one.rows, one.instance_number) == (32, 9)
    metadata = await archive.reader.series_metadata(LOCAL, SERIES)
    assert metadata.datasets()[0]["00280010"]["Value"] == [32]
    assert (await archive.reader.frame_table(one)).frames[0][0][1] == 32 * 32 * 2
    assert await code_of(take(archive, CHOOSE, FIRST, version=list(kept[1]))) == "version.elsewhere"
    assert await code_of(take(archive, CHOOSE, FIRST, version=[1, 2])) == "version.not_found"
    await take(archive, CHOOSE, FIRST, version=None)
    (one,) = await archive.reader.find(LOCAL, FIRST)
    assert (await archive.reader.content(one)).endswith(first.data)
    assert (one.rows, one.instance_number) == (16, 1)


def without(lines: dict[str, list[str]]) -> dict[str, list[str]]:
    """A dump without what a decision and its end leave: the decisions, and that there were some."""
    return {
        table: [
            " ".join(part for part in line.split(" ") if "overlay_v" not in part) for line in all_
        ]
        for table, all_ in lines.items()
        if table != "decision"
    }


async def test_a_merged_patient_answers_under_the_other_and_comes_back(archive: Archive) -> None:
    await archive.store(make(1, PatientName="A^A"), make(3, PatientID="P00001"), make(2))
    await archive.settle()
    before = without(await dump(archive.database))
    await join(archive, "P00001", "P00002")
    assert await values(archive, patient.c.patient_id) == [("P00002",)]
    assert len(await found(archive, "STUDY", PatientID="P00002")) == 3
    assert not await found(archive, "STUDY", PatientID="P00001")
    assert {ds.PatientID for ds in await sent(archive, STUDY)} == {"P00002"}
    assert {str(ds.PatientName) for ds in await sent(archive, STUDY)} == {"Yang^XiuYing=杨^秀英"}
    await archive.store(make(4, PatientID="P00001"))
    assert len(await archive.reader.find_any(LOCAL, patient_id="P00002")) == 4
    (ds,) = await sent(archive, StudyRef.parse(uid(4)))
    assert ds.PatientID == "P00002"
    await drop(archive, StudyRef.parse(uid(4)))
    await join(archive, "P00001", "P00002", undo=True)
    await archive.settle()
    after = without(await dump(archive.database))
    for table in ("patient", "study", "series", "instance", "person_name", "name_gram"):
        assert after[table] == before[table], table
    assert await values(archive, merged_patient.c.id) == []


async def test_merges_that_cannot_be_are_refused(archive: Archive) -> None:
    await archive.store(make(1), make(2), make(3), make(4, PatientID=""))
    a, b, c = "P00001", "P00002", "P00003"
    await join(archive, a, b)
    assert await code_of(join(archive, a, a)) == "merge.same"
    assert await code_of(join(archive, b, a)) == "merge.circular"
    assert await code_of(join(archive, c, a)) == "merge.target_merged"
    assert await code_of(join(archive, a, c)) == "merge.already"
    assert await code_of(join(archive, c, "none")) == "patient.not_found"
    assert await code_of(join(archive, "", c)) == "merge.no_id"
    assert await code_of(join(archive, c, b, undo=True)) == "merge.none"
    await join(archive, b, c)
    assert len(await found(archive, "STUDY", PatientID=c)) == 3
    await join(archive, a, b, undo=True)
    assert len(await found(archive, "STUDY", PatientID=c)) == 2
    assert len(await found(archive, "STUDY", PatientID=a)) == 1


async def test_every_kind_is_audited_under_its_name(archive: Archive) -> None:
    await archive.store(make(1), make(2))
    await correct(archive, STUDY, PatientName="x")
    await take(archive, HOLD, STUDY)
    await take(archive, REJECT, STUDY, code="113001")
    await join(archive, "P00001", "P00002")
    assert [row[0] for row in await values(archive, audit.c.action)] == [
        "archive.patient.merge",
        "archive.study.correct",
        "archive.study.hold",
        "archive.study.reject",
    ]
