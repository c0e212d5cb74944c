"""Reading a stored Part 10 file again, no further than the index needs."""

from __future__ import annotations

from collections.abc import Callable

from archive.index.arrival import Arrival
from archive.journal.domain import Identity, Origin
from archive.receive.service import arrival_of
from dataset.part10 import Head, parse_head
from dataset.scanner import Scanner, ScanResult
from kernel.errors import Invalid

_FIRST_BYTES = 64 * 1024
_MORE_BYTES = 1 << 20

Read = Callable[[int, int], bytes]


def read_arrival(read: Read, length: int, origin: Origin) -> Arrival:
    """What the index wants of the file of `length` bytes that `read(start, count)` gives.

    Its place, checksum and time are still to be filled in. Raises `Invalid('part10.not_dicom')`
    and whatever `read` raises.
    """
    start, head = _head(read, length)
    identity = Identity(
        head.sop_class_uid or "", head.sop_instance_uid or "", head.transfer_syntax_uid
    )
    try:
        scanned = _scan(read, length, start, head)
    except Invalid as error:
        return arrival_of(origin, identity, None, error)
    return arrival_of(origin, identity, scanned, None)


def _head(read: Read, length: int) -> tuple[bytes, Head]:
    wanted = _FIRST_BYTES
    while True:
        start = read(0, min(wanted, length))
        head = parse_head(start, final=len(start) == length)
        if head is not None:
            return start, head
        if len(start) == length:
            raise Invalid("part10.not_dicom", "the stored file is too short to be one")
        wanted *= 4


def _scan(read: Read, length: int, start: bytes, head: Head) -> ScanResult:
    scanner = Scanner(head.transfer_syntax_uid)
    found = scanner.feed(start[head.dataset_offset :])
    at = len(start)
    while found is None and at < length:
        piece = read(at, min(_MORE_BYTES, length - at))
        found = scanner.feed(piece)
        at += len(piece)
    return found if found is not None else scanner.finish()
