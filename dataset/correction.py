"""Corrected values for top-level elements of a data set: which bytes change, and how it is told.

What was there before goes into the Original Attributes Sequence (0400,0561), PS3.3 C.12.1.1.9; all
other bytes stay, pixel data are not looked at. Corrected text is written in the data set's own
Specific Character Set. Where that does not have it (or not the old value, which was declared
wrongly), the character set becomes ISO_IR 192, and every top-level element with text beyond ASCII,
and every sequence that holds such text, is written anew with it: see `recoding`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydicom import config
from pydicom.datadict import tag_for_keyword
from pydicom.valuerep import validate_value

from dataset.charset import UTF8
from dataset.dicom_json import to_json
from dataset.encode import STRING_VRS, encode_element, vr_of
from dataset.names import PersonName
from dataset.splice import Marker
from dataset.syntax import (
    PIXEL_DATA,
    UNDEFINED,
    WHOLE_BUDGET,
    Buffer,
    Encoding,
    detect,
    encoding_of,
    read_header,
    tag_text,
)
from kernel.errors import Invalid

CHARSET: Final = 0x00080005
ORIGINAL_ATTRIBUTES: Final = 0x04000561
HEAD_LIMIT_BYTES: Final = 256 << 20

_WHOLE_TEXT = frozenset({"LT", "ST", "UT", "UR"})  # a backslash is a character of these
Attributes = Mapping[str, Mapping[str, Any]]
"""Attributes by tag (GGGGEEEE) in DICOM JSON (PS3.18 F.2)."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who corrected and when: `at` is a DT value, `reason` one of the defined terms COERCE, CORRECT
    (PS3.3 C.12.1.1.9).
    """

    at: str
    system: str
    reason: str = "CORRECT"


def tag_of(name: str) -> int:
    """The tag that a keyword (`PatientName`) or eight hexadecimal digits name.

    Raises `Invalid('attribute.unknown')`.
    """
    found = tag_for_keyword(name)
    if found is None and len(name) == 8:
        try:
            found = int(name, 16)
        except ValueError:
            found = None
    if found is None:
        raise Invalid("attribute.unknown", "“{name}” is no DICOM attribute", name=name[:64])
    return int(found)


def attribute_of(tag: int, text: str) -> dict[str, Any]:
    r"""A text attribute in DICOM JSON from `text`, several values joined by the backslash.

    Raises `Invalid('attribute.value')` for an attribute that is no text, or a value that does not
    fit its VR (PS3.5 6.2).
    """
    vr = vr_of(tag)
    if vr not in STRING_VRS:
        raise Invalid(
            "attribute.value", "{tag} is {vr}: only text can be set", tag=tag_text(tag), vr=vr
        )
    if not text:
        return {"vr": vr}
    parts = [text] if vr in _WHOLE_TEXT else [part.strip() for part in text.split("\\")]
    values: list[Any] = []
    for part in parts:
        try:
            validate_value(vr, part, config.RAISE)
            values.append(_value(vr, part))
        except ValueError as error:
            raise Invalid(
                "attribute.value",
                "“{value}” is no value of {tag}: {why}",
                value=part[:64],
                tag=tag_text(tag),
                why=str(error)[:200],
            ) from error
    return {"vr": vr, "Value": values}


def _value(vr: str, part: str) -> Any:
    if not part:
        return None
    if vr == "PN":
        return PersonName.parse(part).to_json() or None
    if vr in ("IS", "DS"):
        return int(part) if vr == "IS" else float(part)
    return part


class HeadReader:
    """Collects a data set (not deflated) up to the first element behind those that change."""

    def __init__(self, transfer_syntax_uid: str, changes: Attributes) -> None:
        self.data = bytearray()
        self.marks: list[tuple[int, int]] = []
        self._marker = Marker(transfer_syntax_uid, WHOLE_BUDGET)
        self._last = max([ORIGINAL_ATTRIBUTES, *(int(tag, 16) for tag in changes)])

    def feed(self, part: Buffer) -> bool:
        """Take `part`; True where the head is complete: nothing more is needed.

        Raises `Invalid('dataset.unreadable')`, also for a head beyond 256 MiB.
        """
        self.data += part
        self._marker.take(part)
        while self._marker.marks:
            self.marks.append(self._marker.marks.popleft())
        if self.marks and self.marks[-1][1] > self._last:
            return True
        if len(self.data) > HEAD_LIMIT_BYTES:
            raise Invalid("dataset.unreadable", "The elements before the pixel data are too large.")
        return False

    def elements(self) -> dict[int, bytes]:
        """Every whole top-level element up to there, with its header."""
        marks = [mark for mark in self.marks if mark[1] <= self._last]
        complete = len(marks) < len(self.marks)
        end = self.marks[len(marks)][0] if complete else len(self.data)
        ends = [start for start, _ in marks[1:]] + [end]
        return {
            tag: bytes(self.data[start:stop])
            for (start, tag), stop in zip(marks, ends, strict=True)
        }


def edits(
    elements: Mapping[int, bytes], transfer_syntax_uid: str, changes: Attributes, stamp: Stamp
) -> dict[int, bytes | None]:
    """What `dataset.splice` is to put in place: the changed elements and Original Attributes.

    `elements` are the whole top-level ones of the head. Raises `Invalid('charset.not_encodable')`
    where the data set's character set does not do; then `recoding` does.
    """
    return _Editor(elements, transfer_syntax_uid).edits(changes, stamp)


def recoding(
    data: Buffer, transfer_syntax_uid: str, changes: Attributes, stamp: Stamp
) -> dict[int, bytes | None]:
    """`edits` of a whole data set (not deflated) that change its character set too."""
    reader = HeadReader(transfer_syntax_uid, {f"{0xFFFFFFFF:08X}": {}})
    reader.feed(data)
    elements = {tag: raw for tag, raw in reader.elements().items() if tag != PIXEL_DATA}
    return _Editor(elements, transfer_syntax_uid).recoding(changes, stamp)


def corrected(dataset: Attributes, changes: Attributes, stamp: Stamp) -> dict[str, Any]:
    """The same correction made to a data set in DICOM JSON."""
    touched = touching(dataset, changes)
    if not touched:
        return dict(dataset)
    shown: dict[str, Any] = {**dataset, **touched}
    key = f"{ORIGINAL_ATTRIBUTES:08X}"
    items = list(dataset.get(key, {}).get("Value") or [])
    shown[key] = {"vr": "SQ", "Value": [*items, _original(dataset, touched, stamp)]}
    if _foreign(touched.values()):
        shown[f"{CHARSET:08X}"] = {"vr": "CS", "Value": [UTF8]}
    return {tag: shown[tag] for tag in sorted(shown)}


def touching(dataset: Attributes, changes: Attributes) -> dict[str, Any]:
    """Those of `changes` that say something else than `dataset` says already."""
    return {
        tag: dict(attribute)
        for tag, attribute in changes.items()
        if dataset.get(tag, {}).get("Value") != attribute.get("Value")
    }


def _original(dataset: Attributes, touched: Attributes, stamp: Stamp) -> dict[str, Any]:
    """An item of the Original Attributes Sequence; what was not there stands empty."""
    before = {tag: dict(dataset.get(tag) or {"vr": one["vr"]}) for tag, one in touched.items()}
    return {
        "04000550": {"vr": "SQ", "Value": [before]},
        "04000562": {"vr": "DT", "Value": [stamp.at]},
        "04000563": {"vr": "LO", "Value": [stamp.system]},
        "04000564": {"vr": "LO"},
        "04000565": {"vr": "CS", "Value": [stamp.reason]},
    }


class _Editor:
    def __init__(self, elements: Mapping[int, bytes], transfer_syntax_uid: str) -> None:
        self._elements = elements
        data = b"".join(elements.values())
        self._encoding: Encoding = detect(data[:8], encoding_of(transfer_syntax_uid))
        self._dataset = to_json(data, transfer_syntax_uid, inline_limit=HEAD_LIMIT_BYTES, damage=[])
        self._charset = self._value_of(CHARSET).decode("latin-1").strip(" \0")

    def edits(self, changes: Attributes, stamp: Stamp) -> dict[int, bytes | None]:
        touched = touching(self._dataset, changes)
        if not touched:
            return {}
        made: dict[int, bytes | None] = {
            int(tag, 16): self._encode(int(tag, 16), one) for tag, one in touched.items()
        }
        original = _original(self._dataset, touched, stamp)
        made[ORIGINAL_ATTRIBUTES] = self._append(original)
        return made

    def recoding(self, changes: Attributes, stamp: Stamp) -> dict[int, bytes | None]:
        self._charset = UTF8
        made: dict[int, bytes | None] = {}
        for tag in self._elements:
            attribute = self._dataset.get(f"{tag:08X}")
            if attribute is not None and tag != CHARSET and _foreign([attribute]):
                made[tag] = self._encode(tag, attribute)
        items = made.pop(ORIGINAL_ATTRIBUTES, None)
        if items is not None:
            self._elements = {**self._elements, ORIGINAL_ATTRIBUTES: items}
        made |= self.edits(changes, stamp)
        made[CHARSET] = self._encode(CHARSET, {"vr": "CS", "Value": [UTF8]})
        return made

    def _encode(self, tag: int, attribute: Mapping[str, Any]) -> bytes:
        return encode_element(tag, attribute, self._encoding, self._charset)

    def _append(self, item: Mapping[str, Any]) -> bytes:
        """Original Attributes with one item more; those that are there stay byte for byte."""
        tag = ORIGINAL_ATTRIBUTES
        header = read_header(self._elements.get(tag, b""), 0, *self._encoding)
        if header is not None and header.vr not in (
            b"SQ",
            b"",
        ):  # items of UN are encoded otherwise
            items = self._dataset.get(f"{tag:08X}", {}).get("Value") or []
            return self._encode(tag, {"vr": "SQ", "Value": [*items, item]})
        added = self._encode(tag, {"vr": "SQ", "Value": [item]})
        before = self._value_of(tag)
        at = 12 if self._encoding.explicit else 8
        size = len(before) + len(added) - at
        length = size.to_bytes(4, "little" if self._encoding.little else "big")
        return added[: at - 4] + length + before + added[at:]

    def _value_of(self, tag: int) -> bytes:
        """The value of an element as it stands, without the delimiter of an undefined length."""
        raw = self._elements.get(tag, b"")
        header = read_header(raw, 0, *self._encoding)
        if header is None:
            return b""
        return raw[header.size : -8] if header.length == UNDEFINED else raw[header.size :]


def _foreign(attributes: Iterable[Mapping[str, Any]]) -> bool:
    """Whether there is text beyond ASCII in attributes of DICOM JSON, at any depth."""
    left: list[Any] = [attribute.get("Value") for attribute in attributes]
    while left:
        one = left.pop()
        if isinstance(one, str):
            if not one.isascii():
                return True
        elif isinstance(one, Mapping):
            left.extend(one.values())
        elif isinstance(one, list):
            left.extend(one)
    return False
