"""DICOM JSON against pydicom, on real files and generated data sets; the differences are listed
here.
"""

from __future__ import annotations

import base64
import io
import json
import math
import random
import struct
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.filereader import read_dataset

from dataset.dicom_json import locate, to_json
from dataset.elements import plain
from dataset.part10 import parse_head
from dataset.scanner import INDEX_TAGS, scan
from dataset.syntax import Budget
from kernel.errors import Invalid
from tests.dataset.generated import (
    BIG,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG,
    Made,
    Writer,
    make,
)

_PIXELS = {0x7FE00008, 0x7FE00009, 0x7FE00010}

# Text that pydicom leaves as it stands, or whose wrong declaration it follows
_REPAIRED = {("GH1301.dcm", "00100040"), ("chrGB2312.dcm", "00100010")}
# no oracle: pydicom reads nothing, fails, or loses its way where VR and length are missing
_PYDICOM_FAILS = {
    "GH177_D_CLUNIE_CT1_IVRLE_BigEndian_undefined_length.dcm",
    "emri_small_jpeg_2k_lossless_too_short.dcm",
    "GH364.dcm",
    "badVR.dcm",
    "GH195.dcm",
    "GH626.dcm",
}
_TRUNCATED = {"MR_truncated.dcm", "rtplan_truncated.dcm", "DICOMDIR-nooffset"}
_NOT_DICOM = {"README", "no_meta.dcm"}
# a value in UN is little endian even here (PS3.5 6.2.2): pydicom reads it in the order of the file
_UN_IN_BIG_ENDIAN = {"CTImage.dcm_BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2.dcm"}


def _keep_pixels_out(path: str, tag: int, vr: str, offset: int, length: int) -> str | None:
    return path if tag in _PIXELS else None


def _differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    found = []
    pending = [("", ours, theirs)]
    while pending:
        path, a, b = pending.pop()
        for key in sorted(a.keys() | b.keys()):
            if key.endswith("0000") or key in ("FFFCFFFC", "00080005"):
                continue
            x, y = a.get(key), b.get(key)
            if x == {"vr": "SQ"} and y == {"vr": "UN"}:  # UN of undefined length without items
                continue
            if x is None or y is None or x["vr"] != y["vr"]:
                found.append((path + key, x, y))
            elif x["vr"] == "SQ":
                items, others = x.get("Value", []), y.get("Value", [])
                if len(items) != len(others):
                    found.append((path + key, len(items), len(others)))
                pairs = zip(items, others, strict=False)
                pending += [(f"{path}{key}/{n}/", *pair) for n, pair in enumerate(pairs)]
            elif "BulkDataURI" not in x and not (
                _same_value(x.get("Value"), y.get("Value"))
                and x.get("InlineBinary") == y.get("InlineBinary")
            ):
                found.append((path + key, x, y))
    return found


def _same_value(ours: Any, theirs: Any) -> bool:
    """pydicom has '' for an empty value in a row, and keeps spaces in front that do not count."""
    if ours is None or theirs is None:
        return not ours and theirs in (None, [""], [{"Alphabetic": ""}])
    if len(ours) != len(theirs):
        return False
    return all(_same_one(a, b) for a, b in zip(ours, theirs, strict=True))


