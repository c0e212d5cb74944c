"""What a session is, and when it is over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Stage = Literal["code", "password", "full"]

# How long a sign-in may stay half done.
HALF_DONE_S = 600.0
AGENT_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in on one device; `agent` is what the browser calls itself."""

    id: int
    account_id: int
    stage: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    peer: str
    agent: str


def is_over(expires_at: float, seen_at: float, now: float, idle_s: float) -> bool:
    """Whether a session is over by age or by idleness; all in seconds since 1970."""
    return now >= expires_at or now - seen_at >= idle_s
