"""The metadata object of a series: DICOM JSON without bulk data, and frame tables.

One object answers ``/metadata`` and tells where each frame lies: two gzip members and a trailer,
``[gzip of the DICOM JSON array] [gzip of the layouts] [trailer: 24 bytes]``. The first member goes
out as it is to a client that takes gzip; the second also says whose series it is.
"""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dataset.dicom_json import to_json
from dataset.frames import FrameTable, frame_table
from dataset.part10 import parse_head
from dataset.syntax import is_deflated
from kernel.errors import AppError, Invalid

_TRAILER = struct.Struct("<8sQQ")
_MAGIC = b"YYMETA01"
FORMAT = 1

_UNREADABLE = (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError)

# Bulk data are named relative to the server's root, so that the same bytes are right for every
# resource they are part of (PS3.18 F.2.6); DICOMweb is always served there.
BULK_ROOT = "/dicom-web"


@dataclass(frozen=True, slots=True)
class InstanceMetadata:
    """One instance: its DICOM JSON, and where its frames lie.

    `frames` holds for each frame its pieces as (offset, length) from the start of the Part 10 file;
    None where the instance has no pixel data.
    """

    sop_instance_uid: str
    dataset: dict[str, Any]
    frames: list[list[tuple[int, int]]] | None


@dataclass(frozen=True, slots=True)
class MetadataHead:
    """Whose series a metadata object describes, and when it was made."""

    owner_id: int
    study_instance_uid: str
    series_instance_uid: str
    created_ms: int
    format: int = FORMAT


def describe(
    part10: bytes | memoryview,
    study_instance_uid: str,
    series_instance_uid: str,
    sop_instance_uid: str,
) -> InstanceMetadata:
    """Metadata and frame table of one stored Part 10 file.

    An instance whose elements cannot be read to their end has what was read, and its UIDs.
    """
    head = parse_head(part10)
    if head is None:
        raise Invalid("part10.not_dicom", "the stored file is too short to be one")
    body = memoryview(part10)[head.dataset_offset :]
    base = (
        f"{BULK_ROOT}/studies/{study_instance_uid}/series/{series_instance_uid}"
        f"/instances/{sop_instance_uid}/bulkdata/"
    )

    def bulk(path: str, tag: int, vr: str, offset: int, length: int) -> str:
        del tag, vr, offset, length
        return base + path

    damage: list[Invalid] = []
    dataset = to_json(body, head.transfer_syntax_uid, bulk=bulk, damage=damage)
    for tag, uid in (
        ("00080018", sop_instance_uid),
        ("0020000D", study_instance_uid),
        ("0020000E", series_instance_uid),
    ):
        dataset.setdefault(tag, {"vr": "UI", "Value": [uid]})
    dataset["00083002"] = {"vr": "UI", "Value": [head.transfer_syntax_uid]}
    if is_deflated(head.transfer_syntax_uid):  # its frames are no byte ranges of the file
        return InstanceMetadata(sop_instance_uid, dataset, None)
    try:
        table = frame_table(body, head.transfer_syntax_uid)
    except AppError:
        table = None
    return InstanceMetadata(sop_instance_uid, dataset, _shifted(table, head.dataset_offset))


def _shifted(table: FrameTable | None, by: int) -> list[list[tuple[int, int]]] | None:
    if table is None:
        return None
    return [[(offset + by, length) for offset, length in frame] for frame in table.frames]


def pack_metadata(head: MetadataHead, instances: Sequence[InstanceMetadata]) -> bytes:
    """The metadata object of a series."""
    datasets = _gzip([instance.dataset for instance in instances])
    layouts = _gzip({**asdict(head), "layouts": [_layout(instance) for instance in instances]})
    return datasets + layouts + _TRAILER.pack(_MAGIC, len(datasets), len(layouts))


def split_metadata(raw: bytes) -> tuple[bytes, bytes]:
    """The gzip members of a metadata object: datasets, layouts.

    Raises `Invalid('metadata.damaged')`.
    """
    if len(raw) < _TRAILER.size:
        raise Invalid("metadata.damaged", "a metadata object of {size} bytes", size=len(raw))
    magic, first, second = _TRAILER.unpack_from(raw, len(raw) - _TRAILER.size)
    if magic != _MAGIC or first + second + _TRAILER.size != len(raw):
        raise Invalid("metadata.damaged", "the trailer of a metadata object is damaged")
    return raw[:first], raw[first : first + second]


def unpack_metadata(raw: bytes) -> list[InstanceMetadata]:
    """The instances that `pack_metadata` packed; raises `Invalid('metadata.damaged')`."""
    first, second = split_metadata(raw)
    try:
        datasets = json.loads(gzip.decompress(first))
        layouts = json.loads(gzip.decompress(second))["layouts"]
        return [
            InstanceMetadata(layout["uid"], dataset, _frames(layout))
            for dataset, layout in zip(datasets, layouts, strict=True)
        ]
    except _UNREADABLE as error:
        raise Invalid(
            "metadata.damaged", "a metadata object is damaged: {why}", why=str(error)
        ) from error


def read_head(raw: bytes) -> tuple[MetadataHead, list[str]]:
    """Whose metadata these are, and the SOP Instance UIDs described.

    Raises `Invalid('metadata.damaged')`.
    """
    _, second = split_metadata(raw)
    try:
        tree = json.loads(gzip.decompress(second))
        uids = [layout["uid"] for layout in tree.pop("layouts")]
        return MetadataHead(**tree), uids
    except _UNREADABLE as error:
        raise Invalid(
            "metadata.damaged", "a metadata object is damaged: {why}", why=str(error)
        ) from error


def _gzip(value: Any) -> bytes:
    words = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return gzip.compress(words.encode(), 6, mtime=0)


def _layout(instance: InstanceMetadata) -> dict[str, Any]:
    """Even single-piece frames, the native case, are kept as first offset, size and count."""
    frames = instance.frames
    if frames is None:
        return {"uid": instance.sop_instance_uid}
    if frames and all(len(frame) == 1 for frame in frames):
        first, size = frames[0][0]
        if all(frame == [(first + n * size, size)] for n, frame in enumerate(frames)):
            return {"uid": instance.sop_instance_uid, "even": [first, size, len(frames)]}
    return {"uid": instance.sop_instance_uid, "frames": frames}


def _frames(layout: dict[str, Any]) -> list[list[tuple[int, int]]] | None:
    if "even" in layout:
        first, size, count = layout["even"]
        return [[(first + n * size, size)] for n in range(count)]
    if "frames" not in layout:
        return None
    return [[(piece[0], piece[1]) for piece in frame] for frame in layout["frames"]]
