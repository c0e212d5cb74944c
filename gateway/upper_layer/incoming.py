"""The byte stream of one association cut into PDUs and PDVs, in place (PS3.8 9.3, Annex E).

No I/O: bytes are received into ``window()`` and announced by ``received``; what was found goes to a
``Sink``. The fragments of a data set stay where they were received and are handed on as memoryviews
when its last fragment is complete, or when the buffer is full (``spill``).
"""

from __future__ import annotations

from enum import Enum
from struct import Struct
from typing import Protocol

from gateway.upper_layer.buffers import BufferPool
from gateway.upper_layer.pdu import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RQ,
    INVALID_PARAMETER,
    P_DATA_TF,
    PDU_HEADER,
    UNEXPECTED_PARAMETER,
    UNRECOGNIZED_PDU,
    PduError,
)

PDV_HEADER = Struct(">IBB")
COMMAND, LAST = 1, 2  # PS3.8 E.2: message control header
ASSOCIATE_LIMIT = 256 * 1024
COMMAND_LIMIT = 64 * 1024
PDU_TOLERANCE = 1 << 20


class Disposal(Enum):
    """What happens with the data set that follows a command set."""

    NO_DATA = "none follows: the message is complete"
    COLLECT = "it is kept until it is complete"
    DISCARD = "it is read and thrown away"
    HOLD = "not now: ask again after resume()"


class Sink(Protocol):
    """Who is told what arrived."""

    def control(self, kind: int, body: bytes) -> None:
        """A whole PDU other than P-DATA-TF, without its header."""

    def p_data(self) -> bool:
        """A P-DATA-TF begins; False means that its content is not wanted."""

    def command(self, context_id: int, command: bytes) -> Disposal:
        """A whole command set."""

    def spill(self, parts: list[memoryview]) -> None:
        """The buffer is full: the next parts of the data set; use them before returning."""

    def data(self, parts: list[memoryview]) -> None:
        """The (last) parts of a data set that is now complete; use them before returning."""


