"""What the study browser's pages say and give, without a browser."""

from __future__ import annotations

import io
import zipfile
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from pydicom.uid import EncapsulatedPDFStorage

from archive.retrieve.domain import StoredInstance
from dicomweb.browse.facts import (
    Age,
    SeriesFacts,
    age_at,
    dicom_date,
    dicom_time,
    patient_facts,
    study_facts,
)
from dicomweb.browse.kinds import kind_of
from dicomweb.browse.report import report_lines
from dicomweb.browse.search_form import SearchForm, read_form, to_query
from dicomweb.browse.stacks import series_stacks, stack_data
from dicomweb.browse.tag_rows import MOST, tag_rows
from dicomweb.browse.words import PageWords
from dicomweb.browse.zip_stream import zip_stream
from tests.dicomweb.browse_material import CT, SLICES, SR, ct_slice, report
from tests.dicomweb.conftest import Client
from tests.dicomweb.material import dataset, file, path, uid

TODAY = date(2026, 11, 22)
SERIES = SeriesFacts("1.2", "1", "CT", "", "")


def name(**groups: str) -> dict[str, object]:
    return {"00100010": {"vr": "PN", "Value": [groups]}}


def test_the_chinese_name_is_read_first_and_written_without_spaces() -> None:
    both = patient_facts(name(Alphabetic="Wang^Xiao Ming", Ideographic="王^小明"))
    assert (both.name, both.other_name) == ("王小明", "Wang Xiao Ming")
    only = patient_facts(name(Alphabetic="王^小明"))
    assert (only.name, only.other_name) == ("王小明", "")
    assert patient_facts({}).name == ""


@pytest.mark.parametrize(
    ("stated", "born", "expected"),
    [
        ("045Y", None, Age("{count} years old", 45)),
        ("003M", None, Age("{count} months old", 3)),
        ("", date(1981, 11, 23), Age("{count} years old", 44)),
        ("", date(2025, 12, 1), Age("{count} months old", 11)),
        ("", date(2026, 11, 20), Age("{count} days old", 2)),
        ("000Y", date(2027, 1, 1), None),
        ("old", None, None),
    ],
)
def test_the_age_is_the_stated_one_or_follows_from_the_birth_date(
    stated: str, born: date | None, expected: Age | None
) -> None:
    assert age_at(stated, born, TODAY) == expected


def test_dates_and_times_that_are_none_are_left_out() -> None:
    assert dicom_date("20261122") == dicom_date("2026.11.22") == TODAY
    assert dicom_date("20261340") is dicom_date("") is None
    assert dicom_time("081530.5") == dicom_time("0815")
    assert dicom_time("8") is not None
    assert dicom_time("9999") is None


def test_a_study_arrives_until_it_was_quiet() -> None:
    now = datetime(2026, 11, 22, 8, 0, 30, tzinfo=UTC)
    fresh = study_facts({}, now.replace(second=0), now, quiet_s=60)
    quiet = study_facts({}, now.replace(minute=0, hour=7), now, quiet_s=60)
    assert fresh.arriving
    assert not quiet.arriving


def test_the_form_becomes_a_query_with_ranges_and_every_modality_of_a_chip() -> None:
    form = read_form({"text": "  王  ", "period": "3d"}, ("xray", "us", "nonsense"))
    query = to_query(form, TODAY)
    assert query.text == "王"
    assert query.match == {0x00080020: "20261120-", 0x00080061: "CR\\DX\\US"}
    turned = read_form(
        {"period": "custom", "first_day": "2026-11-20", "last_day": "2026-11-01"}, ()
    )
    assert to_query(turned, TODAY).match == {0x00080020: "20261101-20261120"}
    open_ended = SearchForm(period="custom", last_day=TODAY)
    assert to_query(open_ended, TODAY).match == {0x00080020: "-20261122"}
    assert to_query(read_form({"period": "when", "first_day": "?"}, ()), TODAY).match == {}


