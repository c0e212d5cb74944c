"""Which event of PS3.15 A.5.3 (IHE ITI-20) an audit row is."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value of the DICOM controlled terminology (PS3.16 Annex D)."""

    value: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Kind:
    """An event: its ID, what was done (C R U D E, PS3.15 A.5.2.1), its type where there is one.

    `inward`: data came to us (we are the destination); None: no data moved.
    """

    event: Code
    action: str
    type: Code | None = None
    inward: bool | None = None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One sealed row, as the messages tell it."""

    id: int
    seq: int
    at: datetime
    actor_kind: str
    actor_id: str
    peer: str
    action: str
    outcome: str
    purpose: str
    owner_id: int | None
    study_instance_uid: str
    refs: tuple[str, ...]
    detail: Mapping[str, Any]
    count: int

    @property
    def why(self) -> str:
        """Why it did not succeed: a stable code or a few words; empty when it did."""
        told = self.detail.get("code") or self.detail.get("why") or self.detail.get("status")
        return "" if self.outcome == "ok" else str(told or self.outcome)


# PS3.15 A.5.1, EventOutcomeIndicator: success, minor failure (refused), serious failure.
OUTCOMES: Mapping[str, str] = {"ok": "0", "denied": "4", "failed": "8"}

_APPLICATION = Code("110100", "Application Activity")
_AUDIT_LOG = Code("110101", "Audit Log Used")
_ACCESSED = Code("110103", "DICOM Instances Accessed")
_TRANSFERRED = Code("110104", "DICOM Instances Transferred")
_DELETED = Code("110105", "DICOM Study Deleted")
_QUERY = Code("110112", "Query")
_ALERT = Code("110113", "Security Alert")
_USER = Code("110114", "User Authentication")

_NODE = Kind(_ALERT, "E", Code("110126", "Node Authentication"))
_RESTRICTED = Kind(_ALERT, "E", Code("110132", "Use of Restricted Function"))
_ATTRIBUTES = Kind(_ALERT, "E", Code("110137", "User security Attributes Changed"))
_CONFIGURATION = Kind(_ALERT, "E", Code("110129", "Security Configuration"))

# The longest beginning of the action that is here decides. PS3.15 A.5.3.x beside each.
KINDS: Mapping[str, Kind] = {
    "archive.": Kind(_ACCESSED, "U"),  # .3: corrections, holds, merges
    "archive.capability.": Kind(_ALERT, "E", Code("110135", "Object Security Attributes Changed")),
    "archive.import": Kind(_TRANSFERRED, "C", inward=True),  # .7
    "archive.pack.read": Kind(_TRANSFERRED, "R", inward=False),
    "archive.study.delete": Kind(_DELETED, "D"),  # .5
    "archive.study.original": Kind(_ACCESSED, "R"),
    "archive.study.read": Kind(_ACCESSED, "R"),
    "archive.study.reject": Kind(_DELETED, "D"),
    "archive.study.search": Kind(_QUERY, "E"),  # .10
    "archive.study.store": Kind(_TRANSFERRED, "C", inward=True),
    "dimse.associate": _NODE,  # .11
    "dimse.c-find": Kind(_QUERY, "E"),
    "dimse.c-get": Kind(_TRANSFERRED, "R", inward=False),
    "dimse.c-move": Kind(_TRANSFERRED, "R", inward=False),
    "dimse.c-store": Kind(_TRANSFERRED, "C", inward=True),
    "gateway.ae.": Kind(_ALERT, "E", Code("110128", "Network Configuration")),
    "identity.account.": _ATTRIBUTES,
    "identity.application.": _CONFIGURATION,
    "identity.break_glass.": Kind(_ALERT, "E", Code("110127", "Emergency Override Started")),
    "identity.client.": _ATTRIBUTES,
    "identity.organisation.": _CONFIGURATION,
    "identity.role.": Kind(_ALERT, "E", Code("110136", "Security Roles Changed")),
    "identity.second_factor": _ATTRIBUTES,
    "identity.sign_in": Kind(_USER, "E", Code("110122", "Login")),  # .12
    "identity.sign_out": Kind(_USER, "E", Code("110123", "Logout")),
    "identity.sso.": Kind(_USER, "E", Code("110122", "Login")),
    "system.audit.": Kind(_AUDIT_LOG, "R"),  # .2
    "system.start": Kind(_APPLICATION, "E", Code("110120", "Application Start")),  # .1
    "system.stop": Kind(_APPLICATION, "E", Code("110121", "Application Stop")),
}


def kind_of(row: AuditRow) -> Kind:
    """The event of a row. Who could not even say who they are is a security alert."""
    if row.outcome == "denied" and not row.actor_id and row.action != "identity.sign_in":
        return _NODE
    beginnings = [one for one in KINDS if row.action.startswith(one)]
    return KINDS[max(beginnings, key=len)] if beginnings else _RESTRICTED


def user_id(row: AuditRow) -> str:
    """Who did it, as one text: `session:7`, `ae:CT1`; `unknown` where nobody is known."""
    return f"{row.actor_kind}:{row.actor_id}" if row.actor_id else "unknown"
