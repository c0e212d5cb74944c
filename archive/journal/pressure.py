"""How full the journal is, and what that asks of those who fill and empty it.

Receiving writes faster than settling can follow when senders do not pause. From `journal_bytes` on,
series are settled without waiting for rest, segments go without their hour of grace, and receiving
pauses after each stretch of work for a quarter of its length, for more the fuller it gets, at most
for as long again: settling has at least a fifth of the disk's time. Receiving never stops, however
long an object store is away.
"""

from __future__ import annotations

import time
from pathlib import Path

from archive.journal.node import journal_folder
from archive.journal.spares import SEGMENT
from kernel.settings import Settings

_LOOK_EVERY_S = 0.5
_LEAST, _MOST = 0.25, 1.0  # of the time worked


class Pressure:
    """The journal's size against its limit; looked at now and then."""

    def __init__(self, settings: Settings) -> None:
        self._folder = journal_folder(settings)
        self._limit = settings.archive.journal_bytes
        self._level = 0.0
        self._looked = float("-inf")

    @property
    def level(self) -> float:
        """Bytes in segments as a share of `journal_bytes`; 1 and above is pressure."""
        now = time.monotonic()
        if now - self._looked >= _LOOK_EVERY_S:
            self._looked = now
            self._level = journal_use(self._folder) / self._limit
        return self._level

    @property
    def high(self) -> bool:
        """Whether the journal is fuller than it should be."""
        return self.level >= 1.0

    def pause_s(self, worked_s: float) -> float:
        """How long receiving pauses after `worked_s` of work."""
        if not self.high:
            return 0.0
        return worked_s * min(_MOST, _LEAST + self.level - 1.0)


def journal_use(folder: Path) -> int:
    """Bytes that the segments in `folder` take."""
    total = 0
    for path in folder.glob("*" + SEGMENT):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total
