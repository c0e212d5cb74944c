"""Noting reads without delaying them: an append file per process, synced in groups.

Every file belongs to one process, which holds a lock on it for life; `kernel.audit.intake` moves
complete lines into the audit table and deletes a file that nobody holds any more.
"""

import asyncio
import fcntl
import os
import threading
import time
import uuid
from concurrent.futures import Future
from pathlib import Path
from typing import Self

import structlog

from kernel.audit.domain import AuditRecord
from kernel.audit.wire import to_line
from kernel.errors import Unavailable
from kernel.settings import Settings

SYNC_WITHIN_S = 0.1
FILE_BYTES = 8 * 1024 * 1024
FILE_S = 3600.0

_GATHER_S = 0.05
_RETRY_S = 1.0

log = structlog.get_logger(__name__)


def trail_folder(settings: Settings) -> Path:
    """Where the processes of this machine keep their audit files."""
    return settings.data / "audit"


class AuditTrail:
    """This process's audit file. `note` and `note_synced` may be called from any thread.

    When lines cannot be written, `note` raises Unavailable `audit.failed` until they can: an
    access that cannot be recorded must not happen. Nothing noted is dropped.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changed = threading.Condition()
        self._lines: list[bytes] = []
        self._waiting: list[Future[None]] = []
        self._closing = False
        self._failed = False
        self._file = -1
        self._opened_at = 0.0
        self._thread = threading.Thread(target=self._work, name="audit", daemon=True)

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Begin a new file. Raises Unavailable `audit.failed` when that is impossible."""
        trail = cls(trail_folder(settings))
        try:
            trail._begin_file()
        except OSError as error:
            raise _failed() from error
        trail._thread.start()
        return trail

    def note(self, record: AuditRecord) -> None:
        """Record an access; on stable storage within 100 ms."""
        self._add(record, None)

    async def note_synced(self, record: AuditRecord) -> None:
        """Record an access and wait until it is on stable storage: denials and break-glass."""
        done: Future[None] = Future()
        self._add(record, done)
        await asyncio.wrap_future(done)

    def check(self) -> None:
        """Raise Unavailable `audit.failed` when an access could not be recorded now."""
        if self._failed or self._closing:
            raise _failed()

    def close(self) -> None:
        """Sync what was noted and end the file; raises Unavailable when that fails."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._lines:
            raise _failed()

    def _add(self, record: AuditRecord, done: "Future[None] | None") -> None:
        line = to_line(record)
        with self._changed:
            if self._failed or self._closing:
                raise _failed()
            self._lines.append(line)
            if done is not None:
                self._waiting.append(done)
            if done is not None or len(self._lines) == 1:  # the thread gathers the others by itself
                self._changed.notify()

    def _work(self) -> None:
        while self._gather():
            with self._changed:
                lines, self._lines = self._lines, []
                waiting, self._waiting = self._waiting, []
            try:
                self._write(b"".join(lines))
            except OSError:
                log.exception("audit.write_failed")
                self._give_back(lines, waiting)
                continue
            self._failed = False
            for done in waiting:
                if done.set_running_or_notify_cancel():
                    done.set_result(None)

    def _gather(self) -> bool:
        """Wait for lines, and shortly for more of them; False when all is written and over."""
        with self._changed:
            if self._failed:
                self._changed.wait_for(lambda: self._closing, _RETRY_S)
                return not self._closing
            self._changed.wait_for(lambda: self._lines or self._closing)
            if not self._lines:
                return False
            self._changed.wait_for(lambda: self._waiting or self._closing, _GATHER_S)
        return True

    def _write(self, lines: bytes) -> None:
        too_old = time.monotonic() - self._opened_at > FILE_S
        if self._file < 0 or too_old or os.fstat(self._file).st_size > FILE_BYTES:
            self._begin_file()
        rest = memoryview(lines)
        while rest:
            rest = rest[os.write(self._file, rest) :]
        os.fdatasync(self._file)

    def _give_back(self, lines: list[bytes], waiting: "list[Future[None]]") -> None:
        """After a failure: the file is not trusted any more, its lines go to the next one too."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        with self._changed:
            self._failed = True
            self._lines[:0] = lines
        for done in waiting:
            if done.set_running_or_notify_cancel():
                done.set_exception(_failed())

    def _begin_file(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{time.time_ns():020d}-{os.getpid()}-{uuid.uuid4().hex[:8]}.log"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        fresh = os.open(self._folder / name, flags, 0o600)
        fcntl.flock(fresh, fcntl.LOCK_EX)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(folder)
        os.close(folder)
        if self._file >= 0:
            os.close(self._file)
        self._file, self._opened_at = fresh, time.monotonic()


def _failed() -> Unavailable:
    return Unavailable("audit.failed", "The access cannot be recorded, so it cannot be given.")
