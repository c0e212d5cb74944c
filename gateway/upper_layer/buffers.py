"""Receive buffers shared by all associations of one event loop.

An association holds a buffer only while bytes must stay where they were received, so an idle one
holds none. asyncio calls ``get_buffer``, ``recv_into`` and ``buffer_updated`` in one breath, which
is why an association may *look at* the next free buffer and take it only when something must stay.
The number of associations bounds the number of buffers.
"""

from __future__ import annotations

BUFFER_BYTES = 1 << 20


class BufferPool:
    """Buffers of ``size`` bytes; ``kept`` free ones are remembered, others go to the system."""

    def __init__(self, size: int = BUFFER_BYTES, kept: int = 16) -> None:
        self.size = size
        self.kept = kept
        self.taken = 0
        self._free: list[memoryview] = []

    def look(self) -> memoryview:
        """The buffer that ``take`` would give, usable until control returns to the event loop."""
        if not self._free:
            self._free.append(memoryview(bytearray(self.size)))
        return self._free[-1]

    def take(self) -> memoryview:
        """The buffer that ``look`` showed, to keep until ``give``."""
        buffer = self.look()
        self._free.pop()
        self.taken += 1
        return buffer

    def give(self, buffer: memoryview) -> None:
        """Return a taken buffer."""
        self.taken -= 1
        if len(self._free) < self.kept:
            self._free.append(buffer)
