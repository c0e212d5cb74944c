"""The head of a file: written by the standard, read as it comes."""

from __future__ import annotations

import io
import random
import warnings
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dataset.part10 import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    file_head,
    parse_head,
)
from dataset.refs import strict_uid
from kernel.errors import Invalid
from tests.dataset.generated import BIG, EXPLICIT, IMPLICIT, make

_CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.mark.parametrize("instance", ["1.2.3", "1.2.34"])
@pytest.mark.parametrize("source", ["", "CT1", "CT12"])
def test_a_written_head_is_read_by_pydicom_and_by_us(instance: str, source: str) -> None:
    head = file_head(_CT, instance, EXPLICIT, source)
    meta = pydicom.dcmread(io.BytesIO(head)).file_meta
    assert meta.MediaStorageSOPClassUID == _CT
    assert meta.MediaStorageSOPInstanceUID == instance
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert meta.ImplementationVersionName == IMPLEMENTATION_VERSION_NAME
    assert meta.get("SourceApplicationEntityTitle", "") == source
    assert meta.FileMetaInformationGroupLength == len(head) - 132 - 12
    parsed = parse_head(head)
    assert parsed is not None
    assert parsed.dataset_offset == len(head)
    assert (parsed.sop_class_uid, parsed.sop_instance_uid) == (_CT, instance)
    assert parsed.had_preamble and parsed.had_meta


def test_our_implementation_class_uid_is_a_uid() -> None:
    assert strict_uid(IMPLEMENTATION_CLASS_UID)
    assert len(IMPLEMENTATION_VERSION_NAME) <= 16


def test_a_head_that_is_not_there_whole_asks_for_more() -> None:
    data = file_head(_CT, "1.2.3", EXPLICIT) + make(1, EXPLICIT).data
    whole = parse_head(data)
    assert whole is not None
    for cut in range(whole.dataset_offset):
        assert parse_head(data[:cut]) is None
    assert parse_head(memoryview(data)[: whole.dataset_offset]) == whole


def test_every_real_head_is_read_as_pydicom_reads_it(shared_data: Path) -> None:
    compared = 0
    for path in sorted((shared_data / "dicom").rglob("*")):
        if not path.is_file():
            continue
        raw = path.read_bytes()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                meta = pydicom.dcmread(io.BytesIO(raw), stop_before_pixels=True).file_meta
                values = {element.keyword: str(element.value or "") for element in meta}
        except (InvalidDicomError, OSError):
            continue
        head = parse_head(raw)
        assert head is not None, path.name
        if "TransferSyntaxUID" in values:
            assert head.transfer_syntax_uid == values["TransferSyntaxUID"], path.name
        for value, keyword in (
            (head.sop_class_uid, "MediaStorageSOPClassUID"),
            (head.sop_instance_uid, "MediaStorageSOPInstanceUID"),
        ):
            assert (value or "") == values.get(keyword, ""), path.name
        compared += 1
    assert compared >= 445


@pytest.mark.parametrize(
    ("name", "syntax", "offset"),
    [
        ("ExplVR_BigEndNoMeta.dcm", BIG, 0),
        ("ExplVR_LitEndNoMeta.dcm", EXPLICIT, 0),
        ("rtstruct.dcm", IMPLICIT, 0),
        ("GH340.dcm", IMPLICIT, 0),
        ("meta_missing_tsyntax.dcm", IMPLICIT, 0xCA),
        ("JLSL_RGB_ILV0.dcm", "1.2.840.10008.1.2.4.80", 0x1E),
        ("no_meta_group_length.dcm", IMPLICIT, None),
    ],
)
def test_an_incomplete_head_is_made_up_for(
    shared_data: Path, name: str, syntax: str, offset: int | None
) -> None:
    raw = next((shared_data / "dicom").rglob(name)).read_bytes()
    head = parse_head(raw, final=True)
    assert head is not None
    assert head.transfer_syntax_uid == syntax
    assert offset is None or head.dataset_offset == offset


def test_a_data_set_without_any_head_is_guessed_in_every_encoding() -> None:
    for seed in range(300):
        for syntax in (IMPLICIT, EXPLICIT, BIG):
            made = make(seed, syntax)
            if len(made.data) < 132 or made.model[0][0] >> 16 != 8 or made.has_un:
                continue
            head = parse_head(made.data)
            assert head is not None
            assert head.transfer_syntax_uid == syntax, seed
            assert (head.dataset_offset, head.had_meta) == (0, False)


def test_a_wrong_group_length_does_not_matter() -> None:
    data = bytearray(file_head(_CT, "1.2.3", EXPLICIT) + make(1, EXPLICIT).data)
    right = parse_head(data)
    for wrong in (0, 3, 1000, 0xFFFFFFFF):
        data[140:144] = wrong.to_bytes(4, "little")
        assert parse_head(data, final=True) == right


def test_what_is_not_dicom_is_refused_in_words() -> None:
    for raw in (b"", b"hello", b"<html>" + b" " * 500, bytes(1000), b"\xff" * 1000):
        with pytest.raises(Invalid, match="not a DICOM file") as refused:
            parse_head(raw, final=True)
        assert refused.value.code == "part10.not_dicom"
    with pytest.raises(Invalid, match="cut off inside its meta information, at byte 200"):
        parse_head(file_head(_CT, "1.2.3", EXPLICIT)[:200], final=True)


def test_random_bytes_never_crash() -> None:
    rng = random.Random(3)
    good = file_head(_CT, "1.2.3", EXPLICIT) + make(1, EXPLICIT).data
    for _ in range(2000):
        data = bytearray(good)
        for _ in range(rng.randint(1, 10)):
            data[rng.randrange(128, 300)] = rng.randrange(256)
        try:
            parse_head(bytes(data), final=True)
        except Invalid as error:
            assert error.code == "part10.not_dicom"


def test_a_file_of_head_and_data_set_is_what_pydicom_reads() -> None:
    made = make(10, EXPLICIT)
    dataset = pydicom.dcmread(io.BytesIO(file_head(_CT, "1.2.3", EXPLICIT) + made.data))
    assert isinstance(dataset, Dataset)
    assert len(dataset) == len(made.model)
