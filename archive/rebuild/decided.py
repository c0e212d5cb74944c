"""Taking the decision log back into the index."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select

from archive.decisions import rows
from archive.decisions.deciding import complete
from archive.decisions.domain import DELETE, MERGE, UNMERGE, Decision
from archive.decisions.log import read_log
from archive.decisions.merges import set_merges
from archive.decisions.merging import renew_studies
from archive.decisions.renewal import renew, renew_patient
from archive.decisions.showing import show
from archive.index.tables import decision, study
from archive.rebuild.domain import RebuildReport
from archive.rebuild.owners import ensure_owners
from archive.settle.service import Settler
from archive.store.service import Stores
from kernel.db.database import Database
from kernel.scope import Scope

_SCOPE = Scope.system("rebuild")
_FIELDS = tuple(decision.c[name] for name in Decision.__slots__)


@dataclass(frozen=True, slots=True)
class Restored:
    """All decisions that were ever logged, in their order, and those that had no row."""

    every: list[Decision]
    added: list[Decision]


async def restore_decisions(
    database: Database, stores: Stores, settler: Settler, report: RebuildReport
) -> Restored:
    """Add logged decisions without a row; deletions are carried out, merges hold for what comes.

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
    every = sorted((made for _, made in logged.values()), key=_order)
    async with database.session(_SCOPE, write=True) as session:
        await set_merges(session, every)
    report.decisions += len(added)
    return Restored(every, [made for _, made in added])


async def restore_overlays(
    database: Database, stores: Stores, before: int, restored: Restored
) -> None:
    """Show studies as their decisions say; `before` is the newest study that was there already.

    One of those changes only where a decision about it was not known.
    """
    told = {(one.owner_id, one.study_instance_uid) for one in restored.added}
    for owner_id, uid in sorted(
        {(one.owner_id, one.study_instance_uid) for one in restored.every if one.kind != DELETE}
    ):
        async with database.session(_SCOPE, write=True) as session:
            chosen = select(study.c.id).where(
                study.c.owner_id == owner_id, study.c.study_instance_uid == uid
            )
            study_id = await session.scalar(chosen)
            if study_id is None or (study_id <= before and (owner_id, uid) not in told):
                continue
            await show(session, study_id, await rows.overlay_of(session, owner_id, uid))
        await renew(database, stores, Decision(owner_id, "", "", "", uid, "", "", {}, 0))
    if before:
        for made in restored.added:
            if made.kind in (MERGE, UNMERGE):
                await renew_studies(database, stores, made)
    async with database.session(_SCOPE) as session:
        shown = select(study.c.owner_id, study.c.patient_fk).where(
            study.c.corrected == 1, study.c.id > before
        )
        patients = {(row[0], row[1]) for row in await session.execute(shown)}
    for owner_id, patient_id in sorted(patients):
        await renew_patient(database, stores, owner_id, patient_id)


def overlays_after(decisions: Iterable[Decision]) -> dict[tuple[int, str], int]:
    """The overlay version that the decisions, in their order, left each study with."""
    found: dict[tuple[int, str], int] = {}
    for made in decisions:
        if made.kind in (MERGE, UNMERGE):
            versions: dict[str, int | None] = made.detail.get("overlays", {})
        else:
            versions = {made.study_instance_uid: made.detail.get("overlay_version")}
        for uid, version in versions.items():
            key = (made.owner_id, uid)
            found[key] = 0 if version is None else max(version, found.get(key, 0))
    return found


def _order(made: Decision) -> tuple[int, str]:
    return made.decided_ms, str(made.detail.get("id", ""))
