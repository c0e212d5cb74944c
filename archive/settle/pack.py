"""The pack format: Part 10 files one after the other, a manifest, a trailer.

A pack holds instances of one series (or what is in quarantine) and everything needed to index them
again: ``[Part 10]… [manifest: gzip of JSON] [trailer: 32 bytes]``. The trailer is the magic
``YYPACK01``, the manifest's offset and length as 64-bit little endian numbers and its xxh3_64.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Literal

import xxhash

from archive.store.domain import ObjectWriter
from kernel.errors import Invalid

FORMAT = 1
TRAILER = struct.Struct("<8sQQQ")
_MAGIC = b"YYPACK01"

EntryKind = Literal["instance", "version", "quarantine"]


@dataclass(slots=True)
class ManifestEntry:
    """One Part 10 file of a pack: where it lies, what it is and how it was received."""

    kind: EntryKind
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str
    series_instance_uid: str
    offset: int
    length: int
    sha256: str
    via: Literal["dimse", "stow", "import"]
    source: str
    peer: str
    called: str
    received_ms: int
    reason: str = ""  # of a quarantined one, or the relation of a version
    detail: str = ""
    order: int = 0  # ranks what was received in the same millisecond


@dataclass(slots=True)
class Manifest:
    """What stands at the end of a pack. `format` lets later readers know."""

    owner_id: int
    created_ms: int
    entries: list[ManifestEntry] = field(default_factory=list)
    format: int = FORMAT


class PackWriter:
    """Writes a pack into an object; `sha256` of the whole object is known after `finish`."""

    def __init__(self, writer: ObjectWriter, manifest: Manifest) -> None:
        self._writer = writer
        self._whole = hashlib.sha256()
        self.manifest = manifest
        self.size = 0

    def add(self, entry: ManifestEntry, chunks: Callable[[], list[memoryview]]) -> None:
        """Append one Part 10 file; fills in the entry's offset, length and SHA-256."""
        own = hashlib.sha256()
        entry.offset = self.size
        for chunk in chunks():
            own.update(chunk)
            self._put(chunk)
        entry.length = self.size - entry.offset
        entry.sha256 = own.hexdigest()
        self.manifest.entries.append(entry)

    def finish(self) -> bytes:
        """Write manifest and trailer, make the object durable; return its SHA-256."""
        words = json.dumps(asdict(self.manifest), ensure_ascii=False, separators=(",", ":"))
        packed = gzip.compress(words.encode(), 6, mtime=0)
        check = xxhash.xxh3_64_intdigest(packed)
        offset = self.size
        self._put(packed)
        self._put(TRAILER.pack(_MAGIC, offset, len(packed), check))
        self._writer.commit()
        return self._whole.digest()

    def _put(self, part: bytes | memoryview) -> None:
        self._whole.update(part)
        self._writer.write(part)
        self.size += len(part)


def read_manifest(size: int, read: Callable[[int, int], bytes]) -> Manifest:
    """The manifest of a pack of `size` bytes; `read(start, length)` gives its bytes.

    Raises `Invalid('pack.manifest')` where it is not whole.
    """
    if size < TRAILER.size:
        raise Invalid("pack.manifest", "a pack of {size} bytes has no trailer", size=size)
    magic, offset, length, check = TRAILER.unpack(read(size - TRAILER.size, TRAILER.size))
    if magic != _MAGIC or offset + length + TRAILER.size != size:
        raise Invalid(
            "pack.manifest", "the trailer at byte {at} is damaged", at=size - TRAILER.size
        )
    packed = read(offset, length)
    if xxhash.xxh3_64_intdigest(packed) != check:
        raise Invalid("pack.manifest", "the manifest at byte {at} is damaged", at=offset)
    tree = json.loads(gzip.decompress(packed))
    if tree.get("format") != FORMAT:
        raise Invalid("pack.manifest", "pack format {format} is unknown", format=tree.get("format"))
    try:
        entries = [ManifestEntry(**entry) for entry in tree.pop("entries")]
        return Manifest(entries=entries, **tree)
    except (KeyError, TypeError) as error:
        raise Invalid("pack.manifest", "the manifest at byte {at} is odd", at=offset) from error
