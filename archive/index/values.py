"""Index values from raw element bytes: which tags, at which level, with which VR."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

from dataset.charset import decode_text
from dataset.names import PersonName

# The indexed attributes of each level with their VR (PS3.6). What is not here is not found by
# query and comes back from the stored metadata only.
_PATIENT_VR = {
    0x00100010: "PN",
    0x00100020: "LO",
    0x00100021: "LO",
    0x00100030: "DA",
    0x00100032: "TM",
    0x00100040: "CS",
    0x00101000: "LO",
    0x00104000: "LT",
}
_STUDY_VR = {
    0x00080020: "DA",
    0x00080030: "TM",
    0x00080050: "SH",
    0x00080090: "PN",
    0x00080201: "SH",
    0x00081030: "LO",
    0x00081060: "PN",
    0x00101010: "AS",
    0x00101020: "DS",
    0x00101030: "DS",
    0x0020000D: "UI",
    0x00200010: "SH",
}
_SERIES_VR = {
    0x00080021: "DA",
    0x00080031: "TM",
    0x00080060: "CS",
    0x00080070: "LO",
    0x00080080: "LO",
    0x00081010: "SH",
    0x0008103E: "LO",
    0x00081040: "LO",
    0x00081050: "PN",
    0x00081070: "PN",
    0x00081090: "LO",
    0x00180015: "CS",
    0x00181030: "LO",
    0x00185100: "CS",
    0x0020000E: "UI",
    0x00200011: "IS",
    0x00200052: "UI",
    0x00200060: "CS",
    0x00400244: "DA",
    0x00400245: "TM",
    0x00400253: "SH",
}
_REQUEST_VR = {
    0x00080050: "SH",
    0x0020000D: "UI",
    0x00400007: "LO",
    0x00400009: "SH",
    0x00401001: "SH",
}
_INSTANCE_VR = {
    0x00080016: "UI",
    0x00080018: "UI",
    0x00200013: "IS",
    0x00280008: "IS",
    0x00280010: "US",
    0x00280011: "US",
    0x00280100: "US",
}
REQUEST_ATTRIBUTES = 0x00400275
VR = {**_PATIENT_VR, **_STUDY_VR, **_SERIES_VR, **_INSTANCE_VR, **_REQUEST_VR}
PATIENT_TAGS = frozenset(_PATIENT_VR)
STUDY_TAGS = frozenset(_STUDY_VR)
SERIES_TAGS = frozenset(_SERIES_VR)
INSTANCE_TAGS = frozenset(_INSTANCE_VR)

_CHARSET_VRS = frozenset({"PN", "LO", "SH", "LT", "ST", "UC", "UT", "CS"})  # CS: 男, seen in GBK
_MULTI_VRS = frozenset({"PN", "LO", "SH", "CS", "DS", "IS", "UI", "DA", "TM", "AS"})


def uid_of(raw: bytes | None) -> str:
    """A UID element's value without padding; '' where absent."""
    return raw.rstrip(b"\0 ").lstrip().decode("ascii", "replace") if raw else ""


def charsets_of(values: dict[int, bytes]) -> list[str]:
    """The values of Specific Character Set (0008,0005) as sent."""
    raw = values.get(0x00080005)
    if not raw:
        return []
    return [v.strip() for v in raw.rstrip(b"\0 ").decode("ascii", "replace").split("\\")]


def text_of(tag: int, raw: bytes | None, charsets: Sequence[str]) -> str:
    """The decoded text of an element; values stay joined by a backslash, padding goes."""
    if not raw:
        return ""
    vr = VR[tag]
    if vr in _CHARSET_VRS:
        text = decode_text(raw, charsets, vr).text
    else:
        text = raw.decode("ascii", "replace")
    return text.strip("\0 ") if vr != "LT" else text.rstrip("\0 ")


def in_utf8(values: dict[int, bytes], charsets: Sequence[str]) -> dict[int, bytes]:
    """The same elements, their text in UTF-8."""
    return {
        tag: text_of(tag, raw, charsets).encode("utf-8", "surrogatepass")
        if VR.get(tag) in _CHARSET_VRS
        else raw
        for tag, raw in values.items()
    }


def number_of(tag: int, raw: bytes | None, *, little_endian: bool) -> int | None:
    """The first value of an IS or US element; None where absent or not a 63-bit integer."""
    if not raw:
        return None
    if VR[tag] == "US":
        if len(raw) < 2:
            return None
        (value,) = struct.unpack_from("<H" if little_endian else ">H", raw)
        return int(value)
    first = raw.partition(b"\\")[0].strip(b"\0 ")
    try:
        number = int(first)
    except ValueError:
        try:
            number = int(float(first))
        except (ValueError, OverflowError):
            return None
    return number if -(2**62) < number < 2**62 else None


def json_value(tag: int, raw: bytes, charsets: Sequence[str]) -> dict[str, Any]:
    """One text element as a DICOM JSON attribute (PS3.18 F.2.2)."""
    vr = VR[tag]
    text = text_of(tag, raw, charsets)
    if not text:
        return {"vr": vr}
    values: list[Any] = [v.strip() for v in text.split("\\")] if vr in _MULTI_VRS else [text]
    if vr == "PN":
        values = [PersonName.parse(v).to_json() or None for v in values]
    elif vr in ("DS", "IS"):
        values = [_json_number(v, vr) for v in values]
    else:
        values = [v or None for v in values]
    return {"vr": vr, "Value": values} if any(v is not None for v in values) else {"vr": vr}


def _json_number(text: str, vr: str) -> int | float | str | None:
    """A number string as a JSON number; as it stands where it is none (PS3.18 F.2.2)."""
    if not text:
        return None
    try:
        number = int(text) if vr == "IS" else float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def json_attributes(
    values: dict[int, bytes],
    tags: frozenset[int],
    requests: Sequence[dict[int, bytes]],
) -> dict[str, Any]:
    """The attributes `tags` that are present, in tag order, as DICOM JSON."""
    charsets = charsets_of(values)
    found = {
        f"{tag:08X}": json_value(tag, values[tag], charsets)
        for tag in sorted(tags)
        if tag in values
    }
    items = [
        {f"{tag:08X}": json_value(tag, item[tag], charsets) for tag in sorted(item) if tag in VR}
        for item in requests
    ]
    if items:
        found[f"{REQUEST_ATTRIBUTES:08X}"] = {"vr": "SQ", "Value": items}
    return found
