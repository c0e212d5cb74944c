"""A segment between its writer and the thread that syncs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from archive.journal.segment import Buffer, OsSegmentFile, Segment


def test_bytes_written_while_a_sync_runs_are_synced_by_the_next(tmp_path: Path) -> None:
    segment: Segment

    class SyncedMeanwhile(OsSegmentFile):
        def write(self, parts: Sequence[Buffer], offset: int) -> None:
            segment.sync()  # the other thread is faster than this write
            super().write(parts, offset)

    segment = Segment(tmp_path, "node", SyncedMeanwhile)
    segment.append([b"record"])
    written, _ = segment.dirty, segment.sync()
    assert (written, segment.dirty) == (True, False)
    segment.file.close()
