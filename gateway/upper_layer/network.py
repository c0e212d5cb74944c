"""What all associations of one event loop share."""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.upper_layer.buffers import BufferPool


class Connection(Protocol):
    """A transport connection that is open."""

    def drop(self) -> None:
        """Close it at once, whatever is waiting to be sent."""


class Network:
    """The receive buffers and the open connections, ours and those of peers."""

    def __init__(self) -> None:
        self.pool = BufferPool()
        self.live: set[Connection] = set()

    async def close(self) -> None:
        """Drop every connection, and wait until the event loop has let go of them."""
        while self.live:
            for connection in list(self.live):
                connection.drop()
            await asyncio.sleep(0)