def _same_one(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a == {key: text for key, text in b.items() if text}
    if isinstance(b, str):
        return (a or "") == b.strip(" \0")
    return bool(a == b)


def _pydicom_json(raw: bytes, offset: int, syntax: str, had_meta: bool) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset: pydicom.Dataset
        if had_meta:
            dataset = pydicom.dcmread(io.BytesIO(raw), force=True)
        else:
            dataset = read_dataset(io.BytesIO(raw[offset:]), syntax == IMPLICIT, syntax != BIG)
        for tag in _PIXELS:
            if tag in dataset:
                dataset[tag].value = b""
        found: dict[str, Any] = dataset.to_json_dict()
        return found


def test_every_real_file_is_what_pydicom_says_but_for_known_differences(
    shared_data: Path,
) -> None:
    compared = 0
    for path in sorted((shared_data / "dicom").rglob("*")):
        if not path.is_file() or path.name in _NOT_DICOM:
            continue
        raw = path.read_bytes()
        head = parse_head(raw, final=True)
        assert head is not None
        damage: list[Invalid] = []
        ours = to_json(
            memoryview(raw)[head.dataset_offset :],
            head.transfer_syntax_uid,
            bulk=_keep_pixels_out,
            damage=damage,
        )
        json.dumps(ours, allow_nan=False)
        assert bool(damage) == (path.name in _TRUNCATED), path.name
        if path.name in _PYDICOM_FAILS | _TRUNCATED | _UN_IN_BIG_ENDIAN:
            continue
        syntax, had_meta = head.transfer_syntax_uid, head.had_meta
        theirs = _pydicom_json(raw, head.dataset_offset, syntax, had_meta)
        found = {(path.name, at) for at, _, _ in _differences(ours, theirs)}
        assert found <= _REPAIRED, (path.name, _differences(ours, theirs)[:3])
        compared += 1
    assert compared >= 440


def test_un_in_a_big_endian_file_is_read_as_in_its_little_endian_twin(shared_data: Path) -> None:
    folder = shared_data / "dicom" / "ts_matrix_ct"
    found = []
    for path in sorted(folder.glob("*VRLittleEndian*")) + sorted(folder.glob("*BigEndian*")):
        raw = path.read_bytes()
        head = parse_head(raw)
        assert head is not None
        found.append(to_json(raw[head.dataset_offset :], head.transfer_syntax_uid))
    if not found:
        pytest.skip("no such files")
    big = found[-1]
    assert big["00191017"]["Value"] == [2]
    assert big["00431010"]["Value"] == [400]
    for other in found[:-1]:
        assert big["00191017"] == other["00191017"]


@pytest.mark.parametrize("block", range(4))
def test_generated_data_sets_are_what_pydicom_says(block: int) -> None:
    for seed in range(block * 500, block * 500 + 500):
        made = make(seed)
        data = bytes(plain(made.data, made.transfer_syntax_uid))
        ours = to_json(made.data, made.transfer_syntax_uid, bulk=_keep_pixels_out)
        json.dumps(ours, allow_nan=False)
        assert list(ours) == sorted(ours)
        if made.has_un and not made.little:
            continue
        syntax = EXPLICIT if made.transfer_syntax_uid == DEFLATED else made.transfer_syntax_uid
        theirs = _pydicom_json(data, 0, syntax, had_meta=False)
        assert not _differences(ours, theirs), seed


def test_a_data_set_says_the_same_in_every_encoding() -> None:
    for seed in range(300):
        made = make(seed, EXPLICIT)
        if any(tag >> 16 & 1 or tag == 0x7FE00010 for tag, _, _ in made.model):
            continue
        answers = []
        for syntax in (EXPLICIT, IMPLICIT, BIG, DEFLATED):
            data = Writer(random.Random(seed), syntax).write(made.model)
            answers.append(to_json(data, syntax))
        assert all(answer == answers[0] for answer in answers), seed


def _element(tag: int, vr: str, value: bytes) -> bytes:
    if vr in ("SQ", "UN", "OB", "OW", "UT", "UC", "SV", "UV"):
        return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode(), 0, len(value)) + value
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value


def _one(tag: int, vr: str, value: bytes) -> Any:
    return to_json(_element(tag, vr, value), EXPLICIT)[f"{tag:08X}"]


@pytest.mark.parametrize(
    ("vr", "raw", "value"),
    [
        ("CS", b"A\\\\B ", ["A", None, "B"]),
        ("LO", b"  padded  ", ["padded"]),
        ("LT", b" kept\\as is ", [" kept\\as is"]),
        ("DS", b"1\\2.50\\ 3e2\\", [1, 2.5, 300.0, None]),
        ("DS", b"1,5 ", ["1,5"]),
        ("DS", b"1e999 ", ["1e999"]),
        ("DS", b"1_0 ", ["1_0"]),
        ("IS", b"+12\\-3\\1.0", [12, -3, 1]),
        ("IS", b"12a ", ["12a"]),
        ("FL", struct.pack("<2f", math.inf, 1.5), ["Infinity", 1.5]),
        ("FD", struct.pack("<2d", math.nan, -math.inf), ["NaN", "-Infinity"]),
        ("AT", b"\x10\0\x20\0", ["00100020"]),
        ("US", b"\1\0\2\0\3", [1, 2]),
        ("SV", struct.pack("<q", -5), [-5]),
        ("UI", b"1.2\\1.3\0", ["1.2", "1.3"]),
        ("PN", b"A^B\\\\=C", [{"Alphabetic": "A^B"}, None, {"Ideographic": "C"}]),
    ],
)
def test_values_follow_annex_f(vr: str, raw: bytes, value: list[Any]) -> None:
    assert _one(0x00091001, vr, raw) == {"vr": vr, "Value": value}
    json.dumps(value, allow_nan=False)


@pytest.mark.parametrize("vr", ["CS", "PN", "DS", "US", "OB", "SQ", "UN", "FD", "UT"])
def test_an_empty_element_has_no_value(vr: str) -> None:
    assert _one(0x00091001, vr, b"") == {"vr": vr}


