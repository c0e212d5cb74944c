"""A data set as DICOM JSON (PS3.18 Annex F), without recursion and within a budget.

Text is decoded, and repaired where its declaration is wrong, by `dataset.charset`; since JSON is
UTF-8, Specific Character Set becomes ISO_IR 192. Where this differs from
`pydicom.Dataset.to_json_dict`, the standard decides: group lengths and padding are left out (PS3.5
7.2), empty values in a row are null (F.2.5), an empty sequence has no `Value`, spaces that do not
count are removed (PS3.5 6.2), numbers that JSON does not have (NaN, infinity, a damaged DS) stay
strings (F.2.3).
"""

from __future__ import annotations

import base64
import math
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from dataset.charset import decode_text
from dataset.elements import (
    FRAGMENTS,
    ITEM_CLOSED,
    ITEM_OPENED,
    SEQUENCE,
    US_OR_SS,
    VALUE,
    plain,
    walk,
)
from dataset.syntax import PIXEL_DATA, WHOLE_BUDGET, Budget, Buffer
from kernel.errors import Invalid

Bulk = Callable[[str, int, str, int, int], str | None]
"""Called with path (`7FE00010`, `00880200/0/7FE00010`), tag, VR, offset and length in bytes;
returns the BulkDataURI, or
None where the value is to be inline. The offset counts from the start of the data set, inflated
where it was deflated; for encapsulated pixel data the range holds all items, the Basic Offset Table
included, without the last delimiter."""

INLINE_LIMIT: Final = 1024
_LONG_VALUE_BYTES = 65_536  # beyond it text and numbers are offered as bulk data too

SPECIFIC_CHARACTER_SET = 0x00080005
_PIXEL_TAGS = frozenset({PIXEL_DATA, 0x7FE00008, 0x7FE00009})
_PADDING = 0xFFFCFFFC

_CHARSET_TEXT = frozenset({b"LO", b"PN", b"SH", b"UC"})
_WHOLE_TEXT = frozenset({b"LT", b"ST", b"UR", b"UT"})
_CODES = frozenset({b"AE", b"AS", b"CS", b"DA", b"DT", b"TM", b"UI"})
_BINARY = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"UN"})
_NUMBERS = {
    b"FD": "d", b"FL": "f", b"SL": "i", b"SS": "h", b"SV": "q", b"UL": "I", b"US": "H", b"UV": "Q",
}  # fmt: skip
_WORD_BYTES = {b"OW": 2, b"OF": 4, b"OL": 4, b"OD": 8, b"OV": 8}
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z")


def to_json(
    dataset: Buffer,
    transfer_syntax_uid: str,
    *,
    bulk: Bulk | None = None,
    inline_limit: int = INLINE_LIMIT,
    budget: Budget = WHOLE_BUDGET,
    damage: list[Invalid] | None = None,
) -> dict[str, Any]:
    """The DICOM JSON of a whole data set (without group 0002).

    Binary values longer than `inline_limit` bytes, pixel data of any length, and text and numbers
    beyond 64 KiB are offered to `bulk`; encapsulated pixel data that `bulk` does not take stays
    without a value. Raises `Invalid('dataset.unreadable', detail=…, offset=…)`; where `damage` is
    given, the error is appended to it instead and what was read up to there is returned.
    """
    data = plain(dataset, transfer_syntax_uid, budget, damage)
    builder = _Builder(data, bulk, inline_limit)
    try:
        builder.build(transfer_syntax_uid, budget)
    except Invalid as error:
        if damage is None:
            raise
        damage.append(error)
    return builder.finish()


def locate(
    dataset: Buffer, transfer_syntax_uid: str, path: str, budget: Budget = WHOLE_BUDGET
) -> tuple[str, int, int] | None:
    """VR, offset and length of the value at `path` (as given to `Bulk`); None where there is
    none.
    """
    found: list[tuple[str, int, int]] = []

    def note(at: str, tag: int, vr: str, offset: int, length: int) -> str:
        if at == path:
            found.append((vr, offset, length))
        return at

    to_json(dataset, transfer_syntax_uid, bulk=note, inline_limit=0, budget=budget, damage=[])
    return found[0] if found else None


