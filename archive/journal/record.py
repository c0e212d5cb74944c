"""The journal's record format.

A segment is a row of records; a record is a header of 256 bytes and a complete Part 10 file, so a
byte range of a segment *is* a DICOM file. All numbers are little endian.

A segment's file may have been a segment before: what stands behind its last record is zeros or of
that earlier life. The header's check is seeded with the segment's name, so that an old record is
none in the new segment.

====== ===== ==========================================================================
offset bytes field
====== ===== ==========================================================================
0      4     magic ``YYJR``
4      1     format version (2)
5      1     cipher id (0: none)
6      1     flags (bit 0: quarantined, bit 1: written by streaming)
7      1     how it came (1 DIMSE, 2 STOW, 3 import)
8      4     key id (0: none)
12     4     owner id
16     8     length of the Part 10 file in bytes
24     8     received at, milliseconds since 1970 UTC
32     16    xxh3_128 of the Part 10 file
48     64    SOP Instance UID      |
112    64    source                | UTF-8, padded
176    48    peer address          | with NUL
224    16    called AE title       |
240    8     xxh3_64 of bytes 0 to 239, seeded with that of the segment's name
248    8     zero
====== ===== ==========================================================================
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

import xxhash

MAGIC = b"YYJR"
VERSION = 2
HEADER_BYTES = 256
FLAG_QUARANTINED = 1
FLAG_STREAMED = 2

_LAYOUT = struct.Struct("<4sBBBBIIQQ16s64s64s48s16s")
_CHECK = struct.Struct("<Q8x")
_VIA_CODES: dict[str, int] = {"dimse": 1, "stow": 2, "import": 3}
_VIA_NAMES: dict[int, Literal["dimse", "stow", "import"]] = {1: "dimse", 2: "stow", 3: "import"}


@dataclass(frozen=True, slots=True)
class RecordHeader:
    """What the journal knows of a record besides its Part 10 file."""

    owner_id: int
    via: Literal["dimse", "stow", "import"]
    source: str
    peer: str
    called: str
    sop_instance_uid: str
    length: int
    received_ms: int
    checksum: bytes
    flags: int = 0

    @property
    def quarantined(self) -> bool:
        """True for a record kept for people to look at, not indexed."""
        return bool(self.flags & FLAG_QUARANTINED)


def _clip(text: str, length: int) -> bytes:
    """`text` in at most `length` bytes of UTF-8, never cut inside a character."""
    raw = text.encode("utf-8", "replace")
    return raw if len(raw) <= length else raw[:length].decode("utf-8", "ignore").encode()


def seed_of(key: str) -> int:
    """What binds the record headers of a segment to its name."""
    return xxhash.xxh3_64_intdigest(key.encode())


def pack_header(header: RecordHeader, seed: int) -> bytes:
    """`header` as its 256 bytes in the segment with `seed`."""
    body = _LAYOUT.pack(
        MAGIC,
        VERSION,
        0,
        header.flags,
        _VIA_CODES[header.via],
        0,
        header.owner_id,
        header.length,
        header.received_ms,
        header.checksum,
        _clip(header.sop_instance_uid, 64),
        _clip(header.source, 64),
        _clip(header.peer, 48),
        _clip(header.called, 16),
    )
    return body + _CHECK.pack(xxhash.xxh3_64_intdigest(body, seed))


def unpack_header(raw: bytes | memoryview, seed: int) -> RecordHeader | None:
    """The header in the first 256 bytes of `raw`; None where none stands there intact that was
    written for the segment with `seed`.
    """
    if len(raw) < HEADER_BYTES or raw[:4] != MAGIC:
        return None
    body = bytes(raw[: _LAYOUT.size])
    (check,) = _CHECK.unpack_from(raw, _LAYOUT.size)
    if check != xxhash.xxh3_64_intdigest(body, seed):
        return None
    (_, version, cipher, flags, via, _key, owner_id, length, received_ms, checksum, *texts) = (
        _LAYOUT.unpack(body)
    )
    if version != VERSION or cipher != 0 or via not in _VIA_NAMES:
        return None
    uid, source, peer, called = (t.rstrip(b"\0").decode("utf-8", "replace") for t in texts)
    return RecordHeader(
        owner_id, _VIA_NAMES[via], source, peer, called, uid, length, received_ms, checksum, flags
    )
