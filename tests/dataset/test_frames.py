"""Frames against pydicom.encaps on real files, and on pixel data put together in every way."""

from __future__ import annotations

import io
import random
import struct
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames

from dataset.elements import plain
from dataset.frames import FrameTable, frame_table, unpack_frame
from dataset.part10 import parse_head
from dataset.syntax import Buffer
from kernel.errors import Invalid
from tests.dataset.generated import (
    BIG,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG,
    Fragments,
    Model,
    Writer,
)

# truncated or empty pixel data, or without the attributes that pydicom needs: no oracle
_NO_ORACLE = {
    "GH177_D_CLUNIE_CT1_IVRLE_BigEndian_undefined_length.dcm",
    "GH340.dcm",
    "GH626.dcm",
    "badVR.dcm",
    "emri_small_jpeg_2k_lossless_too_short.dcm",
    "README",
    "no_meta.dcm",
}
_REFUSED = {
    "DICOMDIR-nooffset": "dataset.unreadable",
    "MR_truncated.dcm": "dataset.unreadable",
    "rtplan_truncated.dcm": "dataset.unreadable",
    "meta_missing_tsyntax.dcm": "frames.unclear",
    "nested_priv_SQ.dcm": "frames.unclear",
}


def _cut(table: FrameTable, data: Buffer) -> list[bytes]:
    return [
        unpack_frame(table, number, [bytes(data[at : at + size]) for at, size in pieces])
        for number, pieces in enumerate(table.frames)
    ]