class Incoming:
    """Parser state of one connection. ``received`` raises ``PduError``; after that nothing is read.

    Bytes that must stay are at most one buffer of the pool, or a few hundred KiB of an unfinished
    A-ASSOCIATE; between messages nothing is kept.
    """

    __slots__ = (
        "_at",
        "_buffer",
        "_command",
        "_context",
        "_disposal",
        "_end",
        "_flags",
        "_in_data",
        "_pdu_left",
        "_pdv_left",
        "_pool",
        "_sink",
        "_skip",
        "_spans",
        "_stash",
        "_view",
        "broken",
        "held",
        "pdu_limit",
    )

    def __init__(self, pool: BufferPool, sink: Sink, announced_pdu_bytes: int) -> None:
        self._pool = pool
        self._sink = sink
        self.pdu_limit = max(announced_pdu_bytes, PDU_TOLERANCE) if announced_pdu_bytes else 1 << 32
        self.broken = False
        self.held: tuple[int, bytes] | None = None
        self._buffer: memoryview | None = None  # taken from the pool
        self._view: memoryview = memoryview(b"")  # taken, or only looked at
        self._stash = b""
        self._at = self._end = 0
        self._pdu_left = self._pdv_left = self._skip = 0
        self._context = self._flags = 0
        self._command = bytearray()
        self._in_data = False
        self._disposal = Disposal.NO_DATA
        self._spans: list[int] = []  # start, end, start, end … of the fragments that are kept

    def window(self) -> memoryview:
        """Where the next bytes are to be received."""
        if self._buffer is None:
            self._view = self._pool.look()
            kept = len(self._stash)
            self._view[:kept] = self._stash
            self._at, self._end = 0, kept
        return self._view[self._end :]

    def received(self, count: int) -> None:
        """``count`` bytes were received into ``window()``."""
        self._end += count
        if self.broken:
            self._end = self._at
            return
        self._parse()

    def resume(self) -> bool:
        """Go on with the command that was answered by ``HOLD`` and with what came after it.

        False means that a command is held again.
        """
        if self.held is None or self.broken:
            return True
        context, command = self.held
        self.held = None
        self._dispatch(context, command)
        self._parse()
        return self.held is None

    def close(self) -> None:
        """Forget everything and give the buffer back."""
        self.broken = True
        self._spans.clear()
        self._stash = b""
        self._release()

    def _parse(self) -> None:
        try:
            while self.held is None and not self.broken:
                if self._pdv_left:
                    more = self._fragment()
                elif self._pdu_left:
                    more = self._pdv()
                else:
                    more = self._pdu()
                if not more:
                    break
        except PduError:
            self.broken = True
            raise
        finally:
            self._settle()

    def _pdu(self) -> bool:
        """A PDU header, or the rest of what is skipped."""
        waiting = self._end - self._at
        if self._skip:
            skipped = min(self._skip, waiting)
            self._skip -= skipped
            self._at += skipped
            return not self._skip
        if waiting < 6:
            return False
        kind, _, length = PDU_HEADER.unpack_from(self._view, self._at)
        if kind == P_DATA_TF:
            if not 6 <= length <= self.pdu_limit:
                raise PduError(f"P-DATA-TF of {length} bytes", INVALID_PARAMETER)
            self._at += 6
            if self._sink.p_data():
                self._pdu_left = length
            else:
                self._skip = length
            return True
        return self._control(kind, length, waiting)

    def _control(self, kind: int, length: int, waiting: int) -> bool:
        if not ASSOCIATE_RQ <= kind <= ABORT:
            raise PduError(f"PDU type {kind:#04x}", UNRECOGNIZED_PDU)
        if kind in (ASSOCIATE_RQ, ASSOCIATE_AC):
            if length > min(ASSOCIATE_LIMIT, self._pool.size - 6):
                raise PduError(f"A-ASSOCIATE of {length} bytes", INVALID_PARAMETER)
        elif length != 4:
            raise PduError(f"PDU type {kind} of {length} bytes, 4 expected", INVALID_PARAMETER)
        if waiting < 6 + length:
            return False
        start = self._at + 6
        self._at = start + length
        self._sink.control(kind, bytes(self._view[start : self._at]))
        return True

    def _pdv(self) -> bool:
        """A PDV header (PS3.8 9.3.5.1): length, presentation context, message control header."""
        if self._pdu_left < 6:
            raise PduError("P-DATA-TF ends inside a PDV header", INVALID_PARAMETER)
        if self._end - self._at < 6:
            return False
        length, context, flags = PDV_HEADER.unpack_from(self._view, self._at)
        self._at += 6
        if length < 2 or length + 4 > self._pdu_left:
            raise PduError(f"PDV of {length} bytes in a PDU of {self._pdu_left}", INVALID_PARAMETER)
        self._pdu_left -= length + 4
        if self._in_data == bool(flags & COMMAND):
            raise PduError("command and data fragments out of order", UNEXPECTED_PARAMETER)
        if (self._in_data or self._command) and context != self._context:
            raise PduError("the presentation context changes within a message", INVALID_PARAMETER)
        self._context, self._flags, self._pdv_left = context, flags, length - 2
        return True if self._pdv_left else self._fragment_done()

    def _fragment(self) -> bool:
        """As much of the present fragment as has arrived."""
        at = self._at
        end = min(self._end, at + self._pdv_left)
        if at == end:
            return False
        if not self._in_data:
            self._command += self._view[at:end]
            if len(self._command) > COMMAND_LIMIT:
                raise PduError("command set too long", INVALID_PARAMETER)
        elif self._disposal is Disposal.COLLECT:
            spans = self._spans
            if spans and spans[-1] == at:
                spans[-1] = end
            else:
                spans.append(at)
                spans.append(end)
        self._pdv_left -= end - at
        self._at = end
        return False if self._pdv_left else self._fragment_done()

    def _fragment_done(self) -> bool:
        if not self._flags & LAST:
            return True
        if self._in_data:
            self._in_data = False
            parts = self._parts()
            self._spans.clear()
            self._sink.data(parts)
        else:
            command = bytes(self._command)
            self._command.clear()
            self._dispatch(self._context, command)
        return True

    def _dispatch(self, context: int, command: bytes) -> None:
        disposal = self._sink.command(context, command)
        if disposal is Disposal.HOLD:
            self.held = (context, command)
            return
        self._disposal = disposal
        self._in_data = disposal is not Disposal.NO_DATA

    def _parts(self) -> list[memoryview]:
        spans, view = self._spans, self._view
        return [view[spans[i] : spans[i + 1]] for i in range(0, len(spans), 2)]

    def _settle(self) -> None:
        """After parsing: keep what must stay, and only that."""
        if self.broken:
            self._spans.clear()
            self._at = self._end = 0
            self._release()
            return
        left = self._end - self._at
        if self._spans:
            self._own()
            if self._end == self._pool.size:
                self._sink.spill(self._parts())
                self._spans.clear()
                self._shift(left)
        elif left and self.held is not None:
            self._own()
            self._shift(left)
        else:
            # Nothing, an unfinished header, or an unfinished control PDU.
            self._stash = bytes(self._view[self._at : self._end]) if left else b""
            self._at = self._end = 0
            self._release()

    def _own(self) -> None:
        """Keep the buffer that was looked at."""
        if self._buffer is None:
            self._buffer = self._pool.take()
            self._stash = b""

    def _shift(self, left: int) -> None:
        """Move the bytes not yet parsed to the front of the buffer."""
        if self._at:
            self._view[:left] = bytes(self._view[self._at : self._end])
            self._at, self._end = 0, left

    def _release(self) -> None:
        if self._buffer is not None:
            self._pool.give(self._buffer)
            self._buffer = None
