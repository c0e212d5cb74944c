"""Reading an object again: does it still hold what its manifest says? Blocking; run in a thread."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from archive.settle.metadata import MetadataHead, read_head, unpack_metadata
from archive.settle.pack import Manifest, ManifestEntry, read_manifest
from archive.store.domain import ObjectStore
from kernel.errors import Invalid, Unavailable

_CHUNK_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class CheckedPack:
    """A pack that was read whole; `bad` holds the offsets of files that do not fit their hash."""

    key: str
    size: int
    sha256: bytes
    manifest: Manifest
    bad: frozenset[int]


@dataclass(frozen=True, slots=True)
class CheckedMetadata:
    """A metadata object that can be read whole, and the SOP Instance UIDs it describes."""

    key: str
    size: int
    sha256: bytes
    head: MetadataHead
    uids: tuple[str, ...]


def check_pack(store: ObjectStore, key: str) -> CheckedPack:
    """Read a pack from its beginning to its end, once.

    Raises `NotFound('objects.missing')`, `Invalid('pack.manifest')` where the manifest cannot be
    read (the pack is cut off, say), `Unavailable` where the store fails.
    """
    size = store.size(key)
    manifest = read_manifest(size, lambda start, length: store.read(key, start, length))
    entries = sorted(manifest.entries, key=lambda entry: entry.offset)
    whole = hashlib.sha256()
    bad = frozenset(_unfit(_chunks(store, key, size, whole), entries))
    return CheckedPack(key, size, whole.digest(), manifest, bad)


def check_metadata(store: ObjectStore, key: str) -> CheckedMetadata:
    """Read a metadata object; raises as `check_pack` does, `Invalid('metadata.damaged')`."""
    raw = store.read(key)
    head, uids = read_head(raw)
    described = tuple(one.sop_instance_uid for one in unpack_metadata(raw))
    if described != tuple(uids):
        raise Invalid("metadata.damaged", "a metadata object contradicts itself")
    return CheckedMetadata(key, len(raw), hashlib.sha256(raw).digest(), head, described)


def cut_short(error: Unavailable) -> bool:
    """Whether an object is shorter than it was: damage, not an outage."""
    return error.code == "objects.short"


def _chunks(store: ObjectStore, key: str, size: int, whole: hashlib._Hash) -> Iterator[memoryview]:
    for start in range(0, size, _CHUNK_BYTES):
        chunk = store.read(key, start, min(_CHUNK_BYTES, size - start))
        whole.update(chunk)
        yield memoryview(chunk)


def _unfit(chunks: Iterator[memoryview], entries: Sequence[ManifestEntry]) -> Iterator[int]:
    """The offsets of entries whose bytes do not have their SHA-256; all chunks are consumed."""
    waiting = iter(entries)
    entry, own, at = next(waiting, None), hashlib.sha256(), 0
    for chunk in chunks:
        view = chunk
        while len(view):
            if entry is None or at < entry.offset:
                step = len(view) if entry is None else min(entry.offset - at, len(view))
            else:
                step = min(entry.offset + entry.length - at, len(view))
                own.update(view[:step])
            at += step
            view = view[step:]
            while entry is not None and at >= entry.offset + entry.length:
                if own.hexdigest() != entry.sha256:
                    yield entry.offset
                entry, own = next(waiting, None), hashlib.sha256()
    while entry is not None:  # beyond the end of the object
        yield entry.offset
        entry = next(waiting, None)
