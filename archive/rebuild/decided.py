"""Taking the decision log back into the index."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from sqlalchemy import select

from archive.decisions import rows
from archive.decisions.domain import DELETE, Decision
from archive.decisions.log import read_log
from archive.decisions.service import complete
from archive.index.tables import decision
from archive.rebuild.domain import RebuildReport
from archive.rebuild.owners import ensure_owners
from archive.settle.service import Settler
from archive.store.service import Stores
from kernel.db.database import Database
from kernel.scope import Scope

_SCOPE = Scope.system("rebuild")
_FIELDS = tuple(decision.c[name] for name in Decision.__slots__)


async def restore_decisions(
    database: Database, stores: Stores, settler: Settler, report: RebuildReport
) -> list[Decision]:
    """Add logged decisions without a row and carry them out; all that were ever logged.

    In a database from a backup, what was deleted after it is there once more: it goes again.
    """
    logged, damaged = await asyncio.to_thread(read_log, stores.objects)
    report.objects += [(key, "the decision log cannot be read") for key in damaged]
    report.owners += await ensure_owners(database, {one.owner_id for _, one in logged.values()})
    async with database.session(_SCOPE) as session:
        known = {rows.decision_of(row).identity for row in await session.execute(select(*_FIELDS))}
    added = []
    for identity, (key, made) in logged.items():
        if identity in known:
            continue
        async with database.session(_SCOPE, write=True) as session:
            added.append((await rows.add(session, made, key), made))
    for decision_id, made in added:
        if made.kind == DELETE:
            await complete(database, stores, settler, decision_id)
    report.decisions += len(added)
    return [made for _, made in logged.values()]


def overlays_after(decisions: Iterable[Decision]) -> dict[tuple[int, str], int]:
    """The overlay version that the last decision on each study left it with."""
    last: dict[tuple[int, str], Decision] = {}
    for made in sorted(decisions, key=lambda one: (one.decided_ms, one.detail.get("instances", 0))):
        last[made.owner_id, made.study_instance_uid] = made
    return {key: made.detail.get("overlay_version") or 0 for key, made in last.items()}
