"""The face between the upper layer and who uses it (PS3.8 section 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gateway.upper_layer.incoming import Disposal
from gateway.upper_layer.pdu import Associate, Rejection


@dataclass(frozen=True, slots=True)
class Limits:
    """Timers and sizes of one side. ``idle_s`` 0 means no idle timer."""

    max_pdu_bytes: int = 256 * 1024
    artim_s: float = 30.0
    idle_s: float = 60.0


class ConnectionLost(Exception):
    """The peer is gone or the association has ended."""


class ServiceUser(Protocol):
    """Who is told about the association (PS3.8 section 7)."""

    def associate_indication(self, request: Associate) -> None:
        """Acceptor: the peer asks; answer by ``accept`` or ``reject``, now or later."""

    def associate_confirmed(self, answer: Associate | Rejection) -> None:
        """Requestor: the peer's answer."""

    def release_indication(self) -> bool:
        """The peer wants to release: True answers at once, False waits for ``release_response``."""

    def command(self, context_id: int, command: bytes) -> Disposal:
        """A whole command set; only in Sta6 or Sta7."""

    def spill(self, parts: list[memoryview]) -> None:
        """Parts of a data set that does not fit in a buffer."""

    def data(self, parts: list[memoryview]) -> None:
        """The (last) parts of a complete data set."""

    def busy(self) -> bool:
        """Whether an operation of ours is going on, so that silence of the peer is no fault."""

    def ended(self, why: str) -> None:
        """Nothing can be sent or received any more. Called once."""
