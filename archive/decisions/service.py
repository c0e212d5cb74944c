"""The decisions' desk: where a process takes decisions, with what that needs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archive.decisions import deciding
from archive.decisions.about import about
from archive.decisions.deciding import Decided
from archive.decisions.domain import PatientKey, Ref, StudyState
from archive.settle.service import Settler
from archive.store.service import Stores, open_stores
from dataset.refs import StudyRef
from kernel.db.database import Database
from kernel.scope import Scope
from kernel.settings import Settings


@dataclass(frozen=True, slots=True)
class Desk:
    """Takes decisions, and says what was decided. One per process.

    `database` is the system's, which carries decisions through; what an actor sees and writes goes
    through `people`, where that is another one.
    """

    database: Database
    stores: Stores
    settler: Settler
    people: Database | None = None

    @classmethod
    async def open(
        cls, settings: Settings, database: Database, people: Database | None = None
    ) -> Desk:
        """A desk over the stores that `settings` name."""
        stores = await asyncio.to_thread(open_stores, settings)
        return cls(database, stores, Settler(settings, database, stores), people)

    async def decide(
        self,
        scope: Scope,
        kind: str,
        ref: Ref,
        *,
        actor: str,
        reason: str,
        detail: Mapping[str, Any] | None = None,
    ) -> Decided:
        """See `deciding.decide`."""
        return await deciding.decide(
            self.database,
            self.stores,
            self.settler,
            scope,
            kind,
            ref,
            actor=actor,
            reason=reason,
            detail=detail,
            people=self.people,
        )

    async def merge(
        self,
        scope: Scope,
        patient: PatientKey,
        into: PatientKey,
        *,
        actor: str,
        reason: str,
        undo: bool = False,
    ) -> Decided:
        """See `deciding.merge`."""
        return await deciding.merge(
            self.database,
            self.stores,
            self.settler,
            scope,
            patient,
            into,
            actor=actor,
            reason=reason,
            undo=undo,
            people=self.people,
        )

    async def finish(self) -> int:
        """See `deciding.finish_decisions`."""
        return await deciding.finish_decisions(self.database, self.stores, self.settler)

    async def about(self, scope: Scope, ref: StudyRef) -> list[StudyState]:
        """What was decided about a study, one answer for each owner who has it or had it."""
        return await about(self.people or self.database, scope, ref)
