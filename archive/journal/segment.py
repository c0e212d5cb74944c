"""Segment files: opened once, appended to, synced, never truncated and never reused.

`SegmentFile` is the one door to the operating system, so that a test can put a file behind it that
forgets or tears whatever was not synced.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from archive.journal.record import seed_of
from archive.journal.spares import take

Buffer = bytes | bytearray | memoryview
_IOV_MAX = 512


class SegmentFile(Protocol):
    """An append-only file as the journal needs it. Failures are `OSError`."""

    def write(self, parts: Sequence[Buffer], offset: int) -> None:
        """Write `parts` one after the other at `offset`, all of them or raise."""

    def datasync(self) -> None:
        """Return when everything written is on stable storage (fdatasync)."""

    def sync_directory(self) -> None:
        """Return when the file's name is on stable storage."""

    def close(self) -> None:
        """Give up the file and its lock."""


class OsSegmentFile:
    """A segment on a local file system, locked for life by its writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        spare = take(path)
        self._fd = _create(path) if spare is None else spare

    def write(self, parts: Sequence[Buffer], offset: int) -> None:
        """See `SegmentFile.write`."""
        for start in range(0, len(parts), _IOV_MAX):
            offset = self._write_some(list(parts[start : start + _IOV_MAX]), offset)

    def _write_some(self, parts: list[Buffer], offset: int) -> int:
        wanted = sum(map(len, parts))
        written = os.pwritev(self._fd, parts, offset)
        end = offset + wanted
        offset += written
        while offset < end:  # a short write: drop what went, go on
            while written >= len(parts[0]):
                written -= len(parts.pop(0))
            parts[0] = memoryview(parts[0])[written:]
            written = os.pwritev(self._fd, parts, offset)
            offset += written
        return end

    def datasync(self) -> None:
        """See `SegmentFile.datasync`."""
        os.fdatasync(self._fd)

    def sync_directory(self) -> None:
        """See `SegmentFile.sync_directory`."""
        sync_directory(self._path.parent)

    def close(self) -> None:
        """See `SegmentFile.close`."""
        os.close(self._fd)


def _create(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


OpenSegment = Callable[[Path], SegmentFile]


def sync_directory(folder: Path) -> None:
    """Return when the names in `folder` are on stable storage."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def boot_id() -> str:
    """Eight characters that change with every boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()[:8]


class Segment:
    """One segment under its writer: where the next record goes and what was synced.

    `pack_id` is None until the first commit that refers to the segment has made its pack row.
    """

    replayed = False  # its records may be in the index already: not received now, but read again
    settled = False  # it is a pack, not a segment: nothing of it waits for settling

    def __init__(self, folder: Path, node_id: str, open_file: OpenSegment = OsSegmentFile) -> None:
        self.key = f"{node_id}-{boot_id()}-{os.getpid()}-{secrets.token_hex(6)}.seg"
        self.seed = seed_of(self.key)
        self.file = open_file(folder / self.key)
        self.size = 0
        self.named = False  # its directory entry is on stable storage
        self.dirty = False
        self.sealed = False  # takes no more records
        self.broken = False  # a sync failed: nothing in it may be called durable any more
        self.pack_id: int | None = None
        self.uncommitted = 0  # records that no commit has answered yet

    def append(self, parts: Sequence[Buffer]) -> int:
        """Write `parts` at the end and return their offset; a failure seals the segment."""
        offset = self.size
        length = sum(map(len, parts))
        self.put(parts, offset)
        self.size = offset + length
        return offset

    def put(self, parts: Sequence[Buffer], offset: int) -> None:
        """Write `parts` at `offset`; a failure seals the segment.

        It is dirty once the bytes are written, not before: a sync that began meanwhile in another
        thread may have missed them.
        """
        try:
            self.file.write(parts, offset)
        except OSError:
            self.sealed = True
            raise
        finally:
            self.dirty = True

    def sync(self) -> None:
        """Bring name and bytes to stable storage; a failure breaks the segment for good.

        After a failed fdatasync the kernel may have dropped the pages and calls the next one a
        success, so nothing more is ever said durable in this segment.
        """
        if self.broken:
            raise OSError("an earlier sync of this segment failed")
        self.dirty = False
        try:
            self.file.datasync()
            if not self.named:
                self.file.sync_directory()
                self.named = True
        except OSError:
            self.sealed = self.broken = True
            raise
