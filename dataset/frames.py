"""Where the frames of an instance lie in its data set (PS3.5 8.1, 8.2, A.4; PS3.3 C.7.6.3.1.8
Extended Offset Table).

Nothing is decoded. Encapsulated frames are found by the Extended Offset Table, by the Basic Offset
Table, by one fragment for each frame, or by the markers that end a JPEG or JPEG 2000 codestream;
native ones by arithmetic.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from dataset.elements import FRAGMENTS, ITEM_OPENED, SEQUENCE, VALUE, Event, fragments, plain, walk
from dataset.syntax import ITEM, PIXEL_DATA, Buffer
from kernel.errors import Invalid

Piece = tuple[int, int]

_FLOAT_PIXEL_DATA, _DOUBLE_PIXEL_DATA = 0x7FE00008, 0x7FE00009
_EXTENDED_OFFSETS, _EXTENDED_LENGTHS = 0x7FE00001, 0x7FE00002
_FRAMES, _SAMPLES, _ROWS, _COLUMNS, _BITS = (
    0x00280008, 0x00280002, 0x00280010, 0x00280011, 0x00280100,
)  # fmt: skip
_PHOTOMETRIC = 0x00280004
_WANTED = frozenset(
    {_FRAMES, _SAMPLES, _ROWS, _COLUMNS, _BITS, _PHOTOMETRIC}
    | {PIXEL_DATA, _FLOAT_PIXEL_DATA, _DOUBLE_PIXEL_DATA, _EXTENDED_OFFSETS, _EXTENDED_LENGTHS}
)
# MPEG-2, H.264, H.265 (PS3.5 A.4.5 to A.4.9): all frames are one stream
_VIDEO = "1.2.840.10008.1.2.4.10"

_JPEG_END = b"\xff\xd9"  # EOI of JPEG (ISO 10918-1) and JPEG-LS, EOC of JPEG 2000 (ISO 15444-1)
_JPEG_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")  # SOI, and SOC with SIZ
_TRAILER_BYTES = 10


@dataclass(frozen=True, slots=True)
class FrameTable:
    """Where each frame lies.

    `frames[n]` holds the pieces of frame n + 1 as (offset, length) in bytes from the start of the
    data set (inflated, where the transfer syntax is deflated); joined they are the frame's bytes.
    `frame_bits` is not 0 where native frames are no whole bytes (1 bit allocated): frame n then
    begins at bit `n * frame_bits % 8` of its piece, least significant first. `is_video` says that
    the frames are one stream that cannot be cut: `frames` has one entry for all of them.
    """

    frames: list[list[Piece]] = field(default_factory=list)
    encapsulated: bool = False
    frame_bits: int = 0
    is_video: bool = False
    little_endian: bool = True


def frame_table(dataset: Buffer, transfer_syntax_uid: str) -> FrameTable | None:
    """The frames of a whole data set, or None where it has no pixel data.

    Raises `Invalid('dataset.unreadable')`, and `Invalid('frames.unclear')` where the pixel data
    cannot be divided into the frames that Number of Frames announces.
    """
    data = plain(dataset, transfer_syntax_uid)
    found = _find(data, transfer_syntax_uid)
    pixels = next(
        (found[tag] for tag in (PIXEL_DATA, _FLOAT_PIXEL_DATA, _DOUBLE_PIXEL_DATA) if tag in found),
        None,
    )
    if pixels is None or pixels.length == 0:
        return None
    count = max(_integer(data, found, _FRAMES, 1), 1)
    if pixels.kind != FRAGMENTS:
        return _native(data, found, pixels, count)
    if transfer_syntax_uid.startswith(_VIDEO):
        pieces = [(at + 8, length) for _, _, at, length in _items(data, pixels)[1:]]
        return FrameTable([pieces], encapsulated=True, is_video=True)
    return FrameTable(_encapsulated(data, found, pixels, count), encapsulated=True)


def unpack_frame(table: FrameTable, index: int, pieces: Sequence[bytes]) -> bytes:
    """The bytes of frame `index` (from 0), of which `pieces` were read; a 1-bit frame is moved
    to begin at bit 0.
    """
    data = b"".join(pieces)
    if not table.frame_bits:
        return data
    shifted = int.from_bytes(data, "little") >> (index * table.frame_bits % 8)
    mask = (1 << table.frame_bits) - 1
    return (shifted & mask).to_bytes((table.frame_bits + 7) // 8, "little")


def _find(data: Buffer, transfer_syntax_uid: str) -> dict[int, Event]:
    """The top-level elements that matter; reading ends with the pixel data."""
    found: dict[int, Event] = {}
    depth = 0
    for step in walk(data, transfer_syntax_uid):
        kind, tag = step[0], step[1]
        if kind == SEQUENCE:
            depth += 1
        elif kind not in (VALUE, FRAGMENTS, ITEM_OPENED):
            depth -= tag == 0xFFFEE0DD
        elif depth == 0 and tag in _WANTED:
            found[tag] = Event(*step)
            if tag == PIXEL_DATA:
                break
    return found


def _integer(data: Buffer, found: dict[int, Event], tag: int, default: int) -> int:
    event = found.get(tag)
    if event is None or event.length == 0:
        return default
    raw = bytes(data[event.offset : event.offset + event.length])
    if tag == _FRAMES:
        text = raw.decode("latin-1").split("\\")[0].strip(" \0")
        return int(text) if text.isascii() and text.isdigit() else default
    return int.from_bytes(raw[:2], "little" if event.little else "big")


def _native(data: Buffer, found: dict[int, Event], pixels: Event, count: int) -> FrameTable:
    pixel_count = _integer(data, found, _ROWS, 0) * _integer(data, found, _COLUMNS, 0)
    bits = {_FLOAT_PIXEL_DATA: 32, _DOUBLE_PIXEL_DATA: 64}.get(pixels.tag) or _integer(
        data, found, _BITS, 8
    )
    samples = _integer(data, found, _SAMPLES, 1)
    frame_bits = pixel_count * bits * samples
    if _is_subsampled(data, found):
        frame_bits = frame_bits * 2 // 3
    needed = (frame_bits * count + 7) // 8
    if frame_bits == 0 or needed > pixels.length:
        raise Invalid(
            "frames.unclear",
            "The pixel data have {length} bytes, but {count} frames of this size need {needed}.",
            length=pixels.length,
            count=count,
            needed=needed,
        )
    pieces: list[list[Piece]] = []
    for number in range(count):
        first, last = number * frame_bits // 8, ((number + 1) * frame_bits + 7) // 8
        pieces.append([(pixels.offset + first, last - first)])
    whole = frame_bits % 8 == 0
    return FrameTable(pieces, frame_bits=0 if whole else frame_bits, little_endian=pixels.little)


def _is_subsampled(data: Buffer, found: dict[int, Event]) -> bool:
    """YBR_FULL_422 stored natively has two thirds of the bytes (PS3.3 C.7.6.3.1.2)."""
    event = found.get(_PHOTOMETRIC)
    if event is None:
        return False
    return bytes(data[event.offset : event.offset + event.length]).strip(b" \0") == b"YBR_FULL_422"


def _items(data: Buffer, pixels: Event) -> list[tuple[bool, int, int, int]]:
    """Items of the pixel data, the Basic Offset Table first, without the delimiter."""
    found = [item for item in fragments(data, pixels.offset) if item[1] == ITEM]
    if not found:
        raise Invalid("frames.unclear", "The pixel data have no items.")
    return found


def _encapsulated(
    data: Buffer, found: dict[int, Event], pixels: Event, count: int
) -> list[list[Piece]]:
    table, *rest = _items(data, pixels)
    first = table[2] + 8 + table[3]
    pieces = [(at + 8, length) for _, _, at, length in rest]
    offsets = _long_numbers(data, found.get(_EXTENDED_OFFSETS))
    if offsets:
        lengths = _long_numbers(data, found.get(_EXTENDED_LENGTHS))
        frames = _by_offsets(pieces, [first + offset for offset in offsets])
        if frames is not None and len(frames) == count:
            return _cut(frames, lengths)
    raw = bytes(data[table[2] + 8 : first])
    basic = struct.unpack(f"<{len(raw) // 4}I", raw[: len(raw) // 4 * 4])
    if len(basic) == count:
        frames = _by_offsets(pieces, [first + offset for offset in basic])
        if frames is not None:
            return frames
    if count == 1:
        return [pieces]
    if len(pieces) == count:
        return [[piece] for piece in pieces]
    return _by_markers(data, pieces, count)


def _long_numbers(data: Buffer, event: Event | None) -> list[int]:
    if event is None:
        return []
    raw = bytes(data[event.offset : event.offset + event.length // 8 * 8])
    return list(struct.unpack(f"<{len(raw) // 8}Q", raw))


def _by_offsets(pieces: list[Piece], starts: list[int]) -> list[list[Piece]] | None:
    """Divide the fragments where the offsets point; None where an offset points to no fragment."""
    frames: list[list[Piece]] = []
    awaited = iter([*starts, -1])
    following = next(awaited)
    for piece in pieces:
        if piece[0] - 8 == following:
            frames.append([])
            following = next(awaited)
        if not frames:
            return None
        frames[-1].append(piece)
    return frames if len(frames) == len(starts) else None


def _cut(frames: list[list[Piece]], lengths: list[int]) -> list[list[Piece]]:
    """Take the padding away that the Extended Offset Table Lengths leave out."""
    if len(lengths) != len(frames):
        return frames
    return [
        [(frame[0][0], length)] if len(frame) == 1 and 0 < length <= frame[0][1] else frame
        for frame, length in zip(frames, lengths, strict=True)
    ]


def _by_markers(data: Buffer, pieces: list[Piece], count: int) -> list[list[Piece]]:
    """Divide the fragments where a codestream ends, or else where one starts."""
    for ends in (True, False):
        frames: list[list[Piece]] = []
        fresh = True
        for offset, length in pieces:
            starts = bytes(data[offset : offset + 4]).startswith(_JPEG_STARTS)
            if fresh or not frames or (not ends and starts):
                frames.append([])
            frames[-1].append((offset, length))
            tail = bytes(data[max(offset, offset + length - _TRAILER_BYTES) : offset + length])
            fresh = ends and _JPEG_END in tail
        if len(frames) == count:
            return frames
    raise Invalid(
        "frames.unclear",
        "{fragments} fragments without an offset table cannot be divided into {count} frames.",
        fragments=len(pieces),
        count=count,
    )
