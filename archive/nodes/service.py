"""A node among its peers: where it listens, and the segments that it gives to them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from archive.index.tables import node, pack_copy
from archive.journal.clock import now_ms
from archive.journal.node import journal_folder, node_id
from archive.nodes.peers import PATH
from archive.nodes.secret import make_secret
from archive.store.service import JOURNAL
from kernel.db.database import Database
from kernel.db.statement import Statement
from kernel.errors import AppError
from kernel.scope import Scope
from kernel.settings import Settings

__all__ = ["PATH", "announce", "held_segment", "keep_announcing", "make_secret"]

ANNOUNCE_EVERY_S = 10.0

_SCOPE = Scope.system("nodes")
_HELD = Statement(
    select(pack_copy.c.key).where(
        pack_copy.c.pack_id == bindparam("pack_id"),
        pack_copy.c.store == JOURNAL,
        pack_copy.c.state == "good",
        pack_copy.c.node_id == bindparam("node"),
    )
)
_log = structlog.get_logger(__name__)


async def announce(settings: Settings, database: Database, address: str) -> None:
    """Tell the others that this node answers at `address` (HOST:PORT) now.

    A database that does not answer is told the next time.
    """
    try:
        await _announce(settings, database, address)
    except (AppError, SQLAlchemyError, OSError) as error:
        _log.warning("node_not_announced", why=str(error))


async def _announce(settings: Settings, database: Database, address: str) -> None:
    mine = node_id(settings)
    row = {"address": address, "seen_ms": now_ms()}
    async with database.session(_SCOPE, write=True) as session:
        known = await session.execute(update(node).where(node.c.id == mine).values(row))
        if not known.rowcount:  # type: ignore[attr-defined]
            await session.execute(insert(node).values(row | {"id": mine}))


async def keep_announcing(settings: Settings, database: Database, address: str) -> None:
    """Say every ten seconds that this node is there, until cancelled."""
    while True:
        await asyncio.sleep(ANNOUNCE_EVERY_S)
        await announce(settings, database, address)


async def held_segment(settings: Settings, database: Database, pack_id: int) -> Path | None:
    """The file of a segment that this node has in its journal; None for every other pack."""
    rows = await database.fetch(_HELD, {"pack_id": pack_id, "node": node_id(settings)})
    return journal_folder(settings) / rows[0][0] if rows else None
