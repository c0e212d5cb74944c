"""Chaining audit rows into the ledger, each once and in the order of sealing.

A row waits unsealed in its table, so a crash before sealing loses nothing: number, link and head
are one transaction. Rows that still count (frames within five minutes) wait until their window is
over; what comes later becomes a row of its own.
"""

import asyncio
import time
from collections.abc import Callable

import structlog
from sqlalchemy import Double, bindparam, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from kernel.audit.domain import FOLD_S
from kernel.audit.sealed import STREAM, sealed_columns, sealed_fields
from kernel.audit.tables import audit
from kernel.db.database import Database
from kernel.db.statement import Statement
from kernel.errors import AppError
from kernel.ledger.domain import Entry, Item
from kernel.ledger.service import add, find_stream, lock_stream
from kernel.ledger.witness import Witness
from kernel.scope import Scope

LATE_S = 60.0

_SCOPE = Scope.system("audit seal")
_AT_ONCE = 200
_c = audit.c
_ready = _c.seq.is_(None) & or_(_c.fold_key.is_(None), _c.at < bindparam("settled", type_=Double))
_ANY = Statement(select(_c.id).where(_ready).limit(1))
_READY = select(*sealed_columns()).where(_ready).order_by(_c.id).limit(_AT_ONCE).with_for_update()
_NUMBER = (
    update(audit).where(_c.id == bindparam("row")).values(seq=bindparam("number"), fold_key=None)
)

log = structlog.get_logger(__name__)


async def seal(database: Database, clock: Callable[[], float] = time.time) -> int:
    """Seal every row that is ready; how many."""
    count = 0
    while await database.fetch(_ANY, {"settled": _settled(clock())}):
        count += await _seal_some(database, clock())
    return count


async def keep_sealing(database: Database, every_s: float = 1.0) -> None:
    """`seal`, and keep the head on this machine, again and again until cancelled."""
    witness = Witness(database.settings, STREAM)
    while True:
        try:
            await seal(database)
            stream = await find_stream(database, STREAM)
            if stream is not None:
                await asyncio.to_thread(witness.note, stream.head)
        except (SQLAlchemyError, AppError, OSError):
            log.exception("audit.seal_failed")
        await asyncio.sleep(every_s)


async def _seal_some(database: Database, now: float) -> int:
    async with database.session(_SCOPE, write=True) as session:
        stream = await lock_stream(session, STREAM)
        rows = (await session.execute(_READY, {"settled": _settled(now)})).all()
        items = [Item(str(row.id), sealed_fields(row)) for row in rows]
        entries = await add(session, stream, items, now)
        if entries:
            await _number(session, entries)
    return len(entries)


async def _number(session: AsyncSession, entries: list[Entry]) -> None:
    numbers = [{"row": int(one.ref), "number": one.seq} for one in entries]
    await (await session.connection()).execute(_NUMBER, numbers)


def _settled(now: float) -> float:
    """Rows that count began before this moment when their window is over."""
    return (now - LATE_S) // FOLD_S * FOLD_S
