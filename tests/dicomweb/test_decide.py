"""Decisions over HTTP, and what WADO-RS, QIDO-RS and the page serve of a corrected study."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from tests.dicomweb.conftest import Answer, Client
from tests.dicomweb.material import dataset, file, path, uid

DICOM = "application/dicom"
JSON = "application/dicom+json"
NAME = "Li^Wei=李^伟"
STUDY = f"/api/studies/{uid(1)}"


async def decide(client: Client, kind: str, **more: Any) -> Answer:
    return await client.post(f"{STUDY}/{kind}", {"reason": "why", **more})


def read(body: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(body))


@pytest.fixture
async def study(client: Client) -> Client:
    """A study of two series with three instances."""
    files = [dataset(1, 1, 1), dataset(1, 1, 2), dataset(1, 2, 1)]
    assert (await client.stow(*[file(ds) for ds in files])).status == 200
    return client


@pytest.mark.backend
@pytest.mark.parametrize("settled", [False, True])
async def test_a_correction_reaches_every_way_out(study: Client, settled: bool) -> None:
    if settled:
        await study.settle()
    one, series = path(1, 1, 1), path(1, 1)
    before = await study.get(one, DICOM)
    described = await study.get(f"{series}/metadata", JSON)
    answer = await decide(study, "correct", attributes={"PatientName": NAME})
    assert (answer.status, len(answer.json["decisions"])) == (200, 1)
    after = await study.get(one, DICOM)
    assert after.headers["ETag"] != before.headers["ETag"]
    assert str(read(after.body).PatientName) == NAME
    for where, count in ((path(1), 3), (series, 2)):
        parts = (await study.get(where, 'multipart/related; type="application/dicom"')).parts()
        assert [str(read(body).PatientName) for _, body in parts] == [NAME] * count
    for where in (one, series, path(1)):
        for ds in (await study.get(f"{where}/metadata", JSON)).json:
            assert ds["00100010"]["Value"][0]["Ideographic"] == "李^伟"
            assert "04000561" in ds
    (found,) = (await study.get("/studies?PatientName=李*", JSON)).json
    assert found["0020000D"]["Value"] == [uid(1)]
    page = await study.get(f"/../studies/{uid(1)}")
    assert "李伟" in page.body.decode()
    download = (await study.get(f"/../studies/{uid(1)}/download")).body
    names = zipfile.ZipFile(io.BytesIO(download))
    assert {str(read(names.read(one)).PatientName) for one in names.namelist()} == {NAME}
    study.guard.asked.clear()
    original = await study.get(f"{one}?view=original", DICOM)
    assert original.body == before.body
    assert study.guard.asked == ["archive.study.read", "archive.study.original"]
    assert original.headers["ETag"] != after.headers["ETag"]
    for where in (one, series):
        stored = await study.get(f"{where}/metadata?view=original", JSON)
        assert "04000561" not in stored.json[0]
    assert stored.json == described.json
    assert (await study.get(f"{one}?view=other", DICOM)).status == 400


async def test_another_transfer_syntax_is_corrected_too(study: Client) -> None:
    await decide(study, "correct", attributes={"PatientName": NAME})
    syntax = "1.2.840.10008.1.2.1"
    answer = await study.get(path(1, 1, 1), f"{DICOM}; transfer-syntax={syntax}")
    assert str(read(answer.body).PatientName) == NAME


async def test_a_corrected_window_is_the_one_that_is_rendered(study: Client) -> None:
    where = f"{path(1, 1, 1)}/rendered"
    before = await study.get(where, "image/png")
    window = {"WindowCenter": "100", "WindowWidth": "50"}
    await decide(study, "correct", series=uid(1, 1), attributes=window)
    after = await study.get(where, "image/png")
    asked = await study.get(f"{where}?window=100,50,linear", "image/png")
    assert before.body != after.body == asked.body
    assert after.headers["ETag"] != before.headers["ETag"]


async def test_metadata_of_before_are_not_taken_for_new_ones(study: Client) -> None:
    await study.settle()
    where = f"{path(1, 1)}/metadata"
    before = await study.get(where, JSON)
    await decide(study, "correct", attributes={"PatientName": NAME})
    again = await study.get(where, JSON, **{"If-None-Match": before.headers["ETag"]})
    assert again.status == 200
    last = await study.get(where, JSON, **{"If-None-Match": again.headers["ETag"]})
    assert last.status == 304


@pytest.mark.backend
async def test_what_is_rejected_answers_404_until_it_is_restored(study: Client) -> None:
    only = {"series": uid(1, 1), "instance": uid(1, 1, 1), "code": "113001"}
    assert (await decide(study, "reject", **only)).status == 200
    assert (await study.get(path(1, 1, 1), DICOM)).status == 404
    assert len((await study.get(f"{path(1, 1)}/metadata", JSON)).json) == 1
    assert (await decide(study, "reject", **only)).status == 409
    assert (await decide(study, "reject", code="1")).json["code"] == "decision.code"
    assert (await decide(study, "reject", code="113039")).status == 200
    assert (await study.get("/studies", JSON)).status in (200, 204)
    assert (await study.get(path(1), DICOM)).status == 404
    assert (await decide(study, "restore")).status == 200
    assert (await decide(study, "restore", **only)).status == 200
    assert (await study.get(path(1, 1, 1), DICOM)).status == 200


async def test_a_study_under_a_hold_is_not_deleted(study: Client) -> None:
    assert (await decide(study, "hold")).status == 200
    answer = await decide(study, "delete")
    assert (answer.status, answer.json["code"]) == (409, "study.held")
    assert (await decide(study, "release")).status == 200
    assert (await decide(study, "delete")).json["instances"] == 3
    (state,) = (await study.get(f"/..{STUDY}/decisions", JSON)).json
    assert [one["kind"] for one in state["decisions"]] == ["hold", "release", "delete"]
    assert state["present"] is False


async def test_what_was_decided_is_told(study: Client) -> None:
    await decide(study, "correct", attributes={"PatientName": NAME})
    await decide(study, "hold")
    await study.stow(file(dataset(1, 1, 1, PatientSex="M", InstanceNumber=5)))
    (state,) = (await study.get(f"/..{STUDY}/decisions", JSON)).json
    assert (state["held"], state["own_patient_id"]) == (True, None)
    assert list(state["corrections"][0]["attributes"]) == ["00100010"]
    assert [one["kind"] for one in state["contradictions"]] == ["sex_differs"]
    (version,) = state["versions"]
    named = {"series": uid(1, 1), "instance": uid(1, 1, 1), "version": version["version"]}
    assert (await decide(study, "choose", **named)).status == 200
    assert read((await study.get(path(1, 1, 1), DICOM)).body).InstanceNumber == 5


async def test_patients_are_merged_and_taken_apart(study: Client) -> None:
    await study.stow(file(dataset(2)))
    both = {"patient": {"id": "P00001"}, "into": {"id": "P00002"}, "reason": "the same"}
    assert (await study.post("/api/merges", both)).status == 200
    assert len((await study.get("/studies?PatientID=P00002", JSON)).json) == 2
    (state,) = (await study.get(f"/..{STUDY}/decisions", JSON)).json
    assert state["own_patient_id"] == "P00001"
    assert (await study.post("/api/merges/undo", both)).status == 200
    assert len((await study.get("/studies?PatientID=P00002", JSON)).json) == 1


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("correct", {"attributes": {"PatientName": "x"}}),
        ("correct", {"reason": "x", "attributes": {"PatientName": 5}}),
        ("correct", {"reason": "x"}),
        ("choose", {"reason": "x", "instance": uid(1, 1, 1), "series": uid(1, 1), "version": [1]}),
        ("reject", {"reason": "x"}),
        ("hold", ["x"]),
    ],
)
async def test_bodies_that_say_nothing_are_refused_in_words(
    study: Client, kind: str, body: Any
) -> None:
    answer = await study.post(f"{STUDY}/{kind}", body)
    assert (answer.status, answer.json["code"]) == (400, "decision.body")


async def test_the_page_says_what_was_decided_and_what_contradicts(study: Client) -> None:
    where = f"/../studies/{uid(1)}"
    assert "study-notes" not in (await study.get(where)).body.decode()
    await decide(study, "correct", attributes={"PatientName": NAME})
    await decide(study, "hold")
    only = {"series": uid(1, 1), "instance": uid(1, 1, 2), "code": "113001"}
    await decide(study, "reject", **only)
    await study.stow(file(dataset(1, 1, 1, PatientSex="M")))
    await study.compare()
    page = (await study.get(where, **{"Accept-Language": "en"})).body.decode()
    for words in ("Corrected", "Legal hold", "Partly rejected", "Conflict"):
        assert f'tag-decided">{words}<' in page
    assert f"Another data set of image {uid(1, 1, 1)}" in page
    assert "it names another patient, study or kind of object" in page
    assert "Sex differs between images" in page
    assert "test: rejected (Rejected for Quality Reasons; why)" in page
    page = (await study.get(where, **{"Accept-Language": "zh-CN"})).body.decode()
    assert "法律保留" in page and "图像之间性别不一致" in page
