"""Small data sets of queries: DICOM JSON to bytes for C-FIND answers, identifiers to plain values.

Source: PS3.5 chapter 7 (element structure), PS3.18 Annex F (JSON), PS3.4 C.2.2.2 (identifiers).
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from pydicom.datadict import get_entry

from dataset.charset import TEXT_VRS, UTF8, decode_text, encode_text, normalise
from dataset.names import PersonName
from dataset.syntax import (
    ITEM,
    ITEM_END,
    LONG_VRS,
    SEQUENCE_END,
    UNDEFINED,
    Encoding,
    Header,
    detect,
    read_header,
    tag_text,
    unreadable,
)
from kernel.errors import Invalid

MAX_DEPTH = 16
MAX_ELEMENTS = 10_000
SPECIFIC_CHARACTER_SET = 0x00080005

_NUMBERS = {
    "US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d",
}  # fmt: skip
_WORD_BYTES = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
STRING_VRS = TEXT_VRS | {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"}

Identifier = dict[int, Any]


@lru_cache(maxsize=4096)
def vr_of(tag: int) -> str:
    """The VR that PS3.6 gives a tag; LO for private creators, UN for what it does not know."""
    if tag & 0xFFFF == 0:
        return "UL"
    if tag >> 16 & 1:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"
    try:
        vr = str(get_entry(tag)[0])
    except KeyError:
        return "UN"
    if vr.startswith("US or"):
        return "US"
    return "OW" if vr.startswith("OB or") else vr


# ---------------------------------------------------------------------------------------- encoding


def encode(json_dataset: Mapping[str, Any], *, implicit: bool, charset: str) -> bytes:
    """Encode DICOM JSON (PS3.18 F.2) as a little endian data set in tag order.

    (0008,0005) becomes `charset`, or ISO_IR 192 when some text cannot be written in it; it is left
    out for the default repertoire. Group lengths and file meta elements are not written. Raises
    `Invalid('dataset.not_encodable', tag=…)` for a value that does not fit its VR.
    """
    try:
        return _Encoder(implicit, charset).dataset(json_dataset)
    except Invalid as error:
        if error.code != "charset.not_encodable":
            raise
    return _Encoder(implicit, UTF8).dataset(json_dataset)


def encode_element(
    tag: int, attribute: Mapping[str, Any], encoding: Encoding, charset: str
) -> bytes:
    """Encode one element, header and value, as it stands in a data set of that `encoding`.

    Raises `Invalid('charset.not_encodable')` for text that `charset` does not have, and
    `Invalid('dataset.not_encodable', tag=…)` for a value that does not fit its VR.
    """
    return _Encoder(not encoding.explicit, charset, little=encoding.little).element(tag, attribute)


def text_of(attribute: Mapping[str, Any]) -> str:
    """The values of a text attribute in DICOM JSON, joined by the backslash."""
    vr = attribute.get("vr") or ""
    return "\\".join(_as_text(value, vr) for value in attribute.get("Value") or ())


class _Encoder:
    def __init__(self, implicit: bool, charset: str, *, little: bool = True) -> None:
        self._implicit = implicit
        self._order = "<" if little else ">"
        self._charset = "\\".join(normalise(charset))

    def dataset(self, json_dataset: Mapping[str, Any]) -> bytes:
        elements = _sorted(json_dataset)
        if self._charset:
            elements[SPECIFIC_CHARACTER_SET] = {"vr": "CS", "Value": [self._charset]}
        return b"".join(self._element(tag, elements[tag], 0) for tag in sorted(elements))

    def element(self, tag: int, attribute: Mapping[str, Any]) -> bytes:
        return self._element(tag, attribute, 0)

    def _element(self, tag: int, element: Mapping[str, Any], depth: int) -> bytes:
        vr = element.get("vr") or vr_of(tag)
        if vr == "SQ":
            return self._header(tag, vr, self._items(tag, element.get("Value") or (), depth))
        try:
            value = self._value(element, vr)
        except (ValueError, TypeError, KeyError, AttributeError, struct.error) as error:
            raise _misfit(tag, vr) from error
        if len(value) % 2:
            value += b"\0" if vr in ("UI", "OB", "UN") else b" "
        return self._header(tag, vr, value)

    def _header(self, tag: int, vr: str, value: bytes) -> bytes:
        group, element, order = tag >> 16, tag & 0xFFFF, self._order
        if self._implicit:
            return struct.pack(order + "HHI", group, element, len(value)) + value
        code = vr.encode("ascii")
        if code not in LONG_VRS and len(value) > 0xFFFE:
            code = b"UN"  # PS3.5 6.2.2: a value too long for the 16-bit length of its VR
        if code in LONG_VRS:
            return struct.pack(order + "HH2sHI", group, element, code, 0, len(value)) + value
        return struct.pack(order + "HH2sH", group, element, code, len(value)) + value

    def _items(self, tag: int, items: Sequence[Mapping[str, Any] | None], depth: int) -> bytes:
        if depth >= MAX_DEPTH:
            raise _misfit(tag, "SQ")
        out = []
        for item in items:
            elements = _sorted(item or {})
            content = b"".join(
                self._element(inner, elements[inner], depth + 1) for inner in sorted(elements)
            )
            head = struct.pack(self._order + "HHI", ITEM >> 16, ITEM & 0xFFFF, len(content))
            out.append(head + content)
        return b"".join(out)

    def _value(self, element: Mapping[str, Any], vr: str) -> bytes:
        if "InlineBinary" in element:
            raw = base64.b64decode(element["InlineBinary"] or "", validate=True)
            return raw if self._order == "<" else _swapped(raw, vr)
        if "BulkDataURI" in element:
            raise ValueError("bulk data is not at hand")
        values = element.get("Value") or ()
        number = _NUMBERS.get(vr)
        if number is not None:
            convert: Callable[[Any], Any] = float if number in "fd" else int
            return struct.pack(f"{self._order}{len(values)}{number}", *map(convert, values))
        if vr == "AT":
            tags = (int(value, 16) for value in values)
            return b"".join(
                struct.pack(self._order + "HH", tag >> 16, tag & 0xFFFF) for tag in tags
            )
        if vr not in STRING_VRS:
            if values:
                raise ValueError("binary values come as InlineBinary")
            return b""
        return encode_text("\\".join(_as_text(value, vr) for value in values), self._charset, vr)


def _swapped(raw: bytes, vr: str) -> bytes:
    """Binary values of DICOM JSON, which are little endian, in big endian words."""
    size = _WORD_BYTES.get(vr, 1)
    words = (raw[at : at + size] for at in range(0, len(raw), size))
    return b"".join(word[::-1] for word in words)


def _sorted(json_dataset: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    try:
        elements = {int(key, 16): element for key, element in json_dataset.items()}
    except ValueError as error:
        raise Invalid(
            "dataset.not_encodable",
            "A key of the data set is not a tag: {detail}",
            detail=str(error),
        ) from error
    return {
        tag: element
        for tag, element in elements.items()
        if tag > 0x0007FFFF and tag & 0xFFFF and tag != SPECIFIC_CHARACTER_SET
    }


def _as_text(value: Any, vr: str) -> str:
    if value is None:
        return ""
    if vr == "PN":
        return value if isinstance(value, str) else str(PersonName.from_json(value))
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and vr in ("DS", "IS"):
        return _decimal(value, vr)
    raise TypeError(f"{type(value).__name__} is no value of {vr}")


def _decimal(value: float, vr: str) -> str:
    """A number as IS (integers) or DS (at most 16 characters, PS3.5 6.2)."""
    if vr == "IS" or isinstance(value, int):
        if value != int(value):
            raise ValueError("IS takes whole numbers")
        return str(int(value))
    text = repr(value)
    for digits in range(16, 0, -1):
        if len(text) <= 16:
            break
        text = f"{value:.{digits}g}"
    return text


def _misfit(tag: int, vr: str) -> Invalid:
    return Invalid(
        "dataset.not_encodable",
        "The value of {tag} cannot be written as {vr}.",
        tag=tag_text(tag),
        vr=vr,
    )


# ------------------------------------------------------------------------------------- identifiers


def decode_identifier(
    dataset: bytes | memoryview, implicit: bool, *, little_endian: bool = True
) -> Identifier:
    r"""Decode a C-FIND identifier: tag -> text, several values joined by the backslash.

    Numbers are given in decimal, AT as GGGGEEEE, binary values as ''; a sequence is the dict of its
    first item, {} when it has none (PS3.4 C.2.2.2.6). Text is decoded by (0008,0005), in all
    character sets and with repair. Raises `Invalid('dataset.unreadable', …)`.
    """
    data = bytes(dataset)
    encoding = detect(data, Encoding(not implicit, little_endian))
    return _Reader(data, encoding).dataset(0, len(data), "", 0)[0]


class _Reader:
    def __init__(self, data: bytes, encoding: Encoding) -> None:
        self._data = data
        self._encoding = encoding
        self._left = MAX_ELEMENTS

    def dataset(self, at: int, end: int, charset: str, depth: int) -> tuple[Identifier, int]:
        found: Identifier = {}
        while at < end:
            header = self._header(at)
            at += header.size
            if header.tag == ITEM_END:
                break
            vr = self._vr(header)
            if vr == "SQ" or header.length == UNDEFINED:
                found[header.tag], at = self._sequence(header, at, end, charset, depth)
                continue
            if header.length > end - at:
                raise unreadable(at, header.tag, f"its value of {header.length} bytes is cut off")
            raw = self._data[at : at + header.length]
            at += header.length
            if header.tag == SPECIFIC_CHARACTER_SET:
                charset = raw.decode("latin-1").strip(" \0")
            if header.tag & 0xFFFF:
                found[header.tag] = self._value(raw, vr, charset)
        return found, at

    def _header(self, at: int) -> Header:
        self._left -= 1
        header = read_header(self._data, at, self._encoding.explicit, self._encoding.little)
        if header is None:
            raise unreadable(at, None, "the data end inside an element header")
        if self._left < 0:
            raise unreadable(at, header.tag, f"it has more than {MAX_ELEMENTS} elements")
        return header

    def _vr(self, header: Header) -> str:
        vr = header.vr.decode("ascii", "replace")
        return vr_of(header.tag) if vr in ("", "UN") else vr

    def _sequence(
        self, header: Header, at: int, end: int, charset: str, depth: int
    ) -> tuple[Identifier, int]:
        if depth >= MAX_DEPTH:
            raise unreadable(at, header.tag, f"sequences are nested more than {MAX_DEPTH} deep")
        undefined = header.length == UNDEFINED
        stop = end if undefined else min(end, at + header.length)
        first: Identifier | None = None
        while at < stop:
            item = self._header(at)
            at += item.size
            if item.tag == SEQUENCE_END:
                break
            if item.tag != ITEM:
                raise unreadable(at - item.size, header.tag, "an item was expected in the sequence")
            item_end = stop if item.length == UNDEFINED else min(stop, at + item.length)
            content, at = self.dataset(at, item_end, charset, depth + 1)
            first = content if first is None else first
        return first or {}, at

    def _value(self, raw: bytes, vr: str, charset: str) -> str:
        number = _NUMBERS.get(vr)
        if number is not None:
            size = struct.calcsize(number)
            order = "<" if self._encoding.little else ">"
            count = len(raw) // size
            values = struct.unpack(f"{order}{count}{number}", raw[: count * size])
            return "\\".join(map(str, values))
        if vr == "AT":
            order = "<" if self._encoding.little else ">"
            count = len(raw) // 4
            words = struct.unpack(f"{order}{2 * count}H", raw[: 4 * count])
            pairs = zip(words[::2], words[1::2], strict=True)
            return "\\".join(f"{group:04X}{element:04X}" for group, element in pairs)
        if vr not in STRING_VRS:
            return ""
        text = decode_text(raw, charset.split("\\"), vr).text
        if vr in ("LT", "ST", "UT", "UR"):
            return text
        return "\\".join(value.strip(" \0") for value in text.split("\\"))
