"""Chinese names in every encoding that hospitals send are found and read everywhere.

The same patient's studies come as GB18030, as GBK that claims to be Latin 1, as ISO 2022 IR 58 and
as UTF-8; they are looked for by C-FIND in either character set, by QIDO-RS and on the page.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import quote, urlencode

import pytest
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO

from dataset.charset import encode_text
from dataset.encode import encode
from dataset.part10 import file_head
from gateway.dimse import command as dimse
from tests.archive.material import make
from tests.gateway.peer import CT, ELE, STUDY_FIND, Peer
from tests.server.running import Running, serve

NAME = "Wang^Xiaoming=王^小明"
ENCODINGS: dict[str, tuple[str, Callable[[str], bytes]]] = {  # name: (declared, encoded)
    "gb18030": ("GB18030", lambda text: text.encode("gb18030")),
    "gbk_declared_latin1": ("ISO_IR 100", lambda text: text.encode("gbk")),
    "gbk_undeclared": ("", lambda text: text.encode("gbk")),
    "iso2022_ir58": ("\\ISO 2022 IR 58", lambda text: encode_text(text, "\\ISO 2022 IR 58", "PN")),
    "utf8": ("ISO_IR 192", lambda text: text.encode()),
    "utf8_declared_gb18030": ("GB18030", lambda text: text.encode()),
}


def element(tag: bytes, vr: bytes, value: bytes) -> bytes:
    value += b" " * (len(value) % 2)
    return tag + vr + len(value).to_bytes(2, "little") + value


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serve(tmp_path_factory.mktemp("yunying")) as running:
        yield running


async def store_all(server: Running) -> list[str]:
    """One study in each encoding; their Study Instance UIDs."""
    peer = await Peer.associate(server.dicom_port, (CT, ELE))
    uids = []
    for number, (declared, encoded) in enumerate(ENCODINGS.values(), 1):
        made = make(number, PatientName=None, SpecificCharacterSet=None, StudyDescription=None)
        at = made.data.index(b"\x10\x00\x20\x00LO")
        name = element(b"\x10\x00\x10\x00", b"PN", encoded(NAME))
        charset = element(b"\x08\x00\x05\x00", b"CS", declared.encode()) if declared else b""
        made = replace(made, data=charset + made.data[:at] + name + made.data[at:])
        answer = await peer.store(CT, made.identity.sop_instance_uid, ELE, made.data)
        assert answer.status == 0
        uids.append(made.study)
    await peer.release()
    return uids


async def c_find(server: Running, name: str, charset: str) -> list[tuple[str, bytes]]:
    """(Study Instance UID, raw name) of each answer to a C-FIND in this character set."""
    identifier = encode(
        {
            "00080052": {"vr": "CS", "Value": ["STUDY"]},
            "00100010": {"vr": "PN", "Value": [{"Alphabetic": name}]},
            "0020000D": {"vr": "UI"},
        },
        implicit=False,
        charset=charset,
    )
    peer = await Peer.associate(server.dicom_port, (STUDY_FIND, ELE))
    await peer.request(STUDY_FIND, ELE, dimse.C_FIND, identifier)
    found = []
    while (message := await peer.read_message()).status in (0xFF00, 0xFF01):
        assert message.data is not None
        ds = dcmread(DicomBytesIO(file_head("1.2", "1.2", ELE) + message.data))
        raw = message.data.partition(b"\x10\x00\x10\x00PN")[2]
        length = int.from_bytes(raw[:2], "little")
        found.append((str(ds.StudyInstanceUID), raw[2 : 2 + length].rstrip()))
    assert message.status == 0
    await peer.release()
    return found


async def test_names_in_every_encoding_are_found_by_every_way(server: Running) -> None:
    uids = sorted(await store_all(server))
    for charset, codec in (("GB18030", "gb18030"), ("ISO_IR 192", "utf-8")):
        for asked in ("王*", "*小明*", "wang*", "wangxiaoming", "wxm", "王^小明"):
            found = await c_find(server, asked, charset)
            assert sorted(uid for uid, _ in found) == uids, (charset, asked)
            assert {raw.decode(codec) for _, raw in found} == {NAME}, (charset, asked)
    for asked in ("王*", "*小明*", "wang*", "wxm"):
        raw = server.get(
            "/dicom-web/studies?" + urlencode({"PatientName": asked}, quote_via=quote),
            accept="application/dicom+json",
        )
        rows = json.loads(raw)
        assert sorted(row["0020000D"]["Value"][0] for row in rows) == uids, asked
        for row in rows:
            assert row["00100010"]["Value"][0]["Ideographic"] == "王^小明"
    for uid in uids:
        (metadata,) = json.loads(
            server.get(f"/dicom-web/studies/{uid}/metadata", accept="application/dicom+json")
        )
        assert metadata["00100010"]["Value"][0] == {
            "Alphabetic": "Wang^Xiaoming",
            "Ideographic": "王^小明",
        }
    page = server.get("/studies", accept="text/html").decode()
    assert page.count("王小明") >= len(uids)
