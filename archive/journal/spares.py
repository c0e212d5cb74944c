"""Spare segments: files that were written before, to be written again from the start.

Writing over blocks that a file has is what a disk does best: no block is allocated, the file's size
stays, so fdatasync has nothing to put into the file system's own journal. Measured on ext4: a third
less for the write and the sync of two CT. Spares come from segments that were settled and whose
time has passed (`recycle`), and where there are too few of them from zeros (`prepare`).

Nothing of an earlier life is ever read as a record: headers are bound to the segment's name
(`archive.journal.record`). And nobody who still reads the earlier life is disturbed: a spare is
taken only under a write lease (fcntl F_SETLEASE), which the kernel gives while nobody else has the
file open or mapped.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import signal
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from archive.journal.node import journal_folder
from kernel.settings import ArchiveSettings, Settings

F_SETSIG = 10  # Linux; not in the fcntl module of every Python
SPARE, SEGMENT = ".spare", ".seg"
_WRITING = ".writing"
_PIECE_BYTES = 4 << 20
_QUIET_S = 1.0  # nobody sends: spares may be written
_EVERY_S = 1.0
_ROOM = 4  # times the spares must be free on the disk

_log = structlog.get_logger(__name__)


def spares_wanted(limits: ArchiveSettings) -> int:
    """How many spares are kept."""
    return limits.spare_bytes // limits.segment_bytes


def spares_in(folder: Path) -> list[Path]:
    """The spares of a journal folder."""
    return sorted(folder.glob("*" + SPARE))


def take(path: Path) -> int | None:
    """Turn a spare beside `path` into the segment `path`: its descriptor, locked for life.

    None where there is none to be had. Raises `OSError` as opening a file does. The new name is not
    on stable storage yet.
    """
    for spare in spares_in(path.parent):
        try:
            fd = os.open(spare, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:  # another process was faster
            continue
        try:
            if _claim(fd, spare):
                spare.rename(path)
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    return None


def _claim(fd: int, spare: Path) -> bool:
    """Whether the spare is ours: locked, still a spare, and read by nobody."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Who opens the file while we have the lease makes the kernel send a signal, by default one
        # that kills (fcntl(2), "Leases").
        fcntl.fcntl(fd, F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return spare.stat().st_ino == os.fstat(fd).st_ino
    except OSError:  # locked, open elsewhere, renamed, or a file system without leases
        return False


def recycle(path: Path, segment_bytes: int, most: int) -> bool:
    """Keep a segment that is no longer needed as a spare; False where it is to be deleted.

    It must be nearly as long as a whole segment and not longer, as that of a large stream is; there
    are at most `most` spares. The caller syncs the directory before it forgets the segment.
    """
    try:
        size = path.stat().st_size
        fits = segment_bytes * 3 // 4 <= size <= segment_bytes
        if not fits or len(spares_in(path.parent)) >= most:
            return False
        path.rename(_name(path.parent))
    except FileNotFoundError:
        return False
    return True


def prepare(folder: Path, segment_bytes: int, may_go_on: Callable[[], bool]) -> bool:
    """Write one spare of zeros, durable; False where `may_go_on` said no meanwhile.

    Raises `OSError` where the disk refuses.
    """
    path = _name(folder)
    aside = path.with_suffix(_WRITING)
    piece = bytes(_PIECE_BYTES)
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    try:
        left = segment_bytes
        while left > 0:
            if not may_go_on():
                aside.unlink()
                return False
            left -= os.write(fd, piece[:left])
            os.fdatasync(fd)  # by and by, so that no sync of a sender waits for all of it
        os.fsync(fd)
        aside.rename(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    return True


async def keep_spares(settings: Settings) -> None:
    """Have as many spares as the settings want, written while nobody sends; never returns."""
    folder, limits = journal_folder(settings), settings.archive
    await asyncio.to_thread(_clear, folder)
    while True:
        try:
            await asyncio.to_thread(_fill, folder, limits)
        except OSError as error:
            _log.warning("spares_not_written", why=str(error))
        await asyncio.sleep(_EVERY_S)


def _clear(folder: Path) -> None:
    """Spares that a writer did not finish go."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*" + _WRITING):
        path.unlink(missing_ok=True)


def _fill(folder: Path, limits: ArchiveSettings) -> None:
    def may_go_on() -> bool:
        return _quiet(folder)

    while len(spares_in(folder)) < spares_wanted(limits) and _has_room(folder, limits):
        if not may_go_on() or not prepare(folder, limits.segment_bytes, may_go_on):
            return


def _quiet(folder: Path) -> bool:
    """Whether no segment was written to just now."""
    newest = 0.0
    for path in folder.glob("*" + SEGMENT):
        try:
            newest = max(newest, path.stat().st_mtime)
        except FileNotFoundError:
            continue
    return time.time() - newest > _QUIET_S


def _has_room(folder: Path, limits: ArchiveSettings) -> bool:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize >= _ROOM * limits.spare_bytes


def _name(folder: Path) -> Path:
    return folder / (secrets.token_hex(8) + SPARE)