class _Builder:
    """Puts the events of a walk together; one level of `_stack` for each open item."""

    def __init__(self, data: Buffer, bulk: Bulk | None, inline_limit: int) -> None:
        self._data = data
        self._bulk = bulk
        self._inline_limit = inline_limit
        self._top: dict[str, Any] = {}
        self._attributes = self._top
        self._charsets: Sequence[str] = ()
        self._path = ""
        self._stack: list[tuple[dict[str, Any], Sequence[str], str]] = []
        self._sequences: list[tuple[dict[str, Any], list[Any], str]] = []
        self._foreign = False
        self._unsigned: list[tuple[dict[str, Any], bytes, bool]] = []
        self._signed = False

    def build(self, transfer_syntax_uid: str, budget: Budget) -> None:
        for kind, tag, vr, offset, length, little in walk(self._data, transfer_syntax_uid, budget):
            if kind == VALUE:
                self._value(tag, vr, offset, length, little)
            elif kind == SEQUENCE:
                self._open_sequence(tag)
            elif kind == ITEM_OPENED:
                self._open_item()
            elif kind == ITEM_CLOSED:
                self._attributes, self._charsets, self._path = self._stack.pop()
            elif kind == FRAGMENTS:
                self._fragments(tag, vr, offset, length)
            else:
                attribute, items, _ = self._sequences.pop()
                if not items:
                    del attribute["Value"]

    def finish(self) -> dict[str, Any]:
        vr, char = ("SS", "h") if self._signed else ("US", "H")
        for attribute, raw, little in self._unsigned:
            attribute["vr"] = vr
            if raw:
                attribute["Value"] = _numbers(raw, char, little)
        if self._foreign and "00080005" not in self._top:
            self._top["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
        keys = list(self._top)
        if keys != sorted(keys):
            return {key: self._top[key] for key in sorted(keys)}
        return self._top

    def _open_sequence(self, tag: int) -> None:
        items: list[Any] = []
        key = f"{tag:08X}"
        attribute = {"vr": "SQ", "Value": items}
        self._attributes[key] = attribute
        self._sequences.append((attribute, items, f"{self._path}{key}/"))

    def _open_item(self) -> None:
        _, items, path = self._sequences[-1]
        self._stack.append((self._attributes, self._charsets, self._path))
        self._attributes = {}
        self._path = f"{path}{len(items)}/"
        items.append(self._attributes)

    def _fragments(self, tag: int, vr: bytes, offset: int, length: int) -> None:
        key, name = f"{tag:08X}", vr.decode("ascii")
        self._attributes[key] = attribute = {"vr": name}
        if self._bulk is not None:
            uri = self._bulk(self._path + key, tag, name, offset, length)
            if uri is not None:
                attribute["BulkDataURI"] = uri

    def _value(self, tag: int, vr: bytes, offset: int, length: int, little: bool) -> None:
        if not tag & 0xFFFF or tag == _PADDING:
            return
        key = f"{tag:08X}"
        attribute: dict[str, Any]
        self._attributes[key] = attribute = {"vr": _NAMES.get(vr, "UN")}
        if length == 0:
            if vr == US_OR_SS:
                self._unsigned.append((attribute, b"", little))
            return
        known = vr in _NAMES and vr not in _BINARY
        limit = _LONG_VALUE_BYTES if known else self._inline_limit
        if (length > limit or tag in _PIXEL_TAGS) and self._bulk is not None:
            uri = self._bulk(self._path + key, tag, attribute["vr"], offset, length)
            if uri is not None:
                attribute["BulkDataURI"] = uri
                return
        raw = bytes(self._data[offset : offset + length])
        if not known:
            attribute["InlineBinary"] = _base64(raw, vr, little)
        elif vr == US_OR_SS:
            self._unsigned.append((attribute, raw, little))
        else:
            value = self._convert(tag, vr, raw, little)
            if value:
                attribute["Value"] = value

    def _convert(self, tag: int, vr: bytes, raw: bytes, little: bool) -> list[Any]:
        if vr in _CODES:
            if tag == SPECIFIC_CHARACTER_SET:
                self._charsets = raw.decode("latin-1").strip(" \0").split("\\")
                return ["ISO_IR 192"] if self._charsets != [""] else []
            return _split(raw.decode("ascii") if raw.isascii() else self._text(raw, vr))
        char = _NUMBERS.get(vr)
        if char is not None:
            if tag == 0x00280103 and not self._stack:
                self._signed = any(raw[:2])
            return _numbers(raw, char, little)
        if vr in _CHARSET_TEXT:
            if raw.isascii() and b"\x1b" not in raw and b"$)" not in raw:
                text = raw.decode("ascii")
            else:
                text = self._text(raw, vr)
            return _names(text) if vr == b"PN" else _split(text)
        if vr in _WHOLE_TEXT:
            text = self._text(raw, vr).rstrip(" \0")
            return [text] if text else []
        if vr == b"AT":
            return _tags(raw, little)
        return _decimals(raw.decode("latin-1"), int if vr == b"IS" else float)

    def _text(self, raw: bytes, vr: bytes) -> str:
        text = decode_text(raw, self._charsets, vr.decode("ascii")).text
        if not text.isascii():
            self._foreign = True
        return text


_NAMES: Final = {
    vr: vr.decode("ascii")
    for vr in (*_CHARSET_TEXT, *_WHOLE_TEXT, *_CODES, *_BINARY, *_NUMBERS, b"AT", b"DS", b"IS")
} | {US_OR_SS: "US"}


def _split(text: str) -> list[str | None]:
    text = text.strip(" \0")
    if "\\" in text:
        return [value.strip(" \0") or None for value in text.split("\\")]
    return [text] if text else []


def _names(text: str) -> list[dict[str, str] | None]:
    """Person names by component group (F.2.2)."""
    text = text.strip(" \0")
    if not text:
        return []
    return [_name(value) if value.strip(" \0") else None for value in text.split("\\")]


def _name(value: str) -> dict[str, str]:
    if "=" not in value:
        return {"Alphabetic": value.strip(" \0")}
    groups = (group.strip(" \0") for group in value.split("="))
    named = zip(("Alphabetic", "Ideographic", "Phonetic"), groups, strict=False)
    return {name: group for name, group in named if group}


def _decimals(text: str, kind: type[int] | type[float]) -> list[int | float | str | None]:
    values: list[int | float | str | None] = []
    for part in text.strip(" \0").split("\\"):
        value = part.strip(" \0")
        if value.isascii() and value.isdigit():
            values.append(int(value))
        elif not value:
            values.append(None)
        elif _NUMBER.match(value):
            number = float(value)
            whole = kind is int and number.is_integer()
            values.append(int(number) if whole else number if math.isfinite(number) else value)
        else:
            values.append(value)
    return values if values != [None] else []


def _numbers(raw: bytes, char: str, little: bool) -> list[int | float | str]:
    order = "<" if little else ">"
    count = len(raw) // struct.calcsize(order + char)
    values = struct.unpack_from(f"{order}{count}{char}", raw)
    if char in "fd" and not all(map(math.isfinite, values)):
        return [value if math.isfinite(value) else _unusual(value) for value in values]
    return list(values)


def _unusual(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _tags(raw: bytes, little: bool) -> list[str]:
    count = len(raw) // 4
    numbers = struct.unpack_from(f"{'<' if little else '>'}{2 * count}H", raw)
    return [f"{numbers[i]:04X}{numbers[i + 1]:04X}" for i in range(0, 2 * count, 2)]


def _base64(raw: bytes, vr: bytes, little: bool) -> str:
    """Base 64 of a binary value, in little endian order as F.2.7 has it."""
    size = _WORD_BYTES.get(vr, 1)
    if not little and size > 1 and len(raw) % size == 0:
        raw = np.frombuffer(raw, f">u{size}").astype(f"<u{size}").tobytes()
    return base64.b64encode(raw).decode("ascii")
