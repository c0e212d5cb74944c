"""Are two data sets with the same SOP Instance UID the same instance?

For a worker: both data sets are held in memory. Compared is what the elements say, not how they are
encoded: explicit or implicit VR, byte order, undefined or defined lengths, character set, padding
and fragmentation make no difference. Pixel data are not decompressed: a compressed and a native
frame count as different pixels.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from dataset.charset import TEXT_VRS, decode_text
from dataset.elements import (
    FRAGMENTS,
    ITEM_CLOSED,
    ITEM_OPENED,
    SEQUENCE,
    US_OR_SS,
    VALUE,
    Event,
    fragments,
    plain,
    walk,
)
from dataset.syntax import IMPLICIT_LITTLE, ITEM, PIXEL_DATA, UNDEFINED, Buffer
from kernel.errors import Invalid

Verdict = Literal["equal", "reencoded", "header", "pixels"]

_WORD_BYTES = {
    b"AT": 2, b"OW": 2, b"SS": 2, b"US": 2, US_OR_SS: 2,
    b"FL": 4, b"OF": 4, b"OL": 4, b"SL": 4, b"UL": 4,
    b"FD": 8, b"OD": 8, b"OV": 8, b"SV": 8, b"UV": 8,
}  # fmt: skip
_BINARY = frozenset(_WORD_BYTES) | {b"OB", b"UN"}
_PIXELS = frozenset({PIXEL_DATA, 0x7FE00008, 0x7FE00009})
# derived from the encoding: character set, offset tables, padding
_IGNORED = frozenset({0x00080005, 0x7FE00001, 0x7FE00002, 0xFFFCFFFC})
_HIDDEN_DEPTH = 8
_ITEM_TAG = b"\xfe\xff\x00\xe0"


class _Value(NamedTuple):
    data: bytes
    is_text: bool

    def same(self, other: _Value) -> bool:
        if self.data == other.data:
            return True
        if not self.is_text and not other.is_text:
            return False
        return self.data.strip(b" \0") == other.data.strip(b" \0")


class _Content(NamedTuple):
    header: dict[str, _Value]  # by path; an item stands there too, so that empty ones count
    pixels: dict[int, tuple[bool, bytes]]  # by tag: encapsulated?, bytes


def compare(a_parts: Sequence[Buffer], a_ts: str, b_parts: Sequence[Buffer], b_ts: str) -> Verdict:
    """Compare two whole data sets, given in parts with their transfer syntax UIDs.

    `equal`: byte for byte; `reencoded`: every element says the same; `pixels`: the pixel data
    differ (and perhaps more); `header`: only other elements differ. Raises
    `Invalid('dataset.unreadable')` where they are not equal and one cannot be read.
    """
    a_data, b_data = b"".join(a_parts), b"".join(b_parts)
    if a_data == b_data:
        return "equal"
    a, b = _content(plain(a_data, a_ts), a_ts), _content(plain(b_data, b_ts), b_ts)
    if not _same_pixels(a.pixels, b.pixels):
        return "pixels"
    if a.header.keys() != b.header.keys():
        return "header"
    same = all(value.same(b.header[path]) for path, value in a.header.items())
    return "reencoded" if same else "header"


def _same_pixels(a: dict[int, tuple[bool, bytes]], b: dict[int, tuple[bool, bytes]]) -> bool:
    if a.keys() != b.keys():
        return False
    for tag, (encapsulated, data) in a.items():
        other_encapsulated, other = b[tag]
        if encapsulated != other_encapsulated:
            return False
        longer, shorter = (data, other) if len(data) >= len(other) else (other, data)
        padding = longer[len(shorter) :]
        if len(padding) > 1 or padding.strip(b"\0") or not longer.startswith(shorter):
            return False
    return True


def _content(data: Buffer, transfer_syntax_uid: str) -> _Content:
    content = _Content({}, {})
    hidden: list[tuple[str, bytes, int]] = []
    for path, value in _flat(data, transfer_syntax_uid, "", content):
        _keep(path, value, 0, content, hidden)
    while hidden:  # sequences inside UN, whose items are implicit little endian (PS3.5 6.2.2)
        path, raw, depth = hidden.pop()
        wrapped = struct.pack("<HHI", 9, 0x1001, UNDEFINED) + raw + b"\xfe\xff\xdd\xe0\0\0\0\0"
        try:
            found = list(_flat(wrapped, IMPLICIT_LITTLE, path, content))
        except Invalid:  # it only looked like a sequence
            content.header[path] = _Value(raw, False)
            continue
        for inner, value in found:
            _keep(path + inner[len(path) + 8 :], value, depth + 1, content, hidden)
    return content


def _keep(
    path: str, value: _Value, depth: int, content: _Content, hidden: list[tuple[str, bytes, int]]
) -> None:
    if not value.is_text and value.data[:4] == _ITEM_TAG and depth < _HIDDEN_DEPTH:
        hidden.append((path, value.data, depth))
    else:
        content.header[path] = value


def _flat(
    data: Buffer, transfer_syntax_uid: str, prefix: str, content: _Content
) -> Iterator[tuple[str, _Value]]:
    """Every element and item with its path; pixel data of the top level go to `content`."""
    path, charsets = prefix, [""]
    stack: list[tuple[str, list[str]]] = []
    counts: list[tuple[str, int]] = []
    for step in walk(data, transfer_syntax_uid):
        event = Event(*step)
        if event.kind == SEQUENCE:
            counts.append((f"{path}{event.tag:08X}", 0))
            yield counts[-1][0], _Value(b"", True)
        elif event.kind == ITEM_OPENED:
            place, number = counts[-1]
            counts[-1] = place, number + 1
            stack.append((path, charsets))
            path = f"{place}/{number}/"
            yield path, _Value(b"", True)
        elif event.kind == ITEM_CLOSED:
            path, charsets = stack.pop()
        elif event.kind not in (VALUE, FRAGMENTS):
            counts.pop()
        elif event.tag in _PIXELS and path == "":
            content.pixels[event.tag] = event.kind == FRAGMENTS, _binary(data, event)
        elif event.tag & 0xFFFF and event.tag not in _IGNORED:
            yield f"{path}{event.tag:08X}", _value(data, event, charsets)
        elif event.tag == 0x00080005:
            raw = bytes(data[event.offset : event.offset + event.length])
            charsets = raw.decode("latin-1").strip(" \0").split("\\")


def _value(data: Buffer, event: Event, charsets: list[str]) -> _Value:
    raw = _binary(data, event)
    if event.vr in _BINARY or event.kind == FRAGMENTS:
        return _Value(raw, False)
    vr = event.vr.decode("latin-1")
    if vr in TEXT_VRS and not (raw.isascii() and b"\x1b" not in raw):
        raw = decode_text(raw, charsets, vr).text.encode("utf-8", "surrogatepass")
    return _Value(raw, True)


def _binary(data: Buffer, event: Event) -> bytes:
    """The value in little endian order; of fragments the codestream without the Basic Offset
    Table.
    """
    if event.kind == FRAGMENTS:
        items = [item for item in fragments(data, event.offset) if item[1] == ITEM]
        return b"".join(bytes(data[at + 8 : at + 8 + size]) for _, _, at, size in items[1:])
    raw = bytes(data[event.offset : event.offset + event.length])
    size = _WORD_BYTES.get(event.vr, 1)
    if not event.little and size > 1 and len(raw) % size == 0:
        return np.frombuffer(raw, f">u{size}").astype(f"<u{size}").tobytes()
    return raw
