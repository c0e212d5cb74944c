"""Waiting until another process commits something."""

import asyncio
import contextlib
import os
import socket
import uuid
from typing import Any, Self

import asyncpg

from kernel.db.database import Database, server_settings
from kernel.db.ringer import CHANNEL, bell_folder


class Bell:
    """The listening side of `Database.ringer`: wakes on its rings, or after the given time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rung = asyncio.Event()
        self._socket: socket.socket | None = None
        self._name = ""
        self._connection: asyncpg.Connection | None = None

    @classmethod
    async def open(cls, database: Database) -> Self:
        """Listen from now on."""
        bell = cls(database)
        if database.dialect == "sqlite":
            bell._bind()
        else:
            await bell._listen()
        return bell

    def ring(self) -> None:
        """Wake every listener of the database, this one included."""
        self._database.ringer.ring()

    def wake(self) -> None:
        """Wake this listener only."""
        self._rung.set()

    async def wait(self, seconds: float) -> bool:
        """Sleep until the next ring, at most `seconds`; whether it rang.

        A ring since the last wait counts.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            await self._listen_again()
            return False
        self._rung.clear()
        return True

    async def close(self) -> None:
        """Stop listening."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            with contextlib.suppress(FileNotFoundError):
                (bell_folder(self._database.settings) / self._name).unlink()
        if self._connection is not None:
            await self._connection.close()

    def _bind(self) -> None:
        folder = bell_folder(self._database.settings)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listening.setblocking(False)
        place = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        try:
            listening.bind(f"/proc/self/fd/{place}/{self._name}")
        finally:
            os.close(place)
        asyncio.get_running_loop().add_reader(listening, self._drain, listening)
        self._socket = listening

    def _drain(self, listening: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                listening.recv(1)
                self._rung.set()

    async def _listen(self) -> None:
        self._connection = await asyncpg.connect(
            self._database.settings.database.url,
            server_settings=server_settings(self._database.role),
        )
        await self._connection.add_listener(CHANNEL, self._heard)

    def _heard(self, *_: Any) -> None:
        self._rung.set()

    async def _listen_again(self) -> None:
        if self._connection is not None and self._connection.is_closed():
            with contextlib.suppress(OSError, asyncpg.PostgresError):
                await self._listen()
