"""Building the objects of a series: the blocking half of settling, run in a thread."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import xxhash

from archive.journal.record import HEADER_BYTES, RecordHeader, seed_of, unpack_header
from archive.settle.metadata import (
    InstanceMetadata,
    MetadataHead,
    describe,
    pack_metadata,
    unpack_metadata,
)
from archive.settle.pack import EntryKind, Manifest, ManifestEntry, PackWriter
from archive.store.domain import ObjectStore
from archive.store.service import JOURNAL, Stores
from kernel.errors import AppError, Invalid, NotFound

_CHUNK_BYTES = 8 * 1024 * 1024


@dataclass(slots=True)
class Source:
    """One stored Part 10 file that is to go into a pack, and the row that points at it."""

    row_id: int
    kind: EntryKind
    pack_id: int
    store: str
    key: str
    byte_offset: int
    byte_length: int
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    received_ms: int
    reason: str = ""
    detail: str = ""
    entry: ManifestEntry | None = None  # of the pack it is in now, where it is not in the journal


@dataclass(slots=True)
class Built:
    """A pack that is durable: its size and hash, and what each source became."""

    size: int
    sha256: bytes
    placed: list[tuple[Source, ManifestEntry]]
    damaged: list[tuple[Source, str]]
    metadata: list[InstanceMetadata]


def build_pack(
    stores: Stores, key: str, owner_id: int, created_ms: int, sources: Sequence[Source]
) -> Built:
    """Write `sources` into the pack object `key`.

    Every source is checked against its checksum while it is read; a damaged one stays where it is
    and is named in the result. Raises `Unavailable` where a store fails.
    """
    writer = stores.objects.create(key)
    pack = PackWriter(writer, Manifest(owner_id, created_ms))
    built = Built(0, b"", [], [], [])
    try:
        for source in sources:
            try:
                view, entry = _open(stores, source)
            except Invalid as error:
                built.damaged.append((source, str(error)))
                continue
            pack.add(entry, lambda view=view: _chunks(view))  # type: ignore[misc]
            built.placed.append((source, entry))
            if source.kind == "instance":
                built.metadata.append(_describe(view, source))
        built.sha256 = pack.finish()
        built.size = pack.size
    except BaseException:
        writer.abort()
        raise
    return built


def write_metadata(
    stores: Stores,
    key: str,
    head: MetadataHead,
    old: tuple[str, str, int] | None,
    fresh: Sequence[InstanceMetadata],
    settled: Sequence[Source],
) -> tuple[int, bytes]:
    """Write the metadata object of a series; its size and SHA-256.

    `settled` are its instances in order. What neither `fresh` nor the metadata object at `old`
    (store, key, time of its making) describes is read and described.
    """
    new = {one.sop_instance_uid: one for one in fresh}
    made_ms, known = _described(stores, old)
    described = []
    for source in settled:
        uid = source.sop_instance_uid
        one = new.get(uid) or (known.get(uid) if source.received_ms <= made_ms else None)
        if one is None:
            one = _describe(read_view(stores.named(source.store), stores, source), source)
        described.append(one)
    raw = pack_metadata(head, described)
    writer = stores.objects.create(key)
    try:
        writer.write(raw)
        return writer.commit(), hashlib.sha256(raw).digest()
    except BaseException:
        writer.abort()
        raise


def _described(
    stores: Stores, place: tuple[str, str, int] | None
) -> tuple[int, dict[str, InstanceMetadata]]:
    """What an earlier metadata object says, and when; nothing where it is gone or damaged."""
    if place is None:
        return 0, {}
    store, key, made_ms = place
    try:
        listed = unpack_metadata(stores.named(store).read(key))
    except (NotFound, Invalid):
        return 0, {}
    return made_ms, {one.sop_instance_uid: one for one in listed}


def read_view(store: ObjectStore, stores: Stores, source: Source, before: int = 0) -> memoryview:
    """The bytes of `source`, with `before` bytes in front of it; mapped where they are local."""
    start, length = source.byte_offset - before, source.byte_length + before
    if source.store == JOURNAL:
        return stores.journal.view(source.key, start, length)
    return memoryview(store.read(source.key, start, length))


def _open(stores: Stores, source: Source) -> tuple[memoryview, ManifestEntry]:
    if source.store == JOURNAL:
        raw = read_view(stores.journal, stores, source, before=HEADER_BYTES)
        header = unpack_header(raw[:HEADER_BYTES], seed_of(source.key))
        view = raw[HEADER_BYTES:]
        if header is None:
            raise Invalid("journal.damaged", "the record header is damaged")
        if xxhash.xxh3_128_digest(view) != header.checksum:
            raise Invalid("journal.damaged", "the record's bytes do not fit its checksum")
        return view, _entry(source, header)
    if source.entry is None:
        raise Invalid("pack.manifest", "the pack's manifest does not name the instance")
    view = read_view(stores.named(source.store), stores, source)
    if hashlib.sha256(view).hexdigest() != source.entry.sha256:
        raise Invalid("pack.damaged", "the stored bytes do not fit their SHA-256")
    return view, _again(source.entry)


def _entry(source: Source, header: RecordHeader) -> ManifestEntry:
    return ManifestEntry(
        source.kind,
        source.sop_instance_uid,
        source.sop_class_uid,
        source.transfer_syntax_uid,
        source.study_instance_uid,
        source.series_instance_uid,
        0,
        0,
        "",
        header.via,
        header.source,
        header.peer,
        header.called,
        header.received_ms,
        source.reason,
        source.detail,
        source.row_id,
    )


def _again(entry: ManifestEntry) -> ManifestEntry:
    fields = {name: getattr(entry, name) for name in ManifestEntry.__slots__}
    return ManifestEntry(**fields)


def _chunks(view: memoryview) -> list[memoryview]:
    return [view[at : at + _CHUNK_BYTES] for at in range(0, len(view), _CHUNK_BYTES)]


def _describe(view: memoryview, source: Source) -> InstanceMetadata:
    try:
        return describe(
            view, source.study_instance_uid, source.series_instance_uid, source.sop_instance_uid
        )
    except AppError:
        empty = {"00080018": {"vr": "UI", "Value": [source.sop_instance_uid]}}
        return InstanceMetadata(source.sop_instance_uid, empty, None)
