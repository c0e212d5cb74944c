"""A stored instance as the ones who serve it see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from archive.index.shown import masked


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """What an instance is and where its Part 10 file lies.

    `byte_offset` and `byte_length` are in bytes within the pack; `frames` counts from 1 and is 1
    for an object without frames; `rows` and `columns` are None where it has no pixels. `version_id`
    tells of another version than the first. `overlay_version` goes up with every decision about its
    study; where `corrected`, elements may go out changed, so that the length is another one. Where
    `masked`, who asked may see pixels and what names nobody, not the file.
    """

    id: int
    owner_id: int
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    instance_number: int | None
    frames: int
    rows: int | None
    columns: int | None
    pack_id: int
    byte_offset: int
    byte_length: int
    version_id: int | None = None
    overlay_version: int = 0
    corrected: int = 0
    sensitivity: str = ""
    masked: bool = False

    @property
    def etag(self) -> str:
        """Changes whenever what is served of it does."""
        version = f"-{self.version_id}" if self.version_id else ""
        version += "-masked" if self.masked else ""
        return f"{self.id}-{self.byte_length}-{self.overlay_version}{version}"

    @property
    def as_received(self) -> StoredInstance:
        """The same without corrections: the stored bytes."""
        return replace(self, corrected=0)


def check_named(instances: Iterable[StoredInstance]) -> None:
    """Raise `Denied('study.masked')` where files would name somebody the asker may not know."""
    if any(one.masked for one in instances):
        raise masked()


@dataclass(frozen=True, slots=True)
class SeriesMetadata:
    """The metadata of a series as DICOM JSON (PS3.18 F).

    `gzip` is the compressed JSON array as it lies in the store, None while the series is not
    settled; `datasets()` gives the same as objects, in the order of the instances. `etag` changes
    whenever either does.
    """

    gzip: bytes | None
    datasets: Callable[[], list[dict[str, Any]]]
    etag: str


@dataclass(frozen=True, slots=True)
class FrameLayout:
    """Where the frames of an instance lie: per frame its pieces as (offset, length) in bytes from
    the start of the Part 10 file."""

    frames: list[list[tuple[int, int]]]
