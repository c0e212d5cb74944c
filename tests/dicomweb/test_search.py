"""QIDO-RS over a real archive (PS3.18 10.6)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dicomweb.conftest import Answer, Client
from tests.dicomweb.material import dataset, file, uid


def values(answer: Answer, tag: str) -> list[Any]:
    """The first value of a tag in each match."""
    assert answer.status == 200, answer.body
    return [match.get(tag, {}).get("Value", [None])[0] for match in answer.json]


@pytest.fixture
async def filled(client: Client) -> Client:
    """Three studies: one with two series, a Chinese name, and an MR."""
    answer = await client.stow(
        file(dataset(1, 1, 1)),
        file(dataset(1, 1, 2)),
        file(dataset(1, 2, 1, Modality="SR")),
        file(dataset(2, PatientName="Wang^XiaoMing=王^小明", StudyDate="20240510")),
        file(dataset(3, Modality="MR", StudyDate="20230101", PatientName="Smith^John")),
    )
    assert answer.status == 200
    return client


async def test_studies_come_with_the_required_attributes(filled: Client) -> None:
    answer = await filled.get("/studies?PatientID=P00001", "application/dicom+json")
    (match,) = answer.json
    assert answer.headers["Content-Type"] == "application/dicom+json"
    required = {
        "00080020", "00080030", "00080050", "00080056", "00080061", "00081190", "00100010",
        "00100020", "00100040", "0020000D", "00201206", "00201208",
    }  # fmt: skip
    assert required <= match.keys()
    assert match["00080061"]["Value"] == ["CT", "SR"]
    assert (match["00201206"]["Value"], match["00201208"]["Value"]) == ([2], [3])
    assert match["00081190"]["Value"] == [f"{filled.root}/studies/{uid(1)}"]
    assert list(match) == sorted(match)
    assert match["00100010"]["Value"][0] == {"Alphabetic": "Yang^XiuYing", "Ideographic": "杨^秀英"}


async def test_a_search_without_results_is_an_empty_list(filled: Client) -> None:
    """PS3.18 2026a 10.6.3.1 (CP-2473): 200 and an empty list, no longer 204."""
    answer = await filled.get("/studies?PatientID=nobody")
    assert (answer.status, answer.json) == (200, [])


@pytest.mark.backend
@pytest.mark.parametrize(
    ("query", "studies"),
    [
        ("PatientName=%E7%8E%8B*", [2]),
        ("PatientName=wang*", [2]),
        ("PatientName=SMITH%5EJOHN", [3]),
        ("PatientName=wangxiaoming&fuzzymatching=true", [2]),
        ("StudyDate=20240501-", [2]),
        ("StudyDate=-20231231", [3]),
        ("StudyDate=20240101-20240430", [1]),
        ("ModalitiesInStudy=MR", [3]),
        ("ModalitiesInStudy=MR,SR", [1, 3]),
        ("ModalitiesInStudy=MR%2CSR", [1, 3]),
        (f"StudyInstanceUID={uid(1)},{uid(3)}", [1, 3]),
        ("00080050=A00002", [2]),
        ("AccessionNumber=A0000?", [1, 2, 3]),
        (f"0020000D={uid(2)}", [2]),
    ],
)
async def test_studies_are_found_by_their_keys(
    filled: Client, query: str, studies: list[int]
) -> None:
    answer = await filled.get(f"/studies?{query}")
    assert sorted(values(answer, "0020000D")) == [uid(study) for study in studies]


@pytest.mark.backend
@pytest.mark.parametrize(
    ("path", "found"),
    [
        (f"/studies/{uid(1)}/series", 2),
        ("/series", 4),
        ("/series?Modality=SR", 1),
        (f"/series?StudyInstanceUID={uid(1)}", 2),
        (f"/studies/{uid(1)}/instances", 3),
        (f"/studies/{uid(1)}/series/{uid(1, 1)}/instances", 2),
        ("/instances", 5),
        (f"/instances?SeriesInstanceUID={uid(1, 1)}&InstanceNumber=2", 1),
        (f"/studies/{uid(9)}/series", 0),
    ],
)
async def test_every_level_can_be_searched_at_every_address(
    filled: Client, path: str, found: int
) -> None:
    answer = await filled.get(path)
    assert len(values(answer, "0020000D")) == found


async def test_series_and_instances_come_with_their_attributes_and_addresses(
    filled: Client,
) -> None:
    (series, _) = (await filled.get(f"/studies/{uid(1)}/series")).json
    assert series["00080060"]["Value"] == ["CT"]
    assert series["00201209"]["Value"] == [2]
    assert series["00081190"]["Value"] == [f"{filled.root}/studies/{uid(1)}/series/{uid(1, 1)}"]
    assert "00100010" not in series
    instance = (await filled.get("/instances?limit=1")).json[0]
    assert {"00080016", "00080018", "00200013", "00280010", "00280011", "00100010"} <= (
        instance.keys()
    )
    assert instance["00081190"]["Value"][0].endswith(instance["00080018"]["Value"][0])


async def test_pages_follow_each_other(filled: Client) -> None:
    everything = values(await filled.get("/studies"), "0020000D")
    pages = []
    for offset in range(4):
        answer = await filled.get(f"/studies?limit=1&offset={offset}")
        pages += values(answer, "0020000D")
        assert ("additional results" in answer.headers.get("Warning", "")) == (offset < 2)
    assert pages == everything
    assert (await filled.get("/studies?limit=0")).json == []


async def test_included_fields_are_added(filled: Client) -> None:
    plain = (await filled.get("/studies?limit=1")).json[0]
    assert "00081030" not in plain
    for query in ("includefield=StudyDescription", "includefield=00081030%2C00080060"):
        (match, *_) = (await filled.get(f"/studies?limit=1&{query}")).json
        assert match["00081030"]["Value"] == ["胸部CT平扫"]
    (match, *_) = (await filled.get("/studies?limit=1&includefield=all")).json
    assert "00081030" in match


async def test_ignored_parameters_are_named_in_a_warning(filled: Client) -> None:
    answer = await filled.get("/studies?foo=1&PatientWeight=60&PatientID=P00001")
    assert len(answer.json) == 1
    warning = answer.headers["Warning"]
    assert warning.startswith(f"299 {filled.root}: ")
    assert "foo" in warning and "PatientWeight" in warning


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/studies?StudyDate=yesterday", "query.bad_value"),
        ("/studies?limit=many", "query.bad_value"),
        ("/studies?offset=99999", "query.offset"),
        ("/studies?StudyInstanceUID=1%27%20OR%201%3D1", "uid.invalid"),
        ("/studies/1.2%22/series", "uid.invalid"),
        ("/studies/%3Cscript%3E/series", "uid.invalid"),
        (f"/studies/{uid(1)}/series?StudyInstanceUID={uid(2)}", "query.contradiction"),
    ],
)
async def test_bad_values_are_answered_with_a_problem(filled: Client, path: str, code: str) -> None:
    answer = await filled.get(path)
    assert (answer.status, answer.json["code"]) == (400, code)
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.json["detail"]


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/dicom+json, application/json", 200),
        ("application/json", 200),
        ("*/*", 200),
        ("text/html,application/xhtml+xml,*/*;q=0.8", 200),
        ('multipart/related; type="application/dicom+xml"', 406),
        ("text/csv", 406),
    ],
)
async def test_results_are_dicom_json(filled: Client, accept: str, status: int) -> None:
    assert (await filled.get("/studies", accept)).status == status


async def test_other_owners_studies_are_not_found(filled: Client) -> None:
    filled.guard.owners = frozenset({5})
    assert (await filled.get("/studies")).json == []
