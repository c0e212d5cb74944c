"""Audit lines of DIMSE (IHE ITI-20 in short): who sent, asked for or fetched what.

No attribute value of a data set or an identifier gets here, only UIDs, AE titles and numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import structlog

from gateway.ae.domain import Ae
from kernel.audit.domain import AuditRecord, Outcome
from kernel.errors import AppError
from kernel.scope import Actor

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Trail(Protocol):
    """Where audit lines go."""

    def note(self, record: AuditRecord) -> None:
        """Record something; raises Unavailable when that is impossible."""

    def check(self) -> None:
        """Raise Unavailable when nothing can be recorded now."""


class Auditor:
    """The audit of one association."""

    def __init__(self, trail: Trail, peer: str) -> None:
        self._trail = trail
        self._peer = peer
        self.ae = Ae("", "", 0)

    def check(self) -> None:
        """Raises Unavailable: what cannot be recorded must not happen."""
        self._trail.check()

    def association(self, *, calling: str, called: str, refused: str = "") -> None:
        """An association was opened or refused; crowds of them count as one line."""
        detail = {"called": called} | ({"why": refused} if refused else {})
        outcome: Outcome = "denied" if refused else "ok"
        record = AuditRecord(
            Actor("ae", calling),
            "dimse.associate",
            outcome,
            self.ae.owner_id,
            peer=self._peer.rpartition(":")[0],
            detail=detail,
            fold=True,
        )
        self._note(record)

    def stored(self, study_instance_uid: str, stored: int, again: int, failed: int) -> None:
        """What one association sent of one study."""
        detail = {"stored": stored, "again": again, "failed": failed}
        outcome: Outcome = "ok" if stored or again else "failed"
        self._say("dimse.c-store", outcome, study_instance_uid, detail, stored + again + failed)

    def found(self, level: str, matches: int) -> None:
        """A C-FIND was answered."""
        self._say("dimse.c-find", "ok", "", {"level": level, "matches": matches}, 1)

    def sent(
        self, verb: str, study_instance_uid: str, destination: str, completed: int, failed: int
    ) -> None:
        """What a C-MOVE or C-GET sent of one study."""
        detail = {"destination": destination, "completed": completed, "failed": failed}
        outcome: Outcome = "ok" if completed or not failed else "failed"
        number = max(1, completed + failed)
        self._say(f"dimse.c-{verb}", outcome, study_instance_uid, detail, number)

    def failed(self, action: str, why: str) -> None:
        """An operation was refused or broke off; ``why`` is a stable code."""
        self._say(action, "failed", "", {"why": why}, 1)

    def denied(self, action: str, why: str, destination: str) -> None:
        """Something was asked for that this node may not have, or not there."""
        self._say(action, "denied", "", {"why": why, "destination": destination}, 1)

    def _say(
        self,
        action: str,
        outcome: Outcome,
        study_instance_uid: str,
        detail: Mapping[str, object],
        count: int,
    ) -> None:
        record = AuditRecord(
            Actor("ae", self.ae.title),
            action,
            outcome,
            self.ae.owner_id,
            study_instance_uid,
            peer=self._peer,
            detail=detail,
            count=count,
        )
        self._note(record)

    def _note(self, record: AuditRecord) -> None:
        try:
            self._trail.note(record)
        except AppError as error:
            _log.error("audit_failed", code=error.code, action=record.action)
