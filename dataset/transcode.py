"""Data sets from one transfer syntax to another, uncompressed one (PS3.5 Annex A).

Where only the pixel data change, every other element stays byte for byte as it is. Decoders are
native code and may take long: call it in a worker process.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate

from dataset.codecs import decoder_of
from dataset.elements import (
    FRAGMENTS,
    ITEM_CLOSED,
    ITEM_OPENED,
    SEQUENCE,
    SEQUENCE_CLOSED,
    US_OR_SS,
    VALUE,
    Event,
    plain,
    walk,
)
from dataset.frames import frame_table
from dataset.splice import splice
from dataset.syntax import (
    DEFLATED,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    ITEM,
    ITEM_END,
    LONG_VRS,
    PIXEL_DATA,
    SEQUENCE_END,
    SHORT_VRS,
    UNDEFINED,
    detect,
    encoding_of,
)
from kernel.errors import Invalid

ENCAPSULATED_UNCOMPRESSED: Final = "1.2.840.10008.1.2.1.98"
NATIVE: Final = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED, EXPLICIT_BIG})
_JPEG = "1.2.840.10008.1.2.4."
DECODABLE: Final = frozenset(
    {_JPEG + n for n in ("50", "51", "57", "70", "80", "81", "90", "91", "201", "202", "203")}
) | {"1.2.840.10008.1.2.5", ENCAPSULATED_UNCOMPRESSED}
TARGETS: Final = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE})

_SAMPLES, _PHOTOMETRIC, _PLANAR = 0x00280002, 0x00280004, 0x00280006
_ROWS, _COLUMNS = 0x00280010, 0x00280011
_ALLOCATED, _STORED, _REPRESENTATION = 0x00280100, 0x00280101, 0x00280103
_NUMBERS = (_SAMPLES, _PLANAR, _ROWS, _COLUMNS, _ALLOCATED, _STORED, _REPRESENTATION)
# Extended Offset Table, its lengths, Encapsulated Pixel Data Value Total Length
_OF_ENCAPSULATION = (0x7FE00001, 0x7FE00002, 0x7FE00003)
_WORDS = {
    b"AT": 2, b"OW": 2, b"SS": 2, b"US": 2, US_OR_SS: 2,
    b"FL": 4, b"OF": 4, b"OL": 4, b"SL": 4, b"UL": 4,
    b"FD": 8, b"OD": 8, b"OV": 8, b"SV": 8, b"UV": 8,
}  # fmt: skip


def can_convert(source: str, target: str) -> bool:
    """Whether a data set in ``source`` can in principle be had in ``target``."""
    return source == target or (target in TARGETS and (source in NATIVE or source in DECODABLE))


def convert(dataset: bytes, source: str, target: str, limit_bytes: int = 1 << 30) -> bytes:
    """The whole data set (without group 0002) in the transfer syntax ``target``.

    Raises:
        Invalid: ``transcode.unsupported``, ``transcode.too_large`` (more than ``limit_bytes`` of
            pixel data), ``transcode.failed`` (the codec refuses), ``dataset.unreadable``.
    """
    if source == target:
        return dataset
    if not can_convert(source, target):
        raise _unsupported(source, "there is no decoder")
    data = bytes(plain(dataset, source))
    if source in DECODABLE:
        data = decompress(data, source, limit_bytes)
        source = EXPLICIT_LITTLE
    encoding = detect(data[:8], encoding_of(source))
    if encoding == encoding_of(target):
        return data
    return b"".join(_reencoded(data, source, explicit=target == EXPLICIT_LITTLE))


def decompress(dataset: bytes, source: str, limit_bytes: int) -> bytes:
    """A data set with encapsulated pixel data as Explicit VR Little Endian with native ones.

    Group 0028 attributes that describe the encoding are set anew (PS3.5 8.2), YBR becomes RGB.
    Raises as ``convert``.
    """
    described = _describe(dataset, source)
    table = frame_table(dataset, source)
    if table is None or not table.encapsulated:
        return dataset
    if table.is_video:
        raise _unsupported(source, "it is a video")
    edits: dict[int, bytes | None] = dict.fromkeys(_OF_ENCAPSULATION)
    _check_size(described, len(table.frames), limit_bytes)
    codestreams = (
        b"".join(dataset[at : at + length] for at, length in pieces) for pieces in table.frames
    )
    allocated = described[_ALLOCATED]
    if source == ENCAPSULATED_UNCOMPRESSED:
        pixels = b"".join(codestreams)
    else:
        arrays = []
        for codestream in codestreams:
            array, photometric = _decode(codestream, source, described)
            arrays.append(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
            allocated = array.dtype.itemsize * 8
            edits[_PHOTOMETRIC] = _explicit(_PHOTOMETRIC, b"CS", photometric.encode("ascii"))
        pixels = b"".join(arrays)
        edits[_ALLOCATED] = _explicit(_ALLOCATED, b"US", struct.pack("<H", allocated))
        if described[_SAMPLES] > 1:
            edits[_PLANAR] = _explicit(_PLANAR, b"US", b"\0\0")
    edits[PIXEL_DATA] = _explicit(PIXEL_DATA, b"OB" if allocated <= 8 else b"OW", pixels)
    return b"".join(splice([dataset], source, edits))


def _describe(dataset: bytes, source: str) -> dict[int, Any]:
    """The Image Pixel attributes at the top level (PS3.3 C.7.6.3)."""
    found: dict[int, Any] = {_SAMPLES: 1, _PLANAR: 0, _REPRESENTATION: 0, _PHOTOMETRIC: ""}
    depth = 0
    for step in walk(dataset, source):
        kind, tag, _, offset, length, _ = step
        if kind == SEQUENCE:
            depth += 1
        elif kind == SEQUENCE_CLOSED:
            depth -= 1
        elif kind == FRAGMENTS and depth:
            raise _unsupported(source, "an item of a sequence holds compressed pixels too")
        elif depth == 0 and tag == _PHOTOMETRIC:
            found[tag] = dataset[offset : offset + length].decode("latin-1").strip(" \0")
        elif depth == 0 and tag in _NUMBERS and length >= 2:
            found[tag] = int.from_bytes(dataset[offset : offset + 2], "little")
    missing = [tag for tag in _NUMBERS if tag not in found]
    if missing:
        raise Invalid(
            "transcode.failed",
            "The pixel data cannot be decoded: {detail}",
            detail=f"({missing[0] >> 16:04X},{missing[0] & 0xFFFF:04X}) is missing",
        )
    return found


def _check_size(described: dict[int, Any], frames: int, limit_bytes: int) -> None:
    samples = described[_ROWS] * described[_COLUMNS] * described[_SAMPLES]
    if samples * max(1, (described[_ALLOCATED] + 7) // 8) * frames > limit_bytes:
        raise Invalid("transcode.too_large", "The pixel data are too large to be decompressed.")


def _decode(
    codestream: bytes, source: str, described: dict[int, Any]
) -> tuple[NDArray[np.generic], str]:
    decoder = decoder_of(source)
    if decoder is None:
        raise _unsupported(source, "there is no decoder")
    options: dict[str, Any] = {
        "number_of_frames": 1,
        "rows": described[_ROWS],
        "columns": described[_COLUMNS],
        "samples_per_pixel": described[_SAMPLES],
        "bits_allocated": described[_ALLOCATED],
        "bits_stored": described[_STORED],
        "pixel_representation": described[_REPRESENTATION],
        "photometric_interpretation": described[_PHOTOMETRIC],
        "planar_configuration": 0,
        "pixel_keyword": "PixelData",
    }
    try:
        array, properties = decoder.as_array(
            encapsulate([codestream], has_bot=False), index=0, **options
        )
    except Exception as error:
        raise Invalid(
            "transcode.failed",
            "The pixel data cannot be decoded: {detail}",
            detail=str(error)[:200],
        ) from error
    return array, str(properties["photometric_interpretation"])


def _reencoded(dataset: bytes, source: str, *, explicit: bool) -> Iterator[bytes]:
    """The same elements with other headers, in little endian; sequences of undefined length."""
    signed, pixel_bytes = False, 0
    for step in walk(dataset, source):
        event = Event(*step)
        if event.kind == VALUE:
            if not event.tag & 0xFFFF:
                continue  # a group length, wrong from now on
            value = dataset[event.offset : event.offset + event.length]
            if not event.little:
                size = pixel_bytes if event.tag == PIXEL_DATA else 0
                value = _swapped(value, max(size, _WORDS.get(event.vr, 1)))
            if event.tag == _REPRESENTATION:
                signed = value[:1] == b"\1"
            elif event.tag == _ALLOCATED:
                pixel_bytes = value[0] // 8 if value else 0
            vr = (b"SS" if signed else b"US") if event.vr == US_OR_SS else event.vr
            yield _explicit(event.tag, vr, value) if explicit else _implicit(event.tag, value)
        elif event.kind == SEQUENCE:
            head = struct.pack("<HH", event.tag >> 16, event.tag & 0xFFFF)
            yield head + (b"SQ\0\0" if explicit else b"") + b"\xff\xff\xff\xff"
        elif event.kind == ITEM_OPENED:
            yield _mark(ITEM, UNDEFINED)
        elif event.kind in (ITEM_CLOSED, SEQUENCE_CLOSED):
            yield _mark(ITEM_END if event.kind == ITEM_CLOSED else SEQUENCE_END, 0)
        else:
            raise _unsupported(source, "it has compressed pixel data all the same")


def _explicit(tag: int, vr: bytes, value: bytes) -> bytes:
    """One element in Explicit VR Little Endian (PS3.5 7.1.2)."""
    if len(value) % 2:
        value += b" " if vr in (b"CS", b"LO", b"SH", b"PN", b"DS", b"IS") else b"\0"
    if vr not in SHORT_VRS and vr not in LONG_VRS:
        vr = b"UN"
    if vr in SHORT_VRS and len(value) > 0xFFFE:
        vr = b"UN"  # PS3.5 6.2.2, Note 2
    group, element = tag >> 16, tag & 0xFFFF
    if vr in SHORT_VRS:
        return struct.pack("<HH2sH", group, element, vr, len(value)) + value
    return struct.pack("<HH2sHI", group, element, vr, 0, len(value)) + value


def _implicit(tag: int, value: bytes) -> bytes:
    """One element in Implicit VR Little Endian (PS3.5 7.1.3)."""
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value


def _mark(tag: int, length: int) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, length)


def _swapped(value: bytes, size: int) -> bytes:
    """A big endian value of words of ``size`` bytes in little endian (PS3.5 7.3)."""
    whole = len(value) // size * size
    if size not in (2, 4, 8) or not whole:
        return value
    return np.frombuffer(value[:whole], f">u{size}").astype(f"<u{size}").tobytes() + value[whole:]


def _unsupported(source: str, why: str) -> Invalid:
    return Invalid(
        "transcode.unsupported",
        "A data set in {syntax} cannot be converted: {why}.",
        syntax=source,
        why=why,
    )
