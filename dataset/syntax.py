"""How a data set is encoded: transfer syntax, element headers, value representations, budgets.

Source: PS3.5 chapter 7 and Annex A. Reading is tolerant: headers are taken for what they are, not
for what was declared.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

from kernel.errors import Invalid

IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG: Final = "1.2.840.10008.1.2.2"

# PS3.5 A.1, Papyrus 3, and a private one of GE whose headers are implicit little endian
_IMPLICIT = frozenset({IMPLICIT_LITTLE, "1.2.840.10008.1.20", "1.2.840.113619.5.2"})
# PS3.5 A.5, A.7 and JPIP HTJ2K Referenced Deflate: the whole data set is deflated
_DEFLATED = frozenset({DEFLATED, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})

# PS3.5 Table 7.1-2 (16-bit length) and Table 7.1-1 (two reserved bytes, 32-bit length)
SHORT_VRS: Final = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT"}
) | {b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
LONG_VRS: Final = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)

UNDEFINED: Final = 0xFFFFFFFF
ITEM: Final = 0xFFFEE000
ITEM_END: Final = 0xFFFEE00D
SEQUENCE_END: Final = 0xFFFEE0DD
PIXEL_DATA: Final = 0x7FE00010

Buffer = bytes | bytearray | memoryview

_LITTLE_EXPLICIT = struct.Struct("<HH2sH")
_BIG_EXPLICIT = struct.Struct(">HH2sH")
_LITTLE_LENGTH = struct.Struct("<I")
_BIG_LENGTH = struct.Struct(">I")


class Encoding(NamedTuple):
    """Explicit or implicit VR, little or big endian."""

    explicit: bool
    little: bool


class Header(NamedTuple):
    """One element header: `vr` is empty where it is not written, `size` is 8 or 12 bytes."""

    tag: int
    vr: bytes
    length: int
    size: int


@dataclass(frozen=True, slots=True)
class Budget:
    """What one data set may cost its reader.

    Depth counts sequences inside each other; the ratio is inflated to deflated bytes, after a first
    amount that is free.
    """

    max_depth: int = 64
    max_elements: int = 200_000
    max_value_bytes: int = 65_536
    inflate_ratio: int = 200
    inflate_free_bytes: int = 64 << 20


DEFAULT_BUDGET: Final = Budget()
WHOLE_BUDGET: Final = Budget(max_elements=5_000_000)


def encoding_of(transfer_syntax_uid: str) -> Encoding:
    """The encoding that a transfer syntax declares; an unknown one is explicit little endian
    (PS3.5 A.4).
    """
    if transfer_syntax_uid in _IMPLICIT:
        return Encoding(explicit=False, little=True)
    return Encoding(explicit=True, little=transfer_syntax_uid != EXPLICIT_BIG)


def is_deflated(transfer_syntax_uid: str) -> bool:
    """True where the whole data set is one deflate stream (PS3.5 A.5)."""
    return transfer_syntax_uid in _DEFLATED


def detect(start: Buffer, declared: Encoding) -> Encoding:
    """The encoding that the first 8 bytes of a data set really have; `declared` where they do not
    contradict it.

    Files exist whose declared transfer syntax lies. The first element is of a low group (0008
    nearly always), so its byte order shows; two capital letters after the tag are a VR.
    """
    if len(start) < 8:
        return declared
    low, high = start[0], start[1]
    little = declared.little
    if little and low == 0 and 0 < high <= 0x10:
        little = False
    elif not little and high == 0 and 0 < low <= 0x10:
        little = True
    return Encoding(_is_explicit(start, declared.explicit), little)


def _is_explicit(start: Buffer, declared: bool) -> bool:
    vr = bytes(start[4:6])
    if declared:
        return is_letters(vr)
    if vr in SHORT_VRS:  # as an implicit length over 16 KiB, which a first element never has
        return True
    return vr in LONG_VRS and start[6] == 0 and start[7] == 0 and bool(vr[0] & 1)


def is_letters(vr: bytes) -> bool:
    """True for two capital letters, as every VR has."""
    return len(vr) == 2 and 0x41 <= vr[0] <= 0x5A and 0x41 <= vr[1] <= 0x5A


def read_header(buffer: Buffer, position: int, explicit: bool, little: bool) -> Header | None:
    """Read the element header at `position`; None where the buffer ends inside it.

    Tolerates what real files have: no VR inside an explicit data set (read as implicit), an unknown
    VR (32-bit length as PS3.5 6.2 has it, 16-bit where its reserved bytes are not zero), a long VR
    written with a 16-bit length.
    """
    if len(buffer) - position < 8:
        return None
    group, element, vr, short = (_LITTLE_EXPLICIT if little else _BIG_EXPLICIT).unpack_from(
        buffer, position
    )
    tag = group << 16 | element
    length = _LITTLE_LENGTH if little else _BIG_LENGTH
    if explicit and group != 0xFFFE:
        if vr in SHORT_VRS:
            return Header(tag, vr, short, 8)
        if is_letters(vr):
            if short:
                return Header(tag, vr, short, 8)
            if len(buffer) - position < 12:
                return None
            return Header(tag, vr, length.unpack_from(buffer, position + 8)[0], 12)
    return Header(tag, b"", length.unpack_from(buffer, position + 4)[0], 8)


def item_order(raw: Buffer) -> bool | None:
    """Byte order of the item or delimiter tag in `raw[:2]`: True little, False big, None where
    it is no such tag.
    """
    if raw[0] == 0xFE and raw[1] == 0xFF:
        return True
    return False if raw[0] == 0xFF and raw[1] == 0xFE else None


def holds_fragments(tag: int, vr: bytes) -> bool:
    """True where an element of undefined length holds pixel fragments, not items with data sets
    (PS3.5 A.4).
    """
    return vr in (b"OB", b"OW") or (not vr and tag == PIXEL_DATA)


def tag_text(tag: int) -> str:
    """`(0010,0020)`."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def unreadable(offset: int, tag: int | None, detail: str) -> Invalid:
    """The error for a data set that cannot be read, with the place (byte of the encoded data
    set, tag) in words.
    """
    return Invalid(
        "dataset.unreadable",
        "The data set cannot be read at byte {offset} ({tag}): {detail}",
        offset=offset,
        tag="no element" if tag is None else tag_text(tag),
        detail=detail,
    )