def stored(number: int, **more: object) -> StoredInstance:
    plain = StoredInstance(
        id=number,
        owner_id=1,
        study_instance_uid="1",
        series_instance_uid="1.2",
        sop_instance_uid=f"1.2.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        instance_number=number,
        frames=1,
        rows=64,
        columns=64,
        pack_id=1,
        byte_offset=0,
        byte_length=1,
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def test_single_images_make_one_stack_and_clips_and_reports_stand_alone() -> None:
    pdf = stored(5, sop_class_uid=str(EncapsulatedPDFStorage), rows=None, columns=None)
    unknown = stored(6, sop_class_uid="1.2.3", rows=None, columns=None)
    members = [stored(1), stored(2), stored(3), stored(4, frames=30), pdf, unknown]
    stacks = series_stacks(SERIES, members).stacks
    assert [(stack.shape, stack.count, stack.key) for stack in stacks] == [
        ("images", 3, "1.2"),
        ("frames", 30, "1.2.4"),
        ("object", 1, "1.2.5"),
        ("object", 1, "1.2.6"),
    ]
    assert [stack.kind.name for stack in stacks if stack.kind] == [
        "PDF document",
        "Object without an image",
    ]
    assert [entry["number"] for entry in stack_data(members, "1.2")] == [1, 2, 3]
    assert stack_data(members, "1.2.4")[0]["frames"] == 30


@pytest.mark.parametrize(
    ("sop_class_uid", "expected"),
    [
        ("1.2.840.10008.5.1.4.1.1.88.59", "Key object selection"),
        ("1.2.840.10008.5.1.4.1.1.88.33", "Structured report"),
        ("1.2.840.10008.5.1.4.1.1.11.1", "Presentation state"),
        ("1.2.840.10008.5.1.4.1.1.9.1.1", "Waveform"),
        ("1.2.840.10008.5.1.4.1.1.66", "Raw data"),
        ("1.2.840.10008.5.1.4.1.1.66.4", None),
        ("1.2.840.10008.5.1.4.1.1.2", None),
        ("1.2.3", None),
    ],
)
def test_objects_without_an_image_are_named(sop_class_uid: str, expected: str | None) -> None:
    kind = kind_of(sop_class_uid)
    assert (kind.name if kind else None) == expected


def test_elements_are_listed_with_their_items_and_deep_nesting_ends() -> None:
    rows = tag_rows(ct_slice(1).to_json_dict())
    shown = {row.tag: row for row in rows}
    assert shown["(0008,0060)"].name == "Modality"
    assert shown["(0010,0010)"].value == "Wang^Xiaoming=王^小明"
    assert shown["(0008,0016)"].value == "1.2.840.10008.5.1.4.1.1.2 (CT Image Storage)"
    assert shown["(7FE0,0010)"].value == "…"
    nested: dict[str, object] = {}
    for _ in range(50_000):
        nested = {"00081140": {"vr": "SQ", "Value": [nested]}}
    assert len(tag_rows(nested)) <= MOST + 2
    while nested:
        nested = nested["00081140"]["Value"].pop()  # type: ignore[index]


def test_a_report_reads_as_names_and_values() -> None:
    lines = report_lines(report().to_json_dict())
    assert [(line.name, line.value, line.depth) for line in lines] == [
        ("放射学报告", "", 0),
        ("所见", "两肺纹理清晰，未见异常。", 1),
    ]


def test_counts_are_said_in_both_languages() -> None:
    chinese, english = PageWords("zh-CN", TODAY), PageWords("en", TODAY)
    assert chinese.counts(2, 104) == "2 序列 104 幅"
    assert english.counts(1, 1) == "1 image"
    assert english.counts(1, 3, pictured=False) == "3 objects"
    assert chinese.day_words(TODAY) == "今天"
    assert english.day_words(date(2026, 11, 21)) == "Yesterday"


async def test_a_zip_file_is_readable_and_holds_what_was_streamed() -> None:
    async def content(*parts: bytes) -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    members = [("a/1.dcm", content(b"one", b"two")), ("a/2.dcm", content())]
    whole = b"".join(
        [chunk async for chunk in zip_stream(members, datetime(2026, 1, 2, tzinfo=UTC))]
    )
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert archive.testzip() is None
        assert [(info.filename, archive.read(info)) for info in archive.infolist()] == [
            ("a/1.dcm", b"onetwo"),
            ("a/2.dcm", b""),
        ]


def data_set(part10: bytes) -> bytes:
    """The file without its head, which tells where it came from."""
    return part10[part10.index(b"\x08\x00\x05\x00CS") :]


async def test_downloads_are_the_files_as_they_were_sent(client: Client) -> None:
    sent = {number: file(ct_slice(number)) for number in range(1, SLICES + 1)}
    await client.stow(*sent.values())
    site = client.root.removesuffix("/dicom-web")
    async with client.session.get(f"{site}{path(CT)}/download") as answer:
        assert answer.headers["Content-Disposition"] == f'attachment; filename="{uid(CT)}.zip"'
        with zipfile.ZipFile(io.BytesIO(await answer.read())) as archive:
            read = [archive.read(name) for name in archive.namelist()]
        assert [data_set(each) for each in read] == [data_set(each) for each in sent.values()]
    async with client.session.get(f"{site}{path(CT, 1, 3)}/download") as answer:
        assert data_set(await answer.read()) == data_set(sent[3])
        assert answer.content_type == "application/dicom"


async def test_a_pdf_inside_an_object_opens_and_other_objects_hold_none(client: Client) -> None:
    ds = dataset(7, SOPClassUID=EncapsulatedPDFStorage, Modality="DOC", PixelData=None)
    ds.Rows = ds.Columns = None
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.EncapsulatedDocument = b"%PDF-1.4 hello "
    await client.stow(file(ds), file(report()))
    site = client.root.removesuffix("/dicom-web")
    async with client.session.get(f"{site}{path(7, 1, 1)}/document") as answer:
        assert answer.content_type == "application/pdf"
        assert (await answer.read()).startswith(b"%PDF-1.4 hello")
    async with client.session.get(f"{site}{path(SR, 1, 1)}/document") as answer:
        assert answer.status == 404


async def test_pages_that_cannot_be_say_why_in_words(client: Client) -> None:
    site = client.root.removesuffix("/dicom-web")
    html = {"Accept": "text/html", "Accept-Language": "zh-CN", "Accept-Encoding": "identity"}
    async with client.session.get(f"{site}/studies/1.2.3", headers=html) as answer:
        assert answer.status == 404
        assert answer.content_type == "text/html"
    async with client.session.get(f"{site}/studies/no*uid", headers=html) as answer:
        assert answer.status == 400
    posted = {"text": "", "after": "nonsense"}
    async with client.session.post(f"{site}/studies/search", data=posted, headers=html) as answer:
        assert answer.status == 200
        assert 'class="notice notice-danger" role="alert"' in await answer.text()
