"""A segment file that forgets: what was not synced is dropped or torn when the power goes."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from archive.journal.segment import Buffer, OsSegmentFile

_SECTOR = 512


@dataclass(slots=True)
class Disk:
    """All segment files of a run, and what of them would survive a power failure.

    `on_step` is called with the name of each step before it happens, in the thread it happens in.
    """

    on_step: Callable[[str], None] = lambda step: None
    files: list[ForgetfulFile] = field(default_factory=list)

    def open(self, path: Path) -> ForgetfulFile:
        """The door that a receiver opens its segments through."""
        file = ForgetfulFile(path, self)
        self.files.append(file)
        return file

    def power_failure(self, folder: Path, rng: random.Random) -> None:
        """Write the segments into `folder` as a disk might hold them after the lights went out."""
        folder.mkdir(parents=True, exist_ok=True)
        for file in self.files:
            if file.named or rng.random() < 0.5:
                (folder / file.path.name).write_bytes(file.survivor(rng))


class ForgetfulFile:
    """Writes go to a real file; the bytes that are safe are kept beside it."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self.path = path
        self.named = False
        self._disk = disk
        self._loose: list[tuple[int, bytes]] = []
        self._real = OsSegmentFile(path)
        self._safe = bytearray(path.read_bytes())  # of an earlier life, where it was a spare

    def write(self, parts: Sequence[Buffer], offset: int) -> None:
        """See `SegmentFile.write`."""
        self._disk.on_step("write")
        self._real.write(parts, offset)
        self._loose.append((offset, b"".join(bytes(part) for part in parts)))

    def datasync(self) -> None:
        """See `SegmentFile.datasync`."""
        self._disk.on_step("datasync")
        loose, self._loose = self._loose, []
        for offset, data in loose:
            _put(self._safe, offset, data)
        self._disk.on_step("synced")

    def sync_directory(self) -> None:
        """See `SegmentFile.sync_directory`."""
        self.named = True

    def close(self) -> None:
        """See `SegmentFile.close`."""
        self._real.close()

    def survivor(self, rng: random.Random) -> bytes:
        """The file after a power failure: safe bytes and, of the loose writes, any sectors."""
        data = bytearray(self._safe)
        for offset, piece in list(self._loose):
            for at in range(0, len(piece), _SECTOR * 16):
                if rng.random() < 0.5:
                    _put(data, offset + at, piece[at : at + _SECTOR * rng.randint(1, 16)])
        return bytes(data)


def _put(data: bytearray, offset: int, piece: bytes) -> None:
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(piece)] = piece


def copy_index(source: Path, target: Path) -> None:
    """The database as it stands on disk; its own syncs make that what survives."""
    target.mkdir(parents=True, exist_ok=True)
    for name in ("index.sqlite", "index.sqlite-wal"):
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
