"""Query strings of QIDO-RS."""

from __future__ import annotations

import pytest
from yarl import URL

from dicomweb.answers import warning
from dicomweb.search.domain import (
    INSTANCE_ATTRIBUTES,
    MAX_RESULTS,
    SERIES_ATTRIBUTES,
    STUDY_ATTRIBUTES,
    Level,
    SearchRequest,
    parse_search,
)
from kernel.errors import Invalid


def parse(query: str, level: Level = "STUDY", **path: str) -> SearchRequest:
    return parse_search(level, URL(f"http://x/?{query}", encoded=True).query.items(), **path)


def test_keys_are_keywords_or_tags() -> None:
    assert parse("PatientID=7&00080050=A1&0008103e=x").match == {
        0x00100020: "7",
        0x00080050: "A1",
        0x0008103E: "x",
    }


def test_lists_of_uids_and_codes_become_backslash_lists() -> None:
    assert parse("StudyInstanceUID=1.2,1.3%5C1.4").match == {0x0020000D: "1.2\\1.3\\1.4"}
    assert parse("ModalitiesInStudy=CT%2CMR").match == {0x00080061: "CT\\MR"}


def test_a_comma_in_a_name_is_part_of_it() -> None:
    assert parse("PatientName=Wang,Wei*").match == {0x00100010: "Wang,Wei*"}


def test_chinese_values_come_through() -> None:
    assert parse("PatientName=%E7%8E%8B*").match == {0x00100010: "王*"}


@pytest.mark.parametrize(
    "query",
    [
        "includefield=00081030&includefield=StudyID",
        "includefield=00081030,StudyID",
        "includefield=00081030%2CStudyID",
        "includefield=StudyDescription,%2000200010",
    ],
)
def test_included_fields_may_be_repeated_or_listed(query: str) -> None:
    include = parse(query).include
    assert include == STUDY_ATTRIBUTES | {0x00081030, 0x00200010}


def test_includefield_all_asks_for_everything() -> None:
    assert parse("includefield=all").include is None


def test_matched_attributes_are_answered() -> None:
    include = parse("StudyDescription=x").include
    assert include is not None and 0x00081030 in include


def test_answers_within_a_study_do_not_repeat_it_and_those_across_studies_do() -> None:
    assert parse("", "SERIES", study="1.2").include == SERIES_ATTRIBUTES | {0x0020000D}
    assert parse("", "SERIES").include == SERIES_ATTRIBUTES | STUDY_ATTRIBUTES
    everything = INSTANCE_ATTRIBUTES | SERIES_ATTRIBUTES | STUDY_ATTRIBUTES
    assert parse("", "IMAGE").include == everything


def test_the_path_narrows_the_search() -> None:
    parsed = parse("", "IMAGE", study="1.2", series="1.3")
    assert parsed.match == {0x0020000D: "1.2", 0x0020000E: "1.3"}
    with pytest.raises(Invalid):
        parse("StudyInstanceUID=1.9", "SERIES", study="1.2")


def test_limits_and_offsets_are_read_and_bounded() -> None:
    assert (parse("limit=5&offset=10").limit, parse("limit=5&offset=10").offset) == (5, 10)
    assert parse("").limit == parse("limit=999999").limit == MAX_RESULTS


def test_unknown_parameters_are_ignored_and_named() -> None:
    parsed = parse("foo=1&RequestAttributesSequence.AccessionNumber=2&includefield=bar")
    assert parsed.match == {}
    assert parsed.ignored == (
        "foo",
        "RequestAttributesSequence.AccessionNumber",
        "includefield=bar",
    )


@pytest.mark.parametrize(
    "query",
    [
        "StudyDate=2020-01-01",
        "StudyDate=20201301",
        "StudyDate=20200101-20200230",
        "StudyDate=today",
        "StudyTime=25h",
        "StudyInstanceUID=1.2'%20OR%20'1'='1",
        "StudyInstanceUID=..%2F..%2Fetc",
        "StudyInstanceUID=1.2.*",
        "SeriesNumber=one",
        "Modality=%3Cscript%3E",
        "PatientID=a%00b",
        "limit=-1",
        "limit=ten",
        "offset=10001",
        "fuzzymatching=perhaps",
        "PatientID=1&00100020=2",
        "limit=1&limit=2",
    ],
)
def test_values_that_cannot_be_meant_are_refused(query: str) -> None:
    with pytest.raises(Invalid):
        parse(query)


@pytest.mark.parametrize(
    "query",
    [
        "StudyDate=20200101-",
        "StudyDate=-20200101",
        "StudyDate=20200101-20201231",
        "StudyTime=0830-1200",
        "StudyTime=083015.123456",
        "StudyDate=",
        "PatientName=",
        "PatientID='%20OR%201=1",
    ],
)
def test_ranges_wildcards_and_empty_values_are_allowed(query: str) -> None:
    assert len(parse(query).match) == 1


def test_a_warning_is_one_printable_line() -> None:
    value = warning("http://x/dicom-web:", ['a "b"\r\nInjected: 1', "王"])
    assert value == "299 http://x/dicom-web: \"a 'b'Injected: 1 \""
