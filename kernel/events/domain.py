"""What an event is, and when a failed delivery is tried again."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

MAX_ATTEMPTS = 14
LONGEST_PAUSE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; `topic` ends in its version (`study.settled.v1`).

    `seq` is its place in the one order that every reader sees. Events with the same `key` reach a
    subscriber in that order.
    """

    seq: int
    id: int
    topic: str
    key: str
    payload: Mapping[str, Any]
    owner_id: int
    created_at: datetime


Handler = Callable[[Event], Awaitable[None]]


def pause_s(attempts: int) -> float:
    """Seconds until the next attempt after `attempts` failed ones: 2, 4, 8 … one hour."""
    return min(2.0**attempts, LONGEST_PAUSE_S)
