"""What happens to a data set that comes under a SOP Instance UID that is there already.

A table: what the sender's policy says, by how the data set differs from the first one. Both are
kept whenever they are not equal. Shown is the first, or the later one where it names the same
study and series. A person hears of another identity and of other pixels, and of what cannot be
compared; another header is kept silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Relation = Literal["equal", "reencoded", "header", "identity", "pixels", "unreadable"]
SameUid = Literal["first", "last", "last_same_patient"]
POLICIES: tuple[SameUid, ...] = get_args(SameUid)

# Who and what it is about (PS3.3 C.7.1.1, C.7.2.1, C.12.1): a difference here is no new version of
# the same thing.
IDENTITY_TAGS = (
    0x00080016,
    0x00100010,
    0x00100020,
    0x00100021,
    0x00100030,
    0x00100040,
    0x0020000D,
    0x0020000E,
)


@dataclass(frozen=True, slots=True)
class Action:
    """Whether the later data set is kept, and shown, and whether a person is told."""

    kept: bool = True
    later: bool = False
    told: bool = False


_SILENT, _TOLD = Action(), Action(told=True)
_LATER, _LATER_TOLD = Action(later=True), Action(later=True, told=True)
_GONE = Action(kept=False)

ACTIONS: Mapping[tuple[SameUid, Relation], Action] = {
    ("first", "equal"): _GONE,
    ("first", "reencoded"): _SILENT,
    ("first", "header"): _SILENT,
    ("first", "identity"): _TOLD,
    ("first", "pixels"): _TOLD,
    ("first", "unreadable"): _TOLD,
    ("last", "equal"): _GONE,
    ("last", "reencoded"): _SILENT,
    ("last", "header"): _LATER,
    ("last", "identity"): _LATER_TOLD,
    ("last", "pixels"): _LATER_TOLD,
    ("last", "unreadable"): _TOLD,
    ("last_same_patient", "equal"): _GONE,
    ("last_same_patient", "reencoded"): _SILENT,
    ("last_same_patient", "header"): _LATER,
    ("last_same_patient", "identity"): _TOLD,
    ("last_same_patient", "pixels"): _LATER_TOLD,
    ("last_same_patient", "unreadable"): _TOLD,
}