def test_text_is_utf8_and_says_so() -> None:
    name = "王^小东".encode("gb18030")
    data = _element(0x00080005, "CS", b"GB18030 ") + _element(0x00100010, "PN", name)
    assert to_json(data, EXPLICIT) == {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "王^小东"}]},
    }
    undeclared = to_json(_element(0x00100010, "PN", name), EXPLICIT)
    assert undeclared["00080005"]["Value"] == ["ISO_IR 192"]
    assert list(undeclared) == ["00080005", "00100010"]


def test_an_item_has_its_own_character_set_or_that_of_its_parent() -> None:
    latin, greek = "é".encode("latin-1"), "α".encode("iso8859-7")
    item = b"\xfe\xff\0\xe0"
    own = _element(0x00080005, "CS", b"ISO_IR 126") + _element(0x00081030, "LO", greek + b" ")
    inherited = _element(0x00081030, "LO", latin + b" ")
    body = item + struct.pack("<I", len(own)) + own
    body += item + struct.pack("<I", len(inherited)) + inherited
    data = _element(0x00080005, "CS", b"ISO_IR 100") + _element(0x00081110, "SQ", body)
    first, second = to_json(data, EXPLICIT)["00081110"]["Value"]
    assert first["00081030"]["Value"] == ["α"]
    assert second["00081030"]["Value"] == ["é"]


def test_binary_is_inline_when_small_and_bulk_when_large_or_pixels() -> None:
    small, large, pixels = b"ab", bytes(2000), b"\1\2\3\4"
    data = _element(0x00091001, "OB", small) + _element(0x00091002, "UN", large)
    data += _element(0x7FE00010, "OW", pixels)
    asked = []

    def bulk(path: str, tag: int, vr: str, offset: int, length: int) -> str:
        asked.append((path, tag, vr, data[offset : offset + length]))
        return f"bulkdata/{path}"

    found = to_json(data, EXPLICIT, bulk=bulk)
    assert base64.b64decode(found["00091001"]["InlineBinary"]) == small
    assert found["00091002"] == {"vr": "UN", "BulkDataURI": "bulkdata/00091002"}
    assert found["7FE00010"]["BulkDataURI"] == "bulkdata/7FE00010"
    assert asked == [
        ("00091002", 0x00091002, "UN", large),
        ("7FE00010", 0x7FE00010, "OW", pixels),
    ]
    assert base64.b64decode(to_json(data, EXPLICIT)["7FE00010"]["InlineBinary"]) == pixels


def test_nested_bulk_data_is_located_by_its_path() -> None:
    for seed in range(200):
        made = make(seed)
        offered: dict[str, tuple[str, int, int]] = {}

        def bulk(
            path: str,
            tag: int,
            vr: str,
            offset: int,
            length: int,
            offered: dict[str, tuple[str, int, int]] = offered,
        ) -> str:
            assert path.endswith(f"{tag:08X}")
            offered[path] = vr, offset, length
            return path

        to_json(made.data, made.transfer_syntax_uid, bulk=bulk, inline_limit=0)
        for path, where in offered.items():
            assert locate(made.data, made.transfer_syntax_uid, path) == where
    assert locate(b"", EXPLICIT, "7FE00010") is None


def test_inline_binary_of_a_big_endian_data_set_is_little_endian() -> None:
    data = struct.pack(">HH2sHI", 0x28, 0x1201, b"OW", 0, 4) + b"\1\2\3\4"
    data = struct.pack(">HH2sH", 8, 5, b"CS", 0) + data
    found = to_json(data, BIG)["00281201"]
    assert base64.b64decode(found["InlineBinary"]) == b"\2\1\4\3"


def test_us_or_ss_follows_pixel_representation_wherever_it_stands() -> None:
    for sign, vr, value in ((b"\1\0", "SS", -2), (b"\0\0", "US", 65534)):
        data = struct.pack("<HHI", 0x18, 0x9810, 2) + b"\xfe\xff"
        data += struct.pack("<HHI", 0x28, 0x0103, 2) + sign
        data += struct.pack("<HHI", 0x28, 0x0106, 2) + b"\xfe\xff"
        found = to_json(data, IMPLICIT)
        assert found["00189810"] == {"vr": vr, "Value": [value]}
        assert found["00280106"] == {"vr": vr, "Value": [value]}


def test_private_elements_of_implicit_data_sets_get_the_vr_of_their_creator() -> None:
    def implicit(tag: int, value: bytes) -> bytes:
        return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value

    known = implicit(0x00190010, b"GEMS_ACQU_01") + implicit(0x00191002, b"\1\0\0\0")
    unknown = implicit(0x00190010, b"NOBODY") + implicit(0x00191002, b"\1\0\0\0")
    assert to_json(known, IMPLICIT)["00191002"] == {"vr": "SL", "Value": [1]}
    assert to_json(unknown, IMPLICIT)["00191002"]["vr"] == "UN"


