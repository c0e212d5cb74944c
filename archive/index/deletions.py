"""What delete decisions cover, asked before stored bytes are indexed again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import select

from archive.index.tables import decision
from kernel.db.database import Database
from kernel.scope import Scope

_SCOPE = Scope.system("deletions")


@dataclass(slots=True)
class Deletions:
    """The latest delete decision on each study, series or instance, of each owner."""

    _decided: dict[tuple[int, str, str, str], int] = field(default_factory=dict)
    _also: dict[tuple[int, str], int] = field(default_factory=dict)

    def add(
        self,
        owner_id: int,
        study: str,
        series: str,
        instance: str,
        decided_ms: int,
        also: Iterable[str] = (),
    ) -> None:
        """Note a decision; `series` and `instance` are '' where it is about all of them.

        `also` are SOP Instance UIDs that it took away with versions that name another study or
        series.
        """
        key = (owner_id, study, series, instance)
        self._decided[key] = max(decided_ms, self._decided.get(key, 0))
        for uid in also:
            self._also[owner_id, uid] = max(decided_ms, self._also.get((owner_id, uid), 0))

    def cover(
        self, owner_id: int, study: str, series: str, instance: str, received_ms: int
    ) -> bool:
        """Whether what was received then was deleted later."""
        if not self._decided:
            return False
        if received_ms <= self._also.get((owner_id, instance), -1):
            return True
        return any(
            received_ms <= self._decided.get((owner_id, study, *below), -1)
            for below in (("", ""), (series, ""), (series, instance))
        )


async def load_deletions(database: Database, since_ms: int = 0) -> Deletions:
    """The delete decisions taken at `since_ms` or later."""
    chosen = select(
        decision.c.owner_id,
        decision.c.study_instance_uid,
        decision.c.series_instance_uid,
        decision.c.sop_instance_uid,
        decision.c.decided_ms,
        decision.c.detail,
    ).where(decision.c.kind == "delete", decision.c.decided_ms >= since_ms)
    found = Deletions()
    async with database.session(_SCOPE) as session:
        for row in await session.execute(chosen):
            found.add(*row[:5], also=json.loads(row[5]).get("also", ()))
    return found
