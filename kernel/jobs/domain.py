"""What a job is, and how it may go on."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from kernel.errors import AppError, Unavailable
from kernel.i18n.catalog import marked

State = Literal["queued", "running", "done", "failed", "cancelled"]

TRANSITIONS: Mapping[State, frozenset[State]] = {
    "queued": frozenset({"running", "cancelled"}),
    # back to queued: to be tried again, or its process stops in an orderly way
    "running": frozenset({"done", "failed", "cancelled", "queued"}),
    "done": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}

JOB_STATES: Mapping[State, str] = {
    "queued": marked("Waiting"),
    "running": marked("Running"),
    "done": marked("Done"),
    "failed": marked("Failed"),
    "cancelled": marked("Cancelled"),
}

MAX_ATTEMPTS = 5
LONGEST_PAUSE_S = 300.0


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of background work, from the request to the result.

    `done` of `total` (None: not known) counts whatever the job counts; `note` is a msgid that
    says what it does. `error_code` and `error` are set when it failed.
    """

    id: int
    kind: str
    key: str
    args: Mapping[str, Any]
    owner_id: int
    state: State
    attempts: int
    cancel_asked: bool
    done: int
    total: int | None
    note: str
    result: Mapping[str, Any]
    error_code: str
    error: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


def may_go(state: State, to: State) -> bool:
    """Whether a job in `state` may come to be in `to`."""
    return to in TRANSITIONS[state]


def is_over(state: State) -> bool:
    """Whether nothing more happens to it."""
    return not TRANSITIONS[state]


def worth_retrying(error: Exception) -> bool:
    """A refusal stays a refusal; what was unavailable or unexpected is tried again."""
    return isinstance(error, Unavailable) or not isinstance(error, AppError)


def pause_s(attempts: int) -> float:
    """Seconds until the next attempt after `attempts` failed ones: 2, 4, 8 … five minutes."""
    return min(2.0**attempts, LONGEST_PAUSE_S)
