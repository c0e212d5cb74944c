"""Broken input by every door: stored, quarantined or refused for a stated reason, nothing lost.

Each file comes by C-STORE, by STOW-RS and by import; a good instance goes through before and after
on the same association, and the server says that it is well.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dataset.part10 import parse_head
from kernel.errors import AppError
from tests.archive.material import Made, make
from tests.conformance.test_orthanc import part10
from tests.gateway.peer import CT, ELE, Peer
from tests.server.running import Running, fails, serve

NAMES = (
    "1403-OB.dcm",
    "CTImageStorage_bad_meta.dcm",
    "GH1146.dcm",
    "GH177_D_CLUNIE_CT1_IVRLE_BigEndian_ELE_undefinded_length.dcm",
    "GH177_D_CLUNIE_CT1_IVRLE_BigEndian_undefined_length.dcm",
    "GH223.dcm",
    "GH340.dcm",
    "GH487.dcm",
    "GH626.dcm",
    "Issue1097_FailToOpenDeflatedFileWithSQ.dcm",
    "bad_sequence.dcm",
    "explicit_VR-UN.dcm",
    "no-meta-length-test.dcm",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serve(tmp_path_factory.mktemp("yunying")) as running:
        yield running


def nested(levels: int) -> bytes:
    """A data set whose first private sequence is `levels` deep, before the study's UIDs."""
    made = make(900)
    sequence = struct.pack("<HH2sHI", 0x0009, 0x1000, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    deep = (sequence + item) * levels + end * levels
    at = made.data.index(b"\x10\x00\x10\x00PN")
    return made.data[:at] + deep + made.data[at:]


def without(keyword: str, study: int) -> bytes:
    nothing: Any = {keyword: None}
    return make(study, **nothing).data


MADE: dict[str, Callable[[], bytes]] = {
    "nested_100000_levels": lambda: nested(100_000),
    "no_study_instance_uid": lambda: without("StudyInstanceUID", 901),
    "no_series_instance_uid": lambda: without("SeriesInstanceUID", 902),
    "empty": lambda: b"",
    "noise": lambda: bytes(range(256)) * 40,
}


def cases(shared_data: Path) -> dict[str, bytes]:
    """Every bad data set by name, as the files that a person would have."""
    found = {name: part10(Made(make(1).identity, build(), "", "")) for name, build in MADE.items()}
    plain = make(903)
    found["no_preamble"] = plain.data
    for name in NAMES:
        found[name] = (shared_data / "dicom" / "malformed" / name).read_bytes()
    return found


def announced(raw: bytes) -> tuple[str, str, str, bytes]:
    """What a sender of the file would announce, and its data set."""
    try:
        head = parse_head(raw, final=True)
    except AppError:
        head = None
    if head is None:
        return CT, "1.2.3.4.5", ELE, raw
    return (
        head.sop_class_uid or CT,
        head.sop_instance_uid or "1.2.3.4.5",
        head.transfer_syntax_uid,
        raw[head.dataset_offset :],
    )


async def test_c_store_says_what_is_wrong_and_goes_on(server: Running, shared_data: Path) -> None:
    number = 1
    for name, raw in cases(shared_data).items():
        sop_class, uid, syntax, data = announced(raw)
        peer = await Peer.associate(server.dicom_port, (sop_class, syntax), (CT, ELE))
        if (sop_class, syntax) not in peer.contexts:  # private: refused at negotiation
            assert sop_class.startswith("2.25."), name
            await peer.release()
            continue
        answer = await peer.store(sop_class, uid, syntax, data)
        if answer.status:
            assert answer.status >> 12 in (0xA, 0xC) or 0x0100 <= answer.status < 0x0200, name
            assert answer.comment, name
        good = make(1, 1, number)
        number += 1
        stored = await peer.store(CT, good.identity.sop_instance_uid, ELE, good.data)
        assert stored.status == 0, name
        await peer.release()
    assert server.health()["status"] == "ok"


def test_stow_says_what_is_wrong_and_stores_the_rest(server: Running, shared_data: Path) -> None:
    for number, (name, raw) in enumerate(cases(shared_data).items(), 1):
        good = make(2, 1, number)
        parts = [raw, part10(good)]
        body = b"".join(
            b"--edge\r\nContent-Type: application/dicom\r\n\r\n" + part + b"\r\n" for part in parts
        )
        kind = 'multipart/related; type="application/dicom"; boundary=edge'
        answer = json.loads(
            server.post("/dicom-web/studies", body + b"--edge--\r\n", kind, ok=False)
        )
        stored = [
            one["00081155"]["Value"][0] for one in answer.get("00081199", {}).get("Value", [])
        ]
        failed = answer.get("00081198", {}).get("Value", [])
        assert good.identity.sop_instance_uid in stored, name
        assert len(stored) + len(failed) == 2, name
        for one in failed:
            assert one["00081197"]["Value"][0] > 0, name
    assert server.health()["status"] == "ok"


def test_import_counts_the_refused_files_by_their_reason(
    server: Running, shared_data: Path, tmp_path: Path
) -> None:
    files = cases(shared_data)
    folder = tmp_path / "disc"
    folder.mkdir()
    for name, raw in files.items():
        (folder / name).write_bytes(raw)
    (folder / "good.dcm").write_bytes(part10(make(3)))
    said = fails("import", str(folder), "--data", str(server.data))
    assert f"{len(files) + 1} files: " in said
    assert ", 9 refused, 0 skipped" in said
    for reason in (
        "kept aside: Study Instance UID (0020,000D) is missing",
        "kept aside: Series Instance UID (0020,000E) is missing",
        "sequences are nested more than 64 deep",
        "(for example noise)",
    ):
        assert reason in said, said
    found = json.loads(
        server.get(
            f"/dicom-web/studies?StudyInstanceUID={make(3).study}", accept="application/dicom+json"
        )
    )
    assert len(found) == 1
    assert server.health()["status"] == "ok"
    assert "Traceback" not in server.log()
