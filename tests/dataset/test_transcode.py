"""Conversions held against pydicom and against the same image in other transfer syntaxes."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset

from dataset.part10 import parse_head
from dataset.syntax import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from dataset.transcode import DECODABLE, NATIVE, can_convert, convert
from kernel.errors import Invalid
from tests.archive.material import encode, make

MATRIX = "dicom/ts_matrix_ct"
LOSSY = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.81"} | {
    "1.2.840.10008.1.2.4.91"
}
ENCAPSULATION = {0x7FE00001, 0x7FE00002, 0x7FE00003}
PIXELS = ENCAPSULATION | {0x7FE00010, 0x00280004, 0x00280006, 0x00280100}


def read(data: bytes, syntax: str) -> Dataset:
    ds = read_dataset(DicomBytesIO(data), syntax == IMPLICIT_LITTLE, syntax != EXPLICIT_BIG)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    return ds


def files(folder: Path) -> list[tuple[str, str, bytes]]:
    """(file name, transfer syntax, data set) of each file."""
    found = []
    for path in sorted(folder.iterdir()):
        raw = path.read_bytes()
        head = parse_head(raw, final=True)
        assert head is not None
        found.append((path.name, head.transfer_syntax_uid, raw[head.dataset_offset :]))
    return found


def test_one_image_in_every_transfer_syntax_gives_the_same_pixels(shared_data: Path) -> None:
    matrix = files(shared_data / MATRIX)
    (reference,) = (data for _, syntax, data in matrix if syntax == EXPLICIT_LITTLE)
    expected = read(reference, EXPLICIT_LITTLE).PixelData
    converted = set()
    for name, syntax, data in matrix:
        if not can_convert(syntax, EXPLICIT_LITTLE):
            continue
        ds = read(convert(data, syntax, EXPLICIT_LITTLE), EXPLICIT_LITTLE)
        assert not ENCAPSULATION & {int(tag) for tag in ds.keys()}, name  # noqa: SIM118
        assert (ds.Rows, ds.Columns) == (512, 512)
        if syntax in LOSSY:
            assert len(ds.PixelData) in (len(expected), len(expected) // 2), name
        else:
            assert ds.PixelData == expected, name
        converted.add(syntax)
    assert len(converted) >= 10


@pytest.mark.parametrize("target", [EXPLICIT_LITTLE, IMPLICIT_LITTLE])
def test_decompressing_touches_nothing_but_the_pixels(shared_data: Path, target: str) -> None:
    for name, syntax, data in files(shared_data / MATRIX):
        if syntax not in DECODABLE:
            continue
        converted = convert(data, syntax, target)
        if target == EXPLICIT_LITTLE:
            assert converted.startswith(data[: data.index(b"\x28\x00\x02\x00US")][:-12]), name
        before, after = read(data, EXPLICIT_LITTLE), read(converted, target)
        for one in before:
            if int(one.tag) not in PIXELS and one.tag.element and not one.tag.is_private:
                assert after[one.tag].value == one.value, (name, one.tag)


@pytest.mark.parametrize("source", sorted(NATIVE - {"1.2.840.10008.1.2.1.99"}))
@pytest.mark.parametrize("target", [EXPLICIT_LITTLE, IMPLICIT_LITTLE])
def test_native_encodings_convert_into_each_other(source: str, target: str) -> None:
    ds = read(make(side=32).data, EXPLICIT_LITTLE)
    item = Dataset()
    item.StudyDescription = "内容"
    item.ReferencedSOPSequence = [Dataset(), Dataset()]
    item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    ds.RequestAttributesSequence = [item]
    ds.ImagePositionPatient = [1, 2, 3]
    ds.RecommendedDisplayFrameRateInFloat = 1.5
    ds.add_new(0x00280106, "US", 7)
    ds.add_new(0x00090010, "LO", "SOMEBODY")
    ds.add_new(0x00091001, "OB", b"\1\2\3\4")
    ds.add_new(0x00281201, "OW", struct.pack("<4H", 1, 2, 3, 4))
    swapped = source == EXPLICIT_BIG
    if swapped:  # pydicom writes OW as it is given
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
        ds[0x00281201].value = struct.pack(">4H", 1, 2, 3, 4)
    data = encode(ds, implicit=source == IMPLICIT_LITTLE, little=not swapped)
    got = read(convert(data, source, target), target)
    expected = read(make(side=32).data, EXPLICIT_LITTLE)
    assert got.PixelData == expected.PixelData
    assert got[0x00281201].value == struct.pack("<4H", 1, 2, 3, 4)
    for one in ds:
        if one.tag not in (0x7FE00010, 0x00281201, 0x00091001):
            assert got[one.tag].value == one.value, one.tag
    assert bytes(got[0x00091001].value) == b"\1\2\3\4"
    assert got.RequestAttributesSequence[0] == item


def test_deflated_is_inflated(shared_data: Path) -> None:
    raw = (shared_data / "dicom/pydicom/image_dfl.dcm").read_bytes()
    head = parse_head(raw, final=True)
    assert head is not None
    data = convert(raw[head.dataset_offset :], head.transfer_syntax_uid, EXPLICIT_LITTLE)
    assert read(data, EXPLICIT_LITTLE) == pydicom.dcmread(
        shared_data / "dicom/pydicom/image_dfl.dcm"
    )


def compressed(syntax: str, fragment: bytes, **changes: object) -> bytes:
    ds = read(make(side=16).data, EXPLICIT_LITTLE)
    ds.PixelData = encapsulate([fragment])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return encode(ds)


RLE = "1.2.840.10008.1.2.5"


@pytest.mark.parametrize(
    ("data", "source", "code"),
    [
        (compressed(RLE, b"\0" * 64), RLE, "transcode.failed"),
        (compressed(RLE, b"\0" * 64, Rows=65535, Columns=65535), RLE, "transcode.too_large"),
        (compressed(RLE, b"\0" * 64, Rows=0, Columns=0), RLE, "transcode.failed"),
        (make().data, "1.2.840.10008.1.2.4.102", "transcode.unsupported"),
        (make().data[:200], EXPLICIT_LITTLE, "dataset.unreadable"),
    ],
)
def test_what_cannot_be_converted_is_refused_in_words(data: bytes, source: str, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        convert(data, source, IMPLICIT_LITTLE, limit_bytes=1 << 26)
    assert refused.value.code == code
    assert "{" not in str(refused.value)


def test_encapsulated_uncompressed_is_taken_out_of_its_fragments() -> None:
    native = read(make(side=16).data, EXPLICIT_LITTLE)
    data = compressed("", native.PixelData)
    got = read(convert(data, "1.2.840.10008.1.2.1.98", EXPLICIT_LITTLE), EXPLICIT_LITTLE)
    assert got.PixelData == native.PixelData


def test_same_syntax_is_the_same_bytes() -> None:
    data = make().data
    assert convert(data, EXPLICIT_LITTLE, EXPLICIT_LITTLE) is data
    assert not can_convert("1.2.840.10008.1.2.4.102", EXPLICIT_LITTLE)
    assert not can_convert(EXPLICIT_LITTLE, RLE)
