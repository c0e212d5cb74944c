"""The transport of an association: writing with back-pressure, and the timers (PS3.8 9.1.5)."""

from __future__ import annotations

import asyncio
from typing import cast

from gateway.upper_layer.network import Network
from gateway.upper_layer.service_user import Limits

WRITE_HIGH_BYTES = 512 * 1024


class Connection(asyncio.BufferedProtocol):
    """What an association stands on. Subclasses say what happens when a timer is due."""

    __slots__ = (
        "_artim",
        "_drained",
        "_idle",
        "_last_heard",
        "_limits",
        "_loop",
        "_network",
        "_transport",
        "peer",
    )

    def __init__(self, network: Network, limits: Limits) -> None:
        self._loop = asyncio.get_running_loop()
        self._network = network
        self._limits = limits
        self._transport: asyncio.Transport | None = None
        self._artim: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None
        self._last_heard = self._loop.time()
        self.peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport connection is open; asyncio has set TCP_NODELAY."""
        self._network.live.add(self)
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        name = transport.get_extra_info("peername")
        self.peer = f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name or "")

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport connection is gone."""
        self._network.live.discard(self)
        self._transport = None

    def pause_writing(self) -> None:
        """The peer reads slower than we write."""
        if self._drained is None:
            self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        """The peer took what was waiting."""
        self._last_heard = self._loop.time()
        self._wake()

    def drop(self) -> None:
        """Close the connection at once, whatever is waiting to be sent."""
        if self._transport is not None:
            self._transport.abort()

    def _write(self, pdu: bytes) -> None:
        if self._transport is not None:
            self._transport.write(pdu)

    def _wake(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def _start_artim(self) -> None:
        self._stop_artim()
        self._artim = self._loop.call_later(self._limits.artim_s, self._artim_expired)

    def _stop_artim(self) -> None:
        if self._artim is not None:
            self._artim.cancel()
            self._artim = None

    def _artim_expired(self) -> None:
        raise NotImplementedError

    def _watch_idle(self) -> None:
        if self._limits.idle_s:
            due = self._last_heard + self._limits.idle_s
            self._idle = self._loop.call_at(due, self._idle_due)

    def _stop_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _idle_due(self) -> None:
        raise NotImplementedError
