"""Orthanc as sender, finder and receiver: elements and pixels stay equal.

Orthanc rewrites what it takes in, so the comparison is element by element; byte identity is proven
by raw senders elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from dataset.part10 import file_head
from tests.archive.material import Made, make, uid
from tests.server.running import Running, serve, yunying
from tests.servers import free_port

CHINESE = "Yang^XiuYing=杨^秀英"


@dataclass(slots=True)
class Orthanc:
    """A running Orthanc; `port` is its DICOM port."""

    base: str
    port: int

    def ask(self, path: str, body: bytes | None = None) -> Any:
        """The answer of its REST interface."""
        request = urllib.request.Request(self.base + path, body)
        with urllib.request.urlopen(request, timeout=60) as answer:
            raw = answer.read()
        kind = answer.headers.get("Content-Type", "")
        return json.loads(raw) if "json" in kind and raw else raw

    def file(self, sop_instance_uid: str) -> Dataset:
        """An instance as Orthanc keeps it."""
        found = self.ask("/tools/lookup", sop_instance_uid.encode())
        (place,) = [one for one in found if one["Type"] == "Instance"]
        return dcmread(BytesIO(self.ask(f"/instances/{place['ID']}/file")))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serve(tmp_path_factory.mktemp("yunying")) as running:
        yield running


@pytest.fixture(scope="module")
def orthanc(server: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    program = shutil.which("Orthanc")
    if program is None:
        pytest.skip("Orthanc is not installed (Debian: orthanc)")
    folder = tmp_path_factory.mktemp("orthanc")
    dicom, http = free_port(), free_port()
    configuration = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "HttpPort": http,
        "DicomPort": dicom,
        "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
        "DefaultEncoding": "Utf8",
        "Plugins": [],
        "DicomModalities": {"yunying": ["YUNYING", "127.0.0.1", server.dicom_port]},
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, str(folder / "orthanc.json")], stdout=log, stderr=log, cwd="/"
        )
    try:
        _wait(f"http://127.0.0.1:{http}/system", process)
        data = str(server.data)
        yunying("ae", "add", "ORTHANC", "127.0.0.1", str(dicom), "--data", data)
        yield Orthanc(f"http://127.0.0.1:{http}", dicom)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(urllib.error.URLError):
            urllib.request.urlopen(address, timeout=5).close()
            return
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def part10(made: Made) -> bytes:
    identity = made.identity
    head = file_head(
        identity.sop_class_uid, identity.sop_instance_uid, identity.transfer_syntax_uid
    )
    return head + made.data


def retrieved(server: Running, study: str, series: str, instance: str) -> Dataset:
    path = f"/dicom-web/studies/{study}/series/{series}/instances/{instance}"
    return dcmread(BytesIO(server.get(path, accept="application/dicom; transfer-syntax=*")))


def test_what_orthanc_sends_is_stored_element_by_element(server: Running, orthanc: Orthanc) -> None:
    made = [make(1, 1, number, side=64) for number in (1, 2)]
    names = [orthanc.ask("/instances", part10(one))["ID"] for one in made]
    orthanc.ask("/modalities/yunying/store", json.dumps(names).encode())
    for one in made:
        ours = retrieved(server, one.study, one.series, one.identity.sop_instance_uid)
        assert ours == dcmread(BytesIO(part10(one)))


def test_real_files_pass_through_orthanc_with_their_pixels(
    server: Running, orthanc: Orthanc, shared_data: Path
) -> None:
    names = ("ts_matrix_ct/CTImage.dcm", "charset/chrX1.dcm", "charset/chrX2.dcm")
    for name in names:
        source = (shared_data / "dicom" / name).read_bytes()
        found = orthanc.ask("/instances", source)
        orthanc.ask("/modalities/yunying/store", json.dumps([found["ID"]]).encode())
        theirs = dcmread(BytesIO(orthanc.ask(f"/instances/{found['ID']}/file")))
        ours = retrieved(
            server, theirs.StudyInstanceUID, theirs.SeriesInstanceUID, theirs.SOPInstanceUID
        )
        assert ours == theirs, name
        if "PixelData" in theirs:
            assert ours.PixelData == theirs.PixelData, name


def test_orthanc_finds_and_moves_chinese_studies(server: Running, orthanc: Orthanc) -> None:
    made = make(7, 1, 1, side=32)
    folder = server.data.parent / "studies"
    folder.mkdir()
    (folder / "one.dcm").write_bytes(part10(made))
    yunying("import", str(folder), "--data", str(server.data))
    found: dict[str, str] = {}
    for asked in ("杨*", "*秀英*", "yang*"):
        query = {"Level": "Study", "Query": {"PatientName": asked, "StudyInstanceUID": uid(7)}}
        found = orthanc.ask("/modalities/yunying/query", json.dumps(query).encode())
        answers = orthanc.ask(f"/queries/{found['ID']}/answers?expand&simplify")
        assert [one["PatientName"] for one in answers] == [CHINESE], asked
    orthanc.ask(f"/queries/{found['ID']}/retrieve", b"ORTHANC")
    theirs = orthanc.file(made.identity.sop_instance_uid)
    assert theirs == dcmread(BytesIO(part10(made)))
    assert theirs.PixelData == dcmread(BytesIO(part10(made))).PixelData
