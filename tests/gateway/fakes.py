"""Parts of the archive and the directory that fail in the ways real ones may."""

from __future__ import annotations

import asyncio

from archive.journal.domain import Identity, Origin, Outcome, Receipt
from gateway.ae.domain import Ae
from kernel.audit.domain import AuditRecord
from kernel.errors import Unavailable

FULL = Unavailable("storage.full", "the journal's disk is full")


class FailingReceiver:
    """Fails as told: ``now`` from the call itself, ``later`` through the Future, or not at all."""

    def __init__(self) -> None:
        self.now: Exception | None = None
        self.later: BaseException | None = None
        self.stream_after = 1 << 40  # bytes that a stream takes before it fails
        self.stored: list[bytes] = []
        self.aborted = 0
        self.hold: asyncio.Event | None = None

    def append(
        self, origin: Origin, identity: Identity, parts: list[memoryview]
    ) -> asyncio.Future[Receipt]:
        if self.now is not None:
            raise self.now
        return self._settle(identity, b"".join(parts))

    def open_stream(self, origin: Origin, identity: Identity) -> FailingStream:
        if self.now is not None:
            raise self.now
        return FailingStream(self, identity)

    def _settle(self, identity: Identity, data: bytes) -> asyncio.Future[Receipt]:
        async def settle() -> Receipt:
            if self.hold is not None:
                await self.hold.wait()
            if self.later is not None:
                raise self.later
            self.stored.append(data)
            return Receipt(
                Outcome.STORED, "1.2", "1.3", identity.sop_instance_uid, identity.sop_class_uid
            )

        return asyncio.ensure_future(settle())


class FailingStream:
    """A stream of a FailingReceiver."""

    def __init__(self, receiver: FailingReceiver, identity: Identity) -> None:
        self._receiver = receiver
        self._identity = identity
        self._data = bytearray()

    def write(self, part: memoryview) -> None:
        self._data += part
        if len(self._data) > self._receiver.stream_after:
            raise FULL

    def finish(self) -> asyncio.Future[Receipt]:
        return self._receiver._settle(self._identity, bytes(self._data))

    def abort(self) -> None:
        self._receiver.aborted += 1


class FailingDirectory:
    """Finds no AE, or fails."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    async def find(self, title: str) -> Ae | None:
        if self.error is not None:
            raise self.error
        return None


class Trail:
    """An audit trail that keeps its lines, or fails."""

    def __init__(self) -> None:
        self.lines: list[AuditRecord] = []
        self.error: Unavailable | None = None

    def note(self, record: AuditRecord) -> None:
        self.check()
        self.lines.append(record)

    def check(self) -> None:
        if self.error is not None:
            raise self.error
