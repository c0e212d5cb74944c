"""The rules of a hash chain: digests, marks and links; what a walk can find.

An entry stands for one row elsewhere. Its `digest` covers the whole row in canonical form; its
`marks` hold a few bytes for each field, so that a changed row can be told field by field; its
`hash` covers all of that and the hash before it.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Value = str | int | float | None
Fields = Mapping[str, Value]

BEGIN = bytes(32)
MARK_BYTES = 4
_DOMAIN = b"yunying ledger 1\0"


@dataclass(frozen=True, slots=True)
class Item:
    """What is to be chained: the key of a row and its fields, plain values only."""

    ref: str
    fields: Fields


@dataclass(frozen=True, slots=True)
class Entry:
    """One link. `sealed_at` is in seconds since 1970."""

    seq: int
    ref: str
    digest: bytes
    marks: bytes
    sealed_at: float
    hash: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """How far a stream goes: its last number (0: nothing yet) and that entry's hash."""

    seq: int
    hash: bytes


START = Head(0, BEGIN)

FindingKind = Literal[
    "row_changed",  # the row says something else than when it was sealed
    "row_missing",  # the row was deleted
    "row_inserted",  # the row claims to be sealed and is not
    "entry_changed",  # the link itself was altered
    "entry_missing",  # links were taken out
    "end_missing",  # the chain ends before a head that was kept elsewhere
    "rewritten",  # the chain was made anew: its hash is not that of a head kept elsewhere
    "volume_missing",  # rows left the table without a sealed file, or the file is gone or altered
]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong at one number. `at` is the row's own time where known (seconds since 1970).

    `last` is the last number of a range; `fields` names what differs.
    """

    kind: FindingKind
    seq: int
    ref: str = ""
    at: float | None = None
    fields: tuple[str, ...] = ()
    last: int | None = None


def canonical(fields: Fields) -> bytes:
    """The one way to write a row: JSON with sorted names, no spaces, UTF-8, shortest floats."""
    return json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def digest_of(fields: Fields) -> bytes:
    """SHA-256 of the canonical row."""
    return hashlib.sha256(canonical(fields)).digest()


def marks_of(fields: Fields) -> bytes:
    """Four bytes of SHA-256 for each field, in the order of their names."""
    return b"".join(_mark(fields[name]) for name in sorted(fields))


def differing(fields: Fields, marks: bytes) -> tuple[str, ...]:
    """Names of the fields that are not as `marks` remember them."""
    found = []
    for place, name in enumerate(sorted(fields)):
        kept = marks[place * MARK_BYTES : (place + 1) * MARK_BYTES]
        if kept != _mark(fields[name]):
            found.append(name)
    return tuple(found)


def link(stream: str, before: bytes, entry: Entry) -> bytes:
    """The hash of `entry` (its own `hash` is not looked at) after the hash `before`."""
    parts = (
        _DOMAIN,
        stream.encode() + b"\0",
        before,
        struct.pack(">Qd", entry.seq, entry.sealed_at),
        entry.ref.encode() + b"\0",
        entry.digest,
        entry.marks,
    )
    return hashlib.sha256(b"".join(parts)).digest()


def chain(stream: str, head: Head, items: list[Item], sealed_at: float) -> list[Entry]:
    """The entries that `items` become after `head`."""
    made: list[Entry] = []
    before = head.hash
    for seq, item in enumerate(items, head.seq + 1):
        bare = Entry(seq, item.ref, digest_of(item.fields), marks_of(item.fields), sealed_at, BEGIN)
        before = link(stream, before, bare)
        made.append(Entry(seq, bare.ref, bare.digest, bare.marks, sealed_at, before))
    return made


def broken_links(stream: str, head: Head, entries: list[Entry]) -> list[Finding]:
    """What is wrong with the links of consecutive entries that follow `head`.

    Each is compared with the stored hash before it, so one altered link is one finding.
    """
    found: list[Finding] = []
    for entry in entries:
        if entry.seq != head.seq + 1:
            found.append(Finding("entry_missing", head.seq + 1, last=entry.seq - 1))
        elif link(stream, head.hash, entry) != entry.hash:
            found.append(Finding("entry_changed", entry.seq, entry.ref))
        head = Head(entry.seq, entry.hash)
    return found


def _mark(value: Value) -> bytes:
    text = json.dumps(value, ensure_ascii=False).encode()
    return hashlib.sha256(text).digest()[:MARK_BYTES]
