"""What a sender hands over and what it is told: value types of the journal."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Outcome(StrEnum):
    """What became of a received instance."""

    STORED = "stored"
    AGAIN = "again"  # the SOP Instance UID is here already: kept, compared later
    QUARANTINED = "quarantined"  # bytes kept, not indexed; a failure to the sender


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an instance comes from.

    `source` is the calling AE title (DIMSE), the client's id (STOW) or a label (import);
    `owner_id` the institution that owns whatever arrives this way.
    """

    owner_id: int
    via: Literal["dimse", "stow", "import"]
    source: str
    peer: str
    called: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """What the sender announced before the data set; '' where it announced nothing."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to a sender, given only when bytes and index are durable.

    `reason` is a stable code and `detail` an English sentence, both set when quarantined.
    """

    outcome: Outcome
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    reason: str | None = None
    detail: str = ""
