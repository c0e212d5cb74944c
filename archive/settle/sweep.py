"""The sweep: objects and segments that nobody points at any more go, when their time has passed.

Only what is `dying`, or was never finished and whose lease ran out, is ever deleted; an object
without a row is never touched. A segment dies as a whole when its last record was settled; it is
left to the node that has it, which keeps some as spares for new segments.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import structlog
from sqlalchemy import delete, exists, select, update

from archive.index.tables import instance, instance_version, pack, pack_copy, quarantine, series
from archive.journal.clock import now_ms
from archive.journal.pressure import Pressure
from archive.journal.segment import sync_directory
from archive.journal.spares import recycle, spares_wanted
from archive.nodes.rows import lies, within_reach
from archive.store.service import JOURNAL, Stores
from kernel.db.database import Database
from kernel.errors import AppError
from kernel.scope import Scope
from kernel.settings import ArchiveSettings, Settings

_SCOPE = Scope.system("sweep")
_log = structlog.get_logger(__name__)
_AT_ONCE = 100
_EVERY_S = 60.0
_LOOK_S = 2.0


async def keep_sweeping(settings: Settings, database: Database, stores: Stores) -> None:
    """Sweep once a minute, and every two seconds without grace while the journal is too full.

    What is unavailable is tried again later; never returns.
    """
    pressure, limits = Pressure(settings), settings.archive
    at_once = replace(limits, segment_grace_s=0.0)
    due = time.monotonic()
    while True:
        if pressure.high or time.monotonic() >= due:
            due = time.monotonic() + _EVERY_S
            try:
                await sweep(database, stores, at_once if pressure.high else limits)
            except (AppError, OSError) as error:
                _log.warning("sweep_postponed", why=str(error))
        await asyncio.sleep(_LOOK_S)


async def sweep(database: Database, stores: Stores, limits: ArchiveSettings) -> int:
    """Let die what has no reference, delete what has been dying long enough; how many went."""
    await _let_die(database, stores.node)
    gone = await _due(database, stores.node, limits)
    for pack_id, store, key in gone:
        if store is not None and key is not None:
            await asyncio.to_thread(_remove, stores, limits, store, key)
        async with database.session(_SCOPE, write=True) as session:
            await session.execute(delete(pack_copy).where(pack_copy.c.pack_id == pack_id))
            await session.execute(delete(pack).where(pack.c.id == pack_id))
    return len(gone)


def _remove(stores: Stores, limits: ArchiveSettings, store: str, key: str) -> None:
    """Delete an object; a segment becomes a spare where one is wanted."""
    if store == JOURNAL:
        path = stores.journal.path_of(key)
        if recycle(path, limits.segment_bytes, spares_wanted(limits)):
            sync_directory(path.parent)
            return
    stores.named(store).delete(key)


async def _let_die(database: Database, node: str) -> None:
    """Mark live packs without a reference, and packs whose writer never came back."""
    now = now_ms()
    unreferenced = (
        ~exists().where(instance.c.pack_id == pack.c.id),
        ~exists().where(instance_version.c.pack_id == pack.c.id),
        ~exists().where(quarantine.c.pack_id == pack.c.id),
        ~exists().where(series.c.metadata_pack_id == pack.c.id),
    )
    idle = (
        select(pack.c.id)
        .where(
            pack.c.state == "live",
            pack.c.kind.in_(("journal", "pack")),
            ~exists().where(pack_copy.c.pack_id == pack.c.id, lies(node, elsewhere=True)),
            *unreferenced,
        )
        .limit(_AT_ONCE)
    )
    abandoned = (
        select(pack.c.id)
        .where(
            pack.c.state == "writing",
            pack.c.kind != "journal",
            pack.c.lease_ms < now,
            *unreferenced,
        )
        .limit(_AT_ONCE)
    )
    async with database.session(_SCOPE) as session:
        ids = [*(await session.scalars(idle)).all(), *(await session.scalars(abandoned)).all()]
    if not ids:
        return
    async with database.session(_SCOPE, write=True) as session:
        await session.execute(
            update(pack)
            .where(pack.c.id.in_(ids), pack.c.state != "dying", *unreferenced)
            .values(state="dying", dying_ms=now)
        )


async def _due(
    database: Database, node: str, limits: ArchiveSettings
) -> list[tuple[int, str | None, str | None]]:
    now = now_ms()
    segments_before = now - int(limits.segment_grace_s * 1000)
    packs_before = now - int(limits.dying_days * 86_400_000)
    chosen = (
        select(pack.c.id, pack_copy.c.store, pack_copy.c.key)
        .outerjoin(pack_copy, pack_copy.c.pack_id == pack.c.id)
        .where(
            pack.c.state == "dying",
            pack_copy.c.pack_id.is_(None) | within_reach(node),
            ((pack.c.kind == "journal") & (pack.c.dying_ms <= segments_before))
            | ((pack.c.kind != "journal") & (pack.c.dying_ms <= packs_before)),
        )
        .limit(_AT_ONCE)
    )
    async with database.session(_SCOPE) as session:
        return [(row[0], row[1], row[2]) for row in await session.execute(chosen)]
