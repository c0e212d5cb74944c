"""What a scrub looked at and what it found."""

from __future__ import annotations

from dataclasses import dataclass, field

from archive.store.domain import StoredObject


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A stored file whose bytes are lost or changed, and the object that held it.

    `kind` is instance, version or quarantine; the UIDs are '' where they are unknown.
    """

    owner_id: int
    kind: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    key: str
    why: str


@dataclass(slots=True)
class ScrubReport:
    """Counts of what was read, and everything that was not as it should be.

    `objects` are damaged or missing objects as (key, what is wrong); `unknown` are objects that no
    row knows, which are never deleted; `moved` counts intact files that were copied out of damaged
    packs, `renewed` metadata objects that were written anew.
    """

    packs: int = 0
    metadata: int = 0
    segments: int = 0
    files: int = 0
    bytes: int = 0
    moved: int = 0
    renewed: int = 0
    damaged: list[DamagedFile] = field(default_factory=list)
    objects: list[tuple[str, str]] = field(default_factory=list)
    unknown: list[StoredObject] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether everything that rows know is there and intact."""
        return not self.damaged and not self.objects
