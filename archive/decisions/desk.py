"""The decisions' desk: where a process takes decisions, with what that needs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archive.decisions import service
from archive.decisions.about import StudyState, about
from archive.decisions.domain import Ref
from archive.decisions.merges import PatientKey
from archive.decisions.service import Decided
from archive.settle.service import Settler
from archive.store.service import Stores, open_stores
from dataset.refs import StudyRef
from kernel.db.database import Database
from kernel.scope import Scope
from kernel.settings import Settings


@dataclass(frozen=True, slots=True)
class Desk:
    """Takes decisions, and says what was decided. One per process."""

    database: Database
    stores: Stores
    settler: Settler

    @classmethod
    async def open(cls, settings: Settings, database: Database) -> Desk:
        """A desk over the stores that `settings` name."""
        stores = await asyncio.to_thread(open_stores, settings)
        return cls(database, stores, Settler(settings, database, stores))

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
        """See `service.decide`."""
        return await service.decide(
            self.database,
            self.stores,
            self.settler,
            scope,
            kind,
            ref,
            actor=actor,
            reason=reason,
            detail=detail,
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
        """See `service.merge`."""
        return await service.merge(
            self.database,
            self.stores,
            self.settler,
            scope,
            patient,
            into,
            actor=actor,
            reason=reason,
            undo=undo,
        )

    async def about(self, scope: Scope, ref: StudyRef) -> list[StudyState]:
        """What was decided about a study, one answer for each owner who has it or had it."""
        return await about(self.database, scope, ref)