def _pydicom_frames(dataset: pydicom.Dataset, encapsulated: bool) -> list[bytes]:
    count = int(dataset.get("NumberOfFrames", 1) or 1)
    if encapsulated:
        extended = None
        if "ExtendedOffsetTable" in dataset:
            extended = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
        return list(
            generate_frames(dataset.PixelData, number_of_frames=count, extended_offsets=extended)
        )
    keywords = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
    raw = next(dataset[keyword].value for keyword in keywords if keyword in dataset)
    bits = dataset.Rows * dataset.Columns * dataset.get("SamplesPerPixel", 1)
    bits *= dataset.BitsAllocated
    if dataset.BitsAllocated == 1:
        unpacked = np.unpackbits(np.frombuffer(raw, "u1"), bitorder="little")
        cut = [unpacked[n * bits : (n + 1) * bits] for n in range(count)]
        return [np.packbits(frame, bitorder="little").tobytes() for frame in cut]
    if dataset.PhotometricInterpretation == "YBR_FULL_422":
        bits = bits * 2 // 3
    return [raw[n * bits // 8 : (n + 1) * bits // 8] for n in range(count)]


def test_frames_of_every_real_file_are_those_of_pydicom(shared_data: Path) -> None:
    compared = 0
    for path in sorted((shared_data / "dicom").rglob("*")):
        if not path.is_file() or path.name in _NO_ORACLE:
            continue
        raw = path.read_bytes()
        head = parse_head(raw, final=True)
        assert head is not None
        data = plain(raw[head.dataset_offset :], head.transfer_syntax_uid)
        if path.name in _REFUSED:
            with pytest.raises(Invalid) as refused:
                frame_table(raw[head.dataset_offset :], head.transfer_syntax_uid)
            assert refused.value.code == _REFUSED[path.name], path.name
            continue
        table = frame_table(memoryview(raw)[head.dataset_offset :], head.transfer_syntax_uid)
        if table is None:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(raw), force=True)
            assert _cut(table, data) == _pydicom_frames(dataset, table.encapsulated), path.name
        compared += 1
    assert compared >= 330


def _image(count: int, pixels: Model, rows: int = 4, columns: int = 6, bits: int = 8) -> Model:
    return [
        (0x00280002, "US", (1,)),
        (0x00280004, "CS", b"MONOCHROME2 "),
        (0x00280008, "IS", str(count).encode().ljust(2)),
        (0x00280010, "US", (rows,)),
        (0x00280011, "US", (columns,)),
        (0x00280100, "US", (bits,)),
        *pixels,
    ]


def _encode(model: Model, syntax: str) -> bytes:
    return Writer(random.Random(1), syntax, un_share=0.0).write(model)


def _codestreams(count: int, seed: int = 1) -> list[bytes]:
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        body = rng.randbytes(rng.randint(20, 60)).replace(b"\xff", b"\xfe")
        made.append(b"\xff\xd8\xff\xe0" + body + b"\xff\xd9" + b"\0" * (len(body) % 2))
    return made


def _items(value: bytes) -> tuple[bytes, ...]:
    items, at = [], 0
    while at + 8 <= len(value):
        size = int.from_bytes(value[at + 4 : at + 8], "little")
        items.append(value[at + 8 : at + 8 + size])
        at += 8 + size
    return tuple(items)


@pytest.mark.parametrize("per_frame", [1, 2, 3])
@pytest.mark.parametrize("has_table", [True, False])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_encapsulated_frames_are_found(per_frame: int, has_table: bool, count: int) -> None:
    streams = _codestreams(count)
    value = encapsulate(streams, fragments_per_frame=per_frame, has_bot=has_table)
    model = _image(count, [(0x7FE00010, "OB", Fragments(_items(value)))])
    data = _encode(model, JPEG)
    table = frame_table(data, JPEG)
    assert table is not None and table.encapsulated
    assert _cut(table, data) == streams
    assert all(len(pieces) == per_frame for pieces in table.frames)


def test_an_extended_offset_table_is_used_and_cuts_the_padding_away() -> None:
    streams = [stream[:-1] if stream[-1] == 0 else stream for stream in _codestreams(5)]
    value, offsets, _ = encapsulate_extended(streams)  # its lengths include the padding
    lengths = struct.pack("<5Q", *map(len, streams))
    pixels: Model = [
        (0x7FE00001, "OV", offsets),
        (0x7FE00002, "OV", lengths),
        (0x7FE00010, "OB", Fragments(_items(value))),
    ]
    data = _encode(_image(5, pixels), JPEG)
    table = frame_table(data, JPEG)
    assert table is not None
    assert _cut(table, data) == streams


def test_a_lying_offset_table_gives_way_to_the_fragments() -> None:
    streams = _codestreams(3)
    wrong = struct.pack("<3I", 0, 5, 9)
    data = _encode(_image(3, [(0x7FE00010, "OB", Fragments((wrong, *streams)))]), JPEG)
    table = frame_table(data, JPEG)
    assert table is not None
    assert _cut(table, data) == streams


def test_frames_without_end_markers_are_divided_at_their_starts() -> None:
    frames = [[b"\xff\xd8\xff\xe0" + bytes(20), bytes(30)], [b"\xff\xd8\xff\xe0" + bytes(8)]]
    items = (b"", *(piece for frame in frames for piece in frame))
    data = _encode(_image(2, [(0x7FE00010, "OB", Fragments(items))]), JPEG)
    table = frame_table(data, JPEG)
    assert table is not None
    assert _cut(table, data) == [b"".join(frame) for frame in frames]


def test_fragments_that_cannot_be_divided_are_told() -> None:
    items = (b"", bytes(10), bytes(12), bytes(14))
    data = _encode(_image(2, [(0x7FE00010, "OB", Fragments(items))]), JPEG)
    with pytest.raises(Invalid, match="3 fragments without an offset table") as refused:
        frame_table(data, JPEG)
    assert refused.value.code == "frames.unclear"


def test_video_is_one_stream() -> None:
    video = "1.2.840.10008.1.2.4.102"
    data = _encode(_image(50, [(0x7FE00010, "OB", Fragments((b"", b"abcd", b"ef")))]), video)
    table = frame_table(data, video)
    assert table is not None and table.is_video
    assert _cut(table, data) == [b"abcdef"]


def test_a_missing_last_delimiter_does_not_matter() -> None:
    data = _encode(_image(1, [(0x7FE00010, "OB", Fragments((b"", b"abcd")))]), JPEG)[:-8]
    table = frame_table(data, JPEG)
    assert table is not None
    assert _cut(table, data) == [b"abcd"]


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG, DEFLATED])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_native_frames_are_counted_off(syntax: str, bits: int) -> None:
    raw = random.Random(2).randbytes(3 * 4 * 6 * bits // 8)
    data = _encode(_image(3, [(0x7FE00010, "OW", raw)], bits=bits), syntax)
    table = frame_table(data, syntax)
    assert table is not None and not table.encapsulated
    assert table.little_endian is (syntax != BIG)
    cut = b"".join(_cut(table, plain(data, syntax)))
    if syntax == BIG:
        cut = np.frombuffer(cut, ">u2").astype("<u2").tobytes()
    assert cut == raw


@pytest.mark.parametrize(("tag", "vr", "size"), [(0x7FE00008, "OF", 4), (0x7FE00009, "OD", 8)])
def test_float_pixel_data_have_frames(tag: int, vr: str, size: int) -> None:
    raw = random.Random(1).randbytes(2 * 4 * 6 * size)
    data = _encode(_image(2, [(tag, vr, raw)], bits=8 * size), EXPLICIT)
    table = frame_table(data, EXPLICIT)
    assert table is not None
    assert _cut(table, data) == [raw[: len(raw) // 2], raw[len(raw) // 2 :]]


def test_one_bit_frames_that_are_no_whole_bytes_are_moved_to_bit_zero() -> None:
    bits = np.random.default_rng(1).integers(0, 2, 5 * 21, dtype="u1")
    raw = np.packbits(bits, bitorder="little").tobytes()
    pixels: Model = [(0x7FE00010, "OB", raw + b"\0" * (len(raw) % 2))]
    data = _encode(_image(5, pixels, rows=3, columns=7, bits=1), EXPLICIT)
    table = frame_table(data, EXPLICIT)
    assert table is not None and table.frame_bits == 21
    for number, frame in enumerate(_cut(table, data)):
        unpacked = np.unpackbits(np.frombuffer(frame, "u1"), bitorder="little")[:21]
        assert np.array_equal(unpacked, bits[21 * number : 21 * number + 21])


def test_pixel_data_that_are_too_short_are_told() -> None:
    data = _encode(_image(3, [(0x7FE00010, "OB", bytes(24))]), EXPLICIT)
    with pytest.raises(Invalid, match="have 24 bytes, but 3 frames of this size need 72"):
        frame_table(data, EXPLICIT)
    huge = _encode(_image(1, [(0x7FE00010, "OB", b"ab")], rows=65535, columns=65535), EXPLICIT)
    with pytest.raises(Invalid, match="need 4294836225"):
        frame_table(huge, EXPLICIT)


def test_no_pixel_data_no_frames() -> None:
    assert frame_table(_encode([(0x00080060, "CS", b"SR")], EXPLICIT), EXPLICIT) is None
    assert frame_table(_encode(_image(1, [(0x7FE00010, "OB", b"")]), EXPLICIT), EXPLICIT) is None


def test_pixel_data_of_an_icon_are_not_those_of_the_instance() -> None:
    icon = _image(1, [(0x7FE00010, "OB", bytes(24))])
    model: Model = [(0x00880200, "SQ", [icon])]
    assert frame_table(_encode(model, EXPLICIT), EXPLICIT) is None
    whole = sorted(_image(1, [(0x7FE00010, "OB", b"x" * 24)]) + model, key=lambda e: e[0])
    data = _encode(whole, EXPLICIT)
    table = frame_table(data, EXPLICIT)
    assert table is not None
    assert _cut(table, data) == [b"x" * 24]
