"""Who acts, and whose data they may touch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

# The purpose of access that was opened in an emergency: its audit line is synced first.
EMERGENCY = "emergency"

# An index is tried once for each of so many owners; with more of them rows are found by what was
# asked for, and their owners looked up.
WIDE = 32

# Kinds of data for which a person is named only to those who may see that kind.
SENSITIVE_KINDS = ("vip", "mental_health", "hiv")

ActorKind = Literal["session", "client", "capability", "citizen", "ae", "system"]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something: a person of the staff, an API client, a share token, a resident, a DICOM
    node, the system."""

    kind: ActorKind
    id: str


@dataclass(frozen=True, slots=True)
class Sight:
    """Where persons are named: the owners in general, and for each sensitive kind of data."""

    named: frozenset[int]
    sensitive: Mapping[str, frozenset[int]]


@dataclass(frozen=True, slots=True)
class Scope:
    """The owners (institutions) whose data one actor may touch for one purpose.

    `owners` holds `owner.id` numbers; None means every owner and is for system work only. `home`
    is the institution that the actor works for: what it stores belongs there. `sight` says where
    persons are named; None names them everywhere and is for system work.
    """

    owners: frozenset[int] | None
    actor: Actor
    purpose: str
    home: int | None = None
    sight: Sight | None = field(default=None, compare=False)

    @property
    def is_wide(self) -> bool:
        """Whether the owners are too many to look each of them up in an index."""
        return self.owners is not None and len(self.owners) > WIDE

    def covers(self, owner_id: int) -> bool:
        """Whether data of `owner_id` are within this scope."""
        return self.owners is None or owner_id in self.owners

    def hides(self, owner_id: int, sensitivity: str = "") -> bool:
        """Whether data of an owner must name nobody; `sensitivity` are kinds joined by commas."""
        if self.sight is None:
            return False
        if owner_id not in self.sight.named:
            return True
        kinds = sensitivity.split(",") if sensitivity else ()
        return any(owner_id not in self.sight.sensitive.get(kind, ()) for kind in kinds)

    def within(self, other: "Scope") -> "Scope":
        """This scope without the owners that `other` does not cover."""
        if other.owners is None:
            return self
        owners = other.owners if self.owners is None else self.owners & other.owners
        return replace(self, owners=owners)

    @classmethod
    def system(cls, purpose: str) -> "Scope":
        """Every owner, for work that the system does by itself."""
        return cls(owners=None, actor=Actor("system", purpose), purpose=purpose)
