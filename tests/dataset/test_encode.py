"""Encoding of DICOM JSON and decoding of identifiers, against pydicom."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from dataset.encode import decode_identifier, encode, vr_of
from kernel.errors import Invalid

Json = dict[str, dict[str, Any]]

ANSWER: Json = {
    "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
    "00080020": {"vr": "DA", "Value": ["20240101"]},
    "00080052": {"vr": "CS", "Value": ["STUDY"]},
    "00080061": {"vr": "CS", "Value": ["CT", "SR"]},
    "00081030": {"vr": "LO", "Value": ["胸部CT平扫"]},
    "00081140": {"vr": "SQ"},
    "00100010": {
        "vr": "PN",
        "Value": [{"Alphabetic": "Wang^XiaoMing", "Ideographic": "王^小明"}],
    },
    "00100020": {"vr": "LO"},
    "00180050": {"vr": "DS", "Value": [0.1234567890123456789, 2, None, "1.0"]},
    "00201208": {"vr": "IS", "Value": [12]},
    "00280009": {"vr": "AT", "Value": ["00181063", "00181065"]},
    "00280010": {"vr": "US", "Value": [512]},
    "00189219": {"vr": "SS", "Value": [-5]},
    "00400275": {"vr": "SQ", "Value": [{"00400007": {"vr": "LO", "Value": ["颅脑"]}}, {}]},
    "00420011": {"vr": "OB", "InlineBinary": "AQID"},
    "00720076": {"vr": "FL", "Value": [1.5, "NaN"]},
    "00720074": {"vr": "FD", "Value": [-1e300]},
    "00720082": {"vr": "SV", "Value": ["-9223372036854775808"]},
    "00720083": {"vr": "UV", "Value": [18446744073709551615]},
}


def read(data: bytes, *, implicit: bool) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_dataset(io.BytesIO(data), implicit, True)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("charset", ["GB18030", "GBK", "ISO_IR 192", "UTF-8"])
def test_pydicom_reads_what_is_written(charset: str, implicit: bool) -> None:
    ds = read(encode(ANSWER, implicit=implicit, charset=charset), implicit=implicit)
    assert ds.SpecificCharacterSet == ("ISO_IR 192" if charset == "UTF-8" else charset)
    assert ds.PatientName == "Wang^XiaoMing=王^小明"
    assert ds.StudyDescription == "胸部CT平扫"
    assert ds.RequestAttributesSequence[0].ScheduledProcedureStepDescription == "颅脑"
    assert len(ds.RequestAttributesSequence) == 2
    assert ds.ModalitiesInStudy == ["CT", "SR"]
    assert ds[0x00180050].value[0] == pytest.approx(0.123456789012345, abs=1e-14)
    assert [str(value) for value in ds[0x00180050].value][1:] == ["2", "", "1.0"]
    assert ds.FrameIncrementPointer == [0x00181063, 0x00181065]
    assert (ds.Rows, ds.TagAngleSecondAxis) == (512, -5)
    assert ds.EncapsulatedDocument == b"\1\2\3\0"
    assert ds[0x00720076].value[0] == 1.5
    assert ds[0x00720074].value == -1e300
    assert ds[0x00720082].value == -(2**63)
    assert ds[0x00720083].value == 2**64 - 1
    assert "PatientID" in ds


@pytest.mark.parametrize("charset", ["ISO_IR 100", "", "ISO_IR 6", "ISO_IR 144", "nonsense"])
def test_text_that_does_not_fit_takes_the_answer_to_utf8(charset: str) -> None:
    ds = read(encode(ANSWER, implicit=False, charset=charset), implicit=False)
    assert ds.SpecificCharacterSet == "ISO_IR 192"
    assert str(ds.PatientName) == "Wang^XiaoMing=王^小明"
    assert ds.RequestAttributesSequence[0].ScheduledProcedureStepDescription == "颅脑"


def test_the_default_repertoire_is_not_declared() -> None:
    data = encode({"00100010": {"vr": "PN", "Value": [{"Alphabetic": "A^B"}]}}, implicit=True,
                  charset="")  # fmt: skip
    assert data == b"\x10\x00\x10\x00\x04\x00\x00\x00A^B "


def test_code_extensions_are_declared_and_used() -> None:
    data = encode(ANSWER, implicit=False, charset="\\ISO 2022 IR 58")
    ds = read(data, implicit=False)
    assert list(ds.SpecificCharacterSet) == ["", "ISO 2022 IR 58"]
    assert b"Wang^XiaoMing=\x1b$)A\xcd\xf5^\x1b$)A\xd0\xa1\xc3\xf7" in data


def test_corpus_headers_survive_json_and_back(shared_data: Path) -> None:
    compared = 0
    for folder in ("charset", "pydicom", "sr", "rt", "pr", "ko", "seg", "hp", "nm", "us"):
        for path in sorted((shared_data / "dicom" / folder).rglob("*")):
            compared += path.is_file() and _survives(path)
    assert compared > 60


def _survives(path: Path) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ds = pydicom.dcmread(path, force=True, stop_before_pixels=True)
            ds.remove_private_tags()
            json = ds.to_json_dict()
        except Exception:  # noqa: BLE001 - values that pydicom itself cannot put into JSON
            return False
        json = {key: value for key, value in json.items() if _usual(key, value)}
        for implicit in (True, False):
            data = encode(json, implicit=implicit, charset="ISO_IR 192")
            again = read(data, implicit=implicit).to_json_dict()
            again["00080005"] = json.get("00080005", {})
            json["00080005"] = json.get("00080005", {})
            unimportant = {"00080005", "vr"} if implicit else {"00080005"}
            assert _plain(again, unimportant) == _plain(json, unimportant), path
    return True


def _usual(key: str, element: dict[str, Any]) -> bool:
    text = str(element)
    if key < "0008" or key.endswith("0000"):  # group lengths are not written
        return False
    if element["vr"] == "CS" and not text.isascii():  # pydicom takes it for Latin-1
        return False
    if "00283006" in text:  # US or OW: implicit VR cannot say which
        return False
    return "InlineBinary" not in text and "\\x1b" not in text and "BulkDataURI" not in text


def _plain(value: Any, unimportant: set[str]) -> Any:
    """JSON without padding and without the keys that may differ."""
    if isinstance(value, dict):
        return {
            key: _plain(inner, unimportant)
            for key, inner in value.items()
            if key not in unimportant
        }
    if isinstance(value, list):
        return [_plain(inner, unimportant) for inner in value]
    return value.strip(" \0") if isinstance(value, str) else value


@pytest.mark.parametrize(
    "element",
    [
        {"vr": "US", "Value": [70000]},
        {"vr": "US", "Value": ["many"]},
        {"vr": "IS", "Value": [1.5]},
        {"vr": "AT", "Value": ["here"]},
        {"vr": "LO", "Value": [5]},
        {"vr": "OB", "Value": ["AQID"]},
        {"vr": "OB", "InlineBinary": "*"},
        {"vr": "OB", "BulkDataURI": "bulk"},
    ],
)
def test_values_that_do_not_fit_their_vr_are_refused(element: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as caught:
        encode({"00100020": element}, implicit=False, charset="")
    assert caught.value.code == "dataset.not_encodable"
    assert "(0010,0020)" in str(caught.value)


def test_keys_that_are_no_tags_are_refused() -> None:
    with pytest.raises(Invalid):
        encode({"PatientID": {"vr": "LO"}}, implicit=False, charset="")


def test_a_value_too_long_for_its_vr_becomes_un() -> None:
    data = encode({"00080052": {"vr": "CS", "Value": ["A" * 70000]}}, implicit=False, charset="")
    assert data[4:6] == b"UN"
    assert struct.unpack_from("<I", data, 8) == (70000,)
    assert decode_identifier(data, implicit=False) == {0x00080052: "A" * 70000}


# ------------------------------------------------------------------------------------- identifiers


def identifier(ds: Dataset, *, implicit: bool, little_endian: bool = True) -> bytes:
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, little_endian
    charset = ds.get("SpecificCharacterSet", "ISO_IR 6")
    write_dataset(buffer, ds, pydicom.charset.convert_encodings(charset))
    return bytes(buffer.getvalue())


@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("charset", ["GB18030", "ISO_IR 192", "GBK"])
def test_identifiers_are_read_in_every_encoding(charset: str, implicit: bool, little: bool) -> None:
    ds = Dataset()
    ds.SpecificCharacterSet = charset
    ds.QueryRetrieveLevel = "STUDY"
    ds.PatientName = "王*"
    ds.StudyDate = "20240101-"
    ds.ModalitiesInStudy = ["CT", "MR"]
    ds.StudyInstanceUID = ""
    ds.NumberOfStudyRelatedInstances = None
    ds.Rows = 512
    ds.FrameIncrementPointer = [0x00181063]
    item = Dataset()
    item.ScheduledProcedureStepDescription = "*颅*"
    ds.RequestAttributesSequence = [item]
    ds.ReferencedStudySequence = []
    found = decode_identifier(identifier(ds, implicit=implicit, little_endian=little), implicit,
                              little_endian=little)  # fmt: skip
    assert found == {
        0x00080005: charset,
        0x00080020: "20240101-",
        0x00080052: "STUDY",
        0x00080061: "CT\\MR",
        0x00081110: {},
        0x00100010: "王*",
        0x0020000D: "",
        0x00201208: "",
        0x00280009: "00181063",
        0x00280010: "512",
        0x00400275: {0x00400007: "*颅*"},
    }


@pytest.mark.parametrize("implicit", [True, False])
def test_what_is_encoded_is_decoded(implicit: bool) -> None:
    found = decode_identifier(encode(ANSWER, implicit=implicit, charset="GB18030"), implicit)
    assert found[0x00100010] == "Wang^XiaoMing=王^小明"
    assert found[0x00189219] == "-5"
    assert found[0x00400275] == {0x00400007: "颅脑"}
    assert found[0x00081140] == {}
    assert found[0x00280009] == "00181063\\00181065"
    assert found[0x00420011] == ""


@pytest.mark.parametrize("implicit", [True, False])
def test_undefined_lengths_are_understood(implicit: bool) -> None:
    vr = b"" if implicit else b"SQ\0\0"
    inner = encode({"00400007": {"vr": "LO", "Value": ["A"]}}, implicit=implicit, charset="")
    data = b"\x40\x00\x75\x02" + vr + b"\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    data += inner + b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    data += encode({"00401001": {"vr": "SH", "Value": ["P"]}}, implicit=implicit, charset="")
    assert decode_identifier(data, implicit) == {0x00400275: {0x00400007: "A"}, 0x00401001: "P"}


def test_a_name_in_gbk_without_declaration_is_understood() -> None:
    data = b"\x10\x00\x10\x00\x08\x00\x00\x00" + "王^小明*".encode("gbk")
    assert decode_identifier(data, implicit=True) == {0x00100010: "王^小明*"}


def test_group_lengths_and_declared_encodings_that_lie_do_no_harm() -> None:
    data = b"\x10\x00\x00\x00UL\x04\x00\x0a\0\0\0\x10\x00\x10\x00PN\x02\x00A*"
    assert decode_identifier(data, implicit=False) == {0x00100010: "A*"}
    assert decode_identifier(data[12:], implicit=True) == {0x00100010: "A*"}


@pytest.mark.parametrize(
    "data",
    [
        b"\x10\x00\x10",
        b"\x10\x00\x10\x00\x08\x00\x00\x00abc",
        b"\x40\x00\x75\x02\xff\xff\xff\xff\x10\x00\x10\x00\x08\x00\x00\x00",
        b"\x40\x00\x75\x02\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 100_000,
        b"\x10\x00\x10\x00\x00\x00\x00\x00" * 20_000,
    ],
)
def test_identifiers_that_cannot_be_read_say_where(data: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        decode_identifier(data, implicit=True)
    assert caught.value.code == "dataset.unreadable"


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=80), st.booleans(), st.booleans())
def test_no_bytes_make_the_decoder_fail_otherwise(
    data: bytes, implicit: bool, little: bool
) -> None:
    try:
        decode_identifier(data, implicit, little_endian=little)
    except Invalid as error:
        assert error.code == "dataset.unreadable"


@pytest.mark.parametrize(
    ("tag", "vr"),
    [(0x00100010, "PN"), (0x00280106, "US"), (0x7FE00010, "OW"), (0x00090010, "LO"),
     (0x00091001, "UN"), (0x00100000, "UL"), (0x60023000, "OW")],
)  # fmt: skip
def test_vrs_come_from_the_dictionary(tag: int, vr: str) -> None:
    assert vr_of(tag) == vr