def test_group_lengths_and_padding_are_left_out() -> None:
    data = _element(0x00080000, "UL", b"\0\0\0\0") + _element(0x00080060, "CS", b"CT")
    data += _element(0xFFFCFFFC, "OB", bytes(100))
    assert to_json(data, EXPLICIT) == {"00080060": {"vr": "CS", "Value": ["CT"]}}


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_deep_nesting_is_refused_without_recursion(syntax: str) -> None:
    header = b"\x08\0\x40\x11" + (b"SQ\0\0" if syntax == EXPLICIT else b"") + b"\xff\xff\xff\xff"
    data = (header + b"\xfe\xff\0\xe0\xff\xff\xff\xff") * 100_000
    with pytest.raises(Invalid, match="nested more than 64 deep"):
        to_json(data, syntax)


def test_deep_nesting_of_defined_length_is_refused_without_recursion() -> None:
    body = b""
    for _ in range(2000):
        body = _element(0x00081140, "SQ", b"\xfe\xff\0\xe0" + struct.pack("<I", len(body)) + body)
    with pytest.raises(Invalid, match="nested more than 64 deep"):
        to_json(body, EXPLICIT)


def test_too_many_elements_are_refused() -> None:
    data = _element(0x00091001, "LO", b"") * 1001
    with pytest.raises(Invalid, match="more than 1000 elements"):
        to_json(data, EXPLICIT, budget=Budget(max_elements=1000))
    body = (b"\xfe\xff\0\xe0" + bytes(4)) * 1001
    with pytest.raises(Invalid, match="more than 1000 elements"):
        to_json(_element(0x00081140, "SQ", body), EXPLICIT, budget=Budget(max_elements=1000))


def test_what_precedes_damage_can_be_had() -> None:
    data = _element(0x00080060, "CS", b"CT") + _element(0x00091001, "OB", bytes(50))[:-9]
    with pytest.raises(Invalid, match=r"byte 10 \(\(0009,1001\)\).* 9 bytes after the end"):
        to_json(data, EXPLICIT)
    damage: list[Invalid] = []
    assert to_json(data, EXPLICIT, damage=damage) == {"00080060": {"vr": "CS", "Value": ["CT"]}}
    assert damage[0].code == "dataset.unreadable"


def test_random_damage_never_crashes() -> None:
    rng = random.Random(11)
    for seed in range(1500):
        made = make(seed)
        data = bytearray(made.data)
        for _ in range(rng.randint(1, 8)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        found = to_json(bytes(data), made.transfer_syntax_uid, damage=[])
        json.dumps(found, allow_nan=False)


def _has_pixels(made: Made) -> bool:
    return any(tag == 0x7FE00010 for tag, _, _ in made.model)


def test_encapsulated_pixel_data_are_bulk_without_their_delimiter() -> None:
    made = next(found for found in (make(seed, JPEG) for seed in range(50)) if _has_pixels(found))
    where = locate(made.data, JPEG, "7FE00010")
    assert where is not None
    vr, offset, length = where
    assert (vr, made.data[offset : offset + 4]) == ("OB", b"\xfe\xff\0\xe0")
    assert made.data[offset + length :][:8] == b"\xfe\xff\xdd\xe0\0\0\0\0"
    assert to_json(made.data, JPEG)["7FE00010"] == {"vr": "OB"}


@pytest.mark.bench
def test_json_and_scan_are_many_times_faster_than_pydicom(shared_data: Path) -> None:
    raw = sorted((shared_data / "dicom/series/ct_philips_1mm_50").glob("*"))[0].read_bytes()
    head = parse_head(raw)
    assert head is not None
    data, syntax = memoryview(raw)[head.dataset_offset :], head.transfer_syntax_uid
    wanted = sorted(INDEX_TAGS)

    def read(tags: list[int] | None = None) -> pydicom.Dataset:
        return pydicom.dcmread(io.BytesIO(raw), stop_before_pixels=True, specific_tags=tags)

    calls: list[Callable[[], Any]] = [
        lambda: to_json(data, syntax, bulk=_keep_pixels_out),
        lambda: read().to_json_dict(),
        lambda: scan((data,), syntax),
        lambda: read(wanted),
    ]
    best = [1.0] * len(calls)
    for _ in range(100):
        for number, call in enumerate(calls):
            start = time.process_time()
            call()
            best[number] = min(best[number], time.process_time() - start)
    print(f"DICOM JSON {best[0] * 1e6:.0f} µs, scan {best[2] * 1e6:.0f} µs")
    assert best[0] * 4 < best[1]
    assert best[2] * 4 < best[3]
