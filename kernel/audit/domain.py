"""One audit record, and which records are counted together."""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from kernel.scope import Actor

Outcome = Literal["ok", "denied", "failed"]

FOLD_S = 300

# From where the present task was asked: the guard sets it for each request, the command line for
# itself. A record that is written with its change takes it when it names no peer of its own.
ASKED_FROM: ContextVar[str] = ContextVar("kernel.audit.asked_from", default="")


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Who did what, to whose data, and how it ended.

    An empty `purpose` becomes the action itself when the row is written.
    `action` is a permission or a DIMSE service (`archive.study.read`, `dimse.c-move`). `refs` are
    the UIDs below the study. `fold` marks reads that come in crowds (frames): within five minutes
    the same actor, action, outcome, study and peer become one row with a count.
    """

    actor: Actor
    action: str
    outcome: Outcome
    owner_id: int | None = None
    study_instance_uid: str = ""
    refs: tuple[str, ...] = ()
    peer: str = ""
    purpose: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    count: int = 1
    fold: bool = False

    @property
    def fold_key(self) -> str | None:
        """What records that are counted together have in common; None when it stands alone."""
        if not self.fold:
            return None
        window = int(self.at.timestamp()) // FOLD_S
        parts = (self.actor.kind, self.actor.id, self.action, self.outcome, self.purpose)
        where = (self.study_instance_uid, self.peer, self.owner_id, window)
        return "|".join(str(part) for part in (*parts, *where))
