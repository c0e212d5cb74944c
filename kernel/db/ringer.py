"""Telling other processes that something was committed: the sending side of a bell.

PostgreSQL: NOTIFY on one channel. SQLite: an empty datagram to every socket in `data/run/bell`,
one per listening process. A ring carries nothing and may be lost; listeners also poll.
"""

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import Protocol

import asyncpg

from kernel.settings import Settings

CHANNEL = "yunying"


class Ringer(Protocol):
    """Something that wakes the listeners; `ring` may be called from any thread."""

    def ring(self) -> None:
        """Wake every listener soon; rings close together may become one."""

    async def close(self) -> None:
        """Finish what was rung."""


def bell_folder(settings: Settings) -> Path:
    """Where listening processes keep their sockets; SQLite only."""
    return settings.data / "run" / "bell"


class DatagramRinger:
    """Rings the sockets of a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def ring(self) -> None:
        """Send one empty datagram to each socket; a dead process's socket is removed."""
        # Through /proc because a socket's path must stay below 108 bytes.
        for place in Path(f"/proc/self/fd/{self._folder}").iterdir():
            try:
                self._socket.sendto(b"", str(place))
            except (BlockingIOError, FileNotFoundError):
                continue  # its queue is full, so it wakes anyway; or it has just gone
            except ConnectionRefusedError:
                place.unlink(missing_ok=True)

    async def close(self) -> None:
        """Give the descriptors back."""
        self._socket.close()
        os.close(self._folder)


class NotifyRinger:
    """Rings by NOTIFY, one at a time: rings during a running one become one more."""

    def __init__(self, pool: "asyncpg.Pool") -> None:
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._again = False

    def ring(self) -> None:
        """Ask the loop to notify."""
        self._loop.call_soon_threadsafe(self._start)

    async def close(self) -> None:
        """Wait for the last one."""
        if self._task is not None:
            await self._task

    def _start(self) -> None:
        self._again = True
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._notify())

    async def _notify(self) -> None:
        while self._again:
            self._again = False
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self._pool.execute(f"NOTIFY {CHANNEL}")
