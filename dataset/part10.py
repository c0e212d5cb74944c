"""The head of a DICOM file: preamble, prefix and File Meta Information (PS3.10 chapter 7)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final, Literal

from dataset.syntax import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    SHORT_VRS,
    UNDEFINED,
    Buffer,
    Encoding,
    detect,
    is_letters,
    read_header,
)
from kernel.errors import Invalid

# PS3.7 D.3.3.2: a UID made of a UUID (PS3.5 B.2) names this implementation
IMPLEMENTATION_CLASS_UID: Final = "2.25.147352803463926370146311870925186245941"
IMPLEMENTATION_VERSION_NAME: Final = "YUNYING_1"

_PREFIX = b"DICM"
_META_LIMIT = 1 << 20
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)+\Z")


@dataclass(frozen=True, slots=True)
class Head:
    """What precedes the data set of a file. UIDs are None where the head does not say them.

    Where `had_meta` is false or the meta information has no transfer syntax, `transfer_syntax_uid`
    is guessed from the data set.
    """

    dataset_offset: int
    transfer_syntax_uid: str
    sop_class_uid: str | None
    sop_instance_uid: str | None
    had_preamble: bool
    had_meta: bool


def file_head(
    sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, source_ae: str = ""
) -> bytes:
    """Preamble, prefix and group 0002 of a new file (PS3.10 7.1); the data set follows it."""
    elements = [
        _meta(1, b"OB", b"\0\1"),
        _meta(2, b"UI", _uid_bytes(sop_class_uid)),
        _meta(3, b"UI", _uid_bytes(sop_instance_uid)),
        _meta(0x10, b"UI", _uid_bytes(transfer_syntax_uid)),
        _meta(0x12, b"UI", _uid_bytes(IMPLEMENTATION_CLASS_UID)),
        _meta(0x13, b"SH", _padded(IMPLEMENTATION_VERSION_NAME, b" ")),
    ]
    if source_ae.strip():
        elements.append(_meta(0x16, b"AE", _padded(source_ae.strip()[:16], b" ")))
    body = b"".join(elements)
    return bytes(128) + _PREFIX + _meta(0, b"UL", struct.pack("<I", len(body))) + body


def parse_head(buffer: Buffer, *, final: bool = False) -> Head | None:
    """Find the data set of a file from its first bytes; None = more bytes are needed (never where
    `final`).

    Tolerates: no preamble, no prefix, a wrong or missing group length, implicit VR in group 0002,
    no meta information at all, no transfer syntax. Raises `Invalid('part10.not_dicom')` where
    nothing of it is there.
    """
    start = _meta_start(buffer, final)
    if start is None:
        return None
    if start < 0:
        return _bare(buffer, 0, had_preamble=False)
    found = _read_meta(buffer, start, final)
    if found is None:
        return None
    values, offset = found
    preamble = start == 132
    syntax = _uid_text(values.get(0x10))
    if syntax is None or _UID.match(syntax) is None:
        if len(buffer) - offset < 8 and not final:
            return None
        syntax = _guess(buffer, offset) or EXPLICIT_LITTLE
    return Head(
        offset, syntax, _uid_text(values.get(2)), _uid_text(values.get(3)), preamble, bool(values)
    )


def _meta_start(buffer: Buffer, final: bool) -> int | None:
    """Where group 0002 begins; -1 where the buffer starts with the data set; None where that is
    not known yet.
    """
    if len(buffer) < 132 and not final:
        return None
    if bytes(buffer[128:132]) == _PREFIX:
        return 132
    if bytes(buffer[:4]) == _PREFIX:
        return 4
    return 0 if bytes(buffer[:2]) == b"\2\0" else -1


def _bare(buffer: Buffer, offset: int, had_preamble: bool) -> Head:
    syntax = _guess(buffer, offset)
    if syntax is None:
        raise Invalid(
            "part10.not_dicom",
            "This is not a DICOM file: no “DICM” at byte 128, and no data set begins at byte 0.",
        )
    return Head(offset, syntax, None, None, had_preamble, had_meta=False)


def _read_meta(buffer: Buffer, start: int, final: bool) -> tuple[dict[int, bytes], int] | None:
    """Values of group 0002 by element number and the offset behind it; None where it is not
    there whole.
    """
    values: dict[int, bytes] = {}
    position, declared_end = start, -1
    while position != declared_end or _goes_on(buffer, position):
        header = read_header(buffer, position, True, True)
        if header is None:
            if final:
                break
            return None
        if header.tag >> 16 != 2:
            break
        value = position + header.size
        position = value + header.length
        if position - start > _META_LIMIT:
            raise Invalid(
                "part10.not_dicom",
                "This is not a DICOM file: its meta information is damaged at byte {offset}.",
                offset=value - header.size,
            )
        if position > len(buffer):
            if not final:
                return None
            raise Invalid(
                "part10.not_dicom",
                "This DICOM file is cut off inside its meta information, at byte {offset}.",
                offset=len(buffer),
            )
        values[header.tag & 0xFFFF] = bytes(buffer[value:position])
        if header.tag == 0x00020000 and header.length == 4:
            declared_end = position + int.from_bytes(values[0], "little")
    return values, position


def _goes_on(buffer: Buffer, position: int) -> bool:
    """True where group 0002 has more elements than its group length counts."""
    peek = bytes(buffer[position : position + 6])
    return peek[:2] == b"\2\0" and is_letters(peek[4:])


def _guess(buffer: Buffer, offset: int) -> str | None:
    """The transfer syntax that a data set without meta information shows; None where it looks
    like none.
    """
    start = bytes(buffer[offset : offset + 8])
    if len(start) < 8:
        return None
    encoding = detect(start, Encoding(explicit=start[4:6] in SHORT_VRS, little=True))
    order: Literal["little", "big"] = "little" if encoding.little else "big"
    group = int.from_bytes(start[:2], order)
    length = int.from_bytes(start[6:8] if encoding.explicit else start[4:8], order)
    if group not in (1, 4, 8, 16) or 0xFFFF < length < UNDEFINED:
        return None
    if encoding.explicit:
        return EXPLICIT_LITTLE if encoding.little else EXPLICIT_BIG
    return IMPLICIT_LITTLE if encoding.little else None


def _meta(element: int, vr: bytes, value: bytes) -> bytes:
    if vr in SHORT_VRS:
        return struct.pack("<HH2sH", 2, element, vr, len(value)) + value
    return struct.pack("<HH2sHI", 2, element, vr, 0, len(value)) + value


def _uid_bytes(uid: str) -> bytes:
    return _padded(uid, b"\0")


def _padded(text: str, pad: bytes) -> bytes:
    value = text.encode("ascii", "replace")
    return value + pad if len(value) % 2 else value


def _uid_text(value: bytes | None) -> str | None:
    if value is None:
        return None
    return value.decode("latin-1").strip(" \0") or None
