"""What a rebuild found in the stores, and what it made of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from archive.scrub.domain import DamagedFile


@dataclass(slots=True)
class RebuildReport:
    """Counts of what was added to the index, and everything that could not be.

    `known` objects had a row already; `records` were met in journal segments. `objects` are damaged
    ones as (key, what is wrong): left where they are. `damaged` names the files in them, or beside
    a damaged one, that are lost. `owners` had no row and have a nameless one now.
    """

    known: int = 0
    packs: int = 0
    instances: int = 0
    versions: int = 0
    quarantined: int = 0
    metadata: int = 0
    decisions: int = 0
    records: int = 0
    deleted: int = 0
    damaged: list[DamagedFile] = field(default_factory=list)
    objects: list[tuple[str, str]] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether everything that was found could be indexed."""
        return not self.damaged and not self.objects
