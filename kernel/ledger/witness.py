"""Heads of a stream kept outside the database, so that cutting off its end is noticed.

In the folder `ledger` of the data folder: `NAME.head` is the newest head, `NAME.heads` one line for
about each thousand entries. Every node keeps its own, whoever sealed.
"""

import os
from pathlib import Path

from kernel.ledger.domain import Head
from kernel.settings import Settings

EVERY_ENTRIES = 1000


class Witness:
    """The heads of one stream on this machine."""

    def __init__(self, settings: Settings, stream: str) -> None:
        self.folder = settings.data / "ledger"
        self._newest = self.folder / f"{stream}.head"
        self._history = self.folder / f"{stream}.heads"
        self._last: Head | None = None
        self._last_kept: int | None = None

    def heads(self) -> list[Head]:
        """What was seen, in the order of numbers; torn or strange lines are passed over."""
        found = {}
        for file in (self._history, self._newest):
            lines = file.read_text(encoding="ascii").splitlines() if file.is_file() else []
            for line in lines:
                seq, _, digest = line.partition(" ")
                if seq.isdigit() and len(digest) == 64:
                    found[int(seq)] = Head(int(seq), bytes.fromhex(digest))
        return [found[seq] for seq in sorted(found)]

    def note(self, head: Head) -> None:
        """Keep a head on stable storage; one that is older than the newest is not taken."""
        if self._last is None:
            known = self.heads()
            self._last = known[-1] if known else Head(0, b"")
            self._last_kept = known[-2].seq if len(known) > 1 else 0
        if head.seq <= self._last.seq:
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        line = f"{head.seq} {head.hash.hex()}\n".encode()
        if head.seq - (self._last_kept or 0) >= EVERY_ENTRIES:
            _write(self._history, line, os.O_APPEND)
            self._last_kept = head.seq
        fresh = self._newest.with_suffix(".new")
        _write(fresh, line, os.O_TRUNC)
        fresh.replace(self._newest)
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(folder)
        os.close(folder)
        self._last = head


def _write(file: Path, data: bytes, how: int) -> None:
    opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o600)
    try:
        os.write(opened, data)
        os.fdatasync(opened)
    finally:
        os.close(opened)
