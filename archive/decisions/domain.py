"""A decision about stored data, as a row and as a line of the log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from dataset.refs import InstanceRef, SeriesRef, StudyRef
from kernel.errors import Invalid

DELETE = "delete"
LOG_FORMAT = 1

Ref = StudyRef | SeriesRef | InstanceRef


@dataclass(frozen=True, slots=True)
class Decision:
    """What `actor` decided at `decided_ms`, and why.

    It is about a study, a series of it or an instance of that; the UIDs below its level are ''. A
    deletion covers what was received up to `decided_ms`. `detail` holds its ``id`` and says how it
    went: ``state`` open or closed, ``instances`` deleted, the study's ``overlay_version`` (None:
    the study went), and in ``also`` the SOP Instance UIDs of deleted versions that name another
    study or series themselves.
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
