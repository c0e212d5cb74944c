"""A decision about stored data, as a row and as a line of the log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from dataset.refs import InstanceRef, SeriesRef, StudyRef
from kernel.errors import Invalid
from kernel.i18n.catalog import marked

DELETE = "delete"
CORRECT = "correct"
REJECT, RESTORE = "reject", "restore"
HOLD, RELEASE = "hold", "release"
CHOOSE = "choose"
CLASSIFY = "classify"
MERGE, UNMERGE = "merge", "unmerge"
LOG_FORMAT = 1

# IHE IOCM, DICOM PS3.16 CID 7011: why an object is rejected.
REJECTION_CODES = {
    "113001": marked("Rejected for Quality Reasons"),
    "113037": marked("Rejected for Patient Safety Reasons"),
    "113038": marked("Incorrect Modality Worklist Entry"),
    "113039": marked("Data Retention Policy Expired"),
}

Ref = StudyRef | SeriesRef | InstanceRef


@dataclass(frozen=True, slots=True)
class Decision:
    """What `actor` decided at `decided_ms`, and why.

    It is about a study, a series of it or an instance of that; the UIDs below its level are ''. One
    about a patient (merge, unmerge) names no study. `detail` holds its ``id`` and how far it got
    (``state`` open or closed, the study's ``overlay_version`` afterwards), and by kind:

    delete    covers what was received up to `decided_ms`: ``instances`` deleted, ``gone`` true
              where the study went with them, ``series`` that went, and in ``also`` the SOP Instance
              UIDs of deleted versions that name another study or series themselves
    correct   ``attributes`` by tag in DICOM JSON; null gives an attribute back as it was received
    reject    ``code``, one of `REJECTION_CODES`
    classify  ``kinds`` of `kernel.scope.SENSITIVE_KINDS` that the study is of from now on
    choose    ``version`` shown from now on, [received_ms, bytes]; null is the first one
    merge     ``patient`` and ``into``, each [Patient ID, issuer], and the ``attributes`` that all
    unmerge   studies of the patient show; ``overlays``: the versions of these studies afterwards
    """

    owner_id: int
    kind: str
    actor: str
    reason: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    detail: dict[str, Any]
    decided_ms: int

    @property
    def closed(self) -> bool:
        """Whether everything that follows from it was done."""
        return self.detail.get("state") == "closed"

    @property
    def identity(self) -> tuple[int, str]:
        """What tells it from every other decision, however often it was logged."""
        return self.owner_id, str(self.detail.get("id", ""))


class PatientKey(NamedTuple):
    """A patient of one owner: Patient ID (0010,0020) and its issuer (0010,0021)."""

    patient_id: str
    issuer: str = ""


@dataclass(frozen=True, slots=True)
class KeptVersion:
    """A data set that came under the UID of an instance that was there; `relation` tells how it
    differs from the first one, '' until it was compared.
    """

    series_instance_uid: str
    sop_instance_uid: str
    relation: str
    source: str
    received_ms: int
    byte_length: int
    chosen: bool


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Instances of a study that do not agree, as `archive.index.mismatch` names it."""

    kind: str
    series_instance_uid: str
    sop_instance_uid: str
    stored: str
    received: str


@dataclass(frozen=True, slots=True)
class StudyState:
    """A study of one owner; `present` is false where all of it was deleted.

    `own_patient_id` is the Patient ID that the study itself names, where it is shown under another.
    Corrections (attributes in DICOM JSON) and rejections stand by series and SOP Instance UID, ''
    and '' for the whole study.
    """

    owner_id: int
    present: bool
    held: Decision | None
    corrections: dict[tuple[str, str], dict[str, Any]]
    rejected: dict[tuple[str, str], Decision]
    decisions: list[Decision]
    versions: list[KeptVersion]
    contradictions: list[Contradiction]
    own_patient_id: str


def uids_of(ref: Ref) -> tuple[str, str, str]:
    """Study, series and SOP Instance UID of what `ref` names, '' below its level."""
    if isinstance(ref, InstanceRef):
        return ref.study_instance_uid, ref.series_instance_uid, ref.sop_instance_uid
    if isinstance(ref, SeriesRef):
        return ref.study_instance_uid, ref.series_instance_uid, ""
    return ref.study_instance_uid, "", ""


def to_line(decision: Decision) -> str:
    """The decision as one line of JSON, with the format's version."""
    fields = {name: getattr(decision, name) for name in Decision.__slots__}
    return json.dumps({"format": LOG_FORMAT, **fields}, ensure_ascii=False)


def from_line(line: str) -> Decision:
    """What `to_line` wrote; raises `Invalid('decision.log')`."""
    try:
        fields = json.loads(line)
        if fields.pop("format") != LOG_FORMAT:
            raise Invalid("decision.log", "a line of the decision log has an unknown format")
        return Decision(**fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Invalid("decision.log", "a line of the decision log cannot be read") from error
