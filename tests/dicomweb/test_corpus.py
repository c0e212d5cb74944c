"""Every file of the shared data by STOW-RS and back by WADO-RS, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset.part10 import parse_head
from kernel.errors import Invalid
from tests.dicomweb.conftest import Answer, Client

DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'


def data_set(file: bytes) -> bytes:
    """What follows the head of a DICOM file."""
    head = parse_head(file, final=True)
    assert head is not None
    return file[head.dataset_offset :]


def reasons(answer: Answer) -> list[str]:
    """Why parts were refused."""
    items = answer.json.get("00081198", {}).get("Value", [])
    assert all(item["00081197"]["Value"][0] > 0 for item in items)
    return [item["00000902"]["Value"][0] for item in items]


@pytest.mark.timeout(180)
async def test_data_sets_come_back_byte_identical(shared_data: Path, client: Client) -> None:
    files = sorted(path for path in (shared_data / "dicom").rglob("*") if path.is_file())
    stored: dict[str, bytes] = {}
    refused: dict[str, str] = {}
    different: list[str] = []
    for path in files:
        name = str(path.relative_to(shared_data / "dicom"))
        content = path.read_bytes()
        answer = await client.stow(content)
        if answer.status != 200:
            assert answer.status == 409, (name, answer.status, answer.body)
            (refused[name],) = reasons(answer)
            continue
        (item,) = answer.json["00081199"]["Value"]
        (url,) = item["00081190"]["Value"]
        first = stored.setdefault(url, data_set(content))
        back = await client.get(url.removeprefix(client.root), DICOM)
        ((headers, body),) = back.parts()
        if data_set(body) != first:
            different.append(name)
        assert "transfer-syntax=" in headers["content-type"]
    assert different == []
    assert len(stored) > 250
    unexpected = {name: why for name, why in refused.items() if not is_expected(name, why)}
    assert unexpected == {}


def is_expected(name: str, reason: str) -> bool:
    """What may be refused: files without the UIDs of an instance, and files damaged on purpose."""
    code = reason.partition(":")[0]
    if code.startswith("instance.") and code.endswith(("_uid.missing", "_uid.invalid")):
        return True
    return code == "part10.not_dicom" or name.startswith("malformed/")


async def test_every_malformed_file_is_answered_in_words(shared_data: Path, client: Client) -> None:
    for path in sorted((shared_data / "dicom" / "malformed").iterdir()):
        content = path.read_bytes()
        answer = await client.stow(content)
        assert answer.status in (200, 409), (path.name, answer.body)
        if answer.status == 409:
            try:
                parse_head(content, final=True)
            except Invalid as error:
                assert reasons(answer)[0].startswith(error.code)
            assert len(reasons(answer)[0]) > 10
