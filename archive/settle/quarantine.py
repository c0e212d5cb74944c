"""Settling the quarantine: what could not be indexed leaves the journal too, so that segments go.

A quarantine pack holds the records of one owner, of no series; each entry keeps the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog
from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncSession

from archive.index.tables import pack, pack_copy, quarantine
from archive.journal.clock import now_ms
from archive.nodes.rows import within_reach
from archive.settle import rows
from archive.settle.build import Source, build_pack
from archive.store.service import Stores, new_key
from kernel.db.database import Database
from kernel.scope import Scope

QUIET_MS = 60_000
RECORDS_AT_ONCE = 200

_SCOPE = Scope.system("settle")
_log = structlog.get_logger(__name__)


async def settle_quarantine(
    database: Database, stores: Stores, damaged: set[int], *, quiet_ms: int = QUIET_MS
) -> int:
    """Move one owner's records that are older than `quiet_ms` into a pack; returns how many moved.

    A record whose bytes do not fit their checksum stays in the journal; its row id is added to
    `damaged` and is not tried again.
    """
    async with database.session(_SCOPE) as session:
        owner_id, sources = await _waiting(session, stores.node, now_ms() - quiet_ms, damaged)
    if not sources:
        return 0
    created, key = now_ms(), new_key("packs", ".dcmpack")
    place = (stores.objects.name, key)
    async with database.session(_SCOPE, write=True) as session:
        pack_id = await rows.begin_pack(session, "pack", owner_id, None, place, created)
    built = await asyncio.to_thread(build_pack, stores, key, owner_id, created, sources)
    for source, why in built.damaged:
        _log.error("stored_bytes_damaged", quarantine_id=source.row_id, why=why)
        damaged.add(source.row_id)
    async with database.session(_SCOPE, write=True) as session:
        await rows.finish_pack(session, pack_id, built.size, built.sha256)
        await rows.switch(session, built.placed, pack_id)
        if not built.placed:
            await rows.kill_pack(session, pack_id, now_ms())
    return len(built.placed)


async def _waiting(
    session: AsyncSession, node: str, before_ms: int, damaged: set[int]
) -> tuple[int, list[Source]]:
    """The oldest record that waits on `node`, with others of its owner."""
    chosen = (
        select(
            quarantine.c.id,
            quarantine.c.pack_id,
            pack_copy.c.store,
            pack_copy.c.key,
            quarantine.c.byte_offset,
            quarantine.c.byte_length,
            quarantine.c.sop_instance_uid,
            quarantine.c.sop_class_uid,
            quarantine.c.transfer_syntax_uid,
            quarantine.c.received_ms,
            quarantine.c.reason,
            quarantine.c.detail,
            quarantine.c.owner_id,
        )
        .join(pack, pack.c.id == quarantine.c.pack_id)
        .join(pack_copy, and_(pack_copy.c.pack_id == pack.c.id, pack_copy.c.state == "good"))
        .where(
            pack.c.kind == "journal",
            within_reach(node),
            quarantine.c.received_ms < before_ms,
            quarantine.c.id.not_in(sorted(damaged)),
        )
        .order_by(quarantine.c.owner_id, quarantine.c.id)
        .limit(RECORDS_AT_ONCE)
    )
    found = (await session.execute(chosen)).all()
    owner_id = found[0][-1] if found else 0
    return owner_id, [_source(row) for row in found if row[-1] == owner_id]


def _source(row: Sequence[Any]) -> Source:
    row_id, pack_id, store, key, offset, length, uid, class_uid, syntax, received, *words = row
    return Source(
        row_id=row_id,
        kind="quarantine",
        pack_id=pack_id,
        store=store,
        key=key,
        byte_offset=offset,
        byte_length=length,
        study_instance_uid="",
        series_instance_uid="",
        sop_instance_uid=uid,
        sop_class_uid=class_uid,
        transfer_syntax_uid=syntax,
        received_ms=received,
        reason=words[0],
        detail=words[1],
    )
