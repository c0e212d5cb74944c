"""Old audit rows leave the table into sealed files; the chain goes on and stays verifiable."""

import asyncio
import time
from datetime import UTC, datetime

import structlog
from sqlalchemy import Double, bindparam, delete, func, select, type_coerce
from sqlalchemy.exc import SQLAlchemyError

from kernel.audit.domain import AuditRecord
from kernel.audit.sealed import STREAM
from kernel.audit.service import append
from kernel.audit.tables import audit, audit_feed
from kernel.audit.volumes import write_volume
from kernel.db.database import Database
from kernel.db.statement import Statement
from kernel.errors import AppError, Invalid
from kernel.ledger.service import find_stream, lock_stream, record_volume
from kernel.scope import Actor, Scope
from kernel.settings import Settings

FLOOR_DAYS = 183  # six months: Cybersecurity Law of the PRC, article 21 (3)
DAY_S = 86400.0
AT_ONCE = 5000  # rows of one file and of one transaction
ACTION = "system.audit.retire"

_SCOPE = Scope.system("audit retention")
# The first row that must stay: younger, or not yet seen by every reader of the stream.
_YOUNG = Statement(
    select(func.min(audit.c.seq)).where(
        audit.c.seq > bindparam("base"), type_coerce(audit.c.at, Double) >= bindparam("before")
    )
)
_FEEDS = Statement(select(func.min(audit_feed.c.seq)))

log = structlog.get_logger(__name__)


def check_days(days: int) -> int:
    """Raises Invalid `audit.keep` for a time that the law does not allow."""
    if days < FLOOR_DAYS:
        raise Invalid(
            "audit.keep", "Audit rows are kept for at least {days} days.", days=FLOOR_DAYS
        )
    return days


async def retire(settings: Settings, days: int, now: float | None = None) -> int:
    """Move rows older than `days` into sealed files; how many.

    Works as the role that owns the tables. Raises Invalid `audit.keep`, Conflict
    `audit.damaged_chain`.
    """
    before = (time.time() if now is None else now) - check_days(days) * DAY_S
    database = await Database.open(settings, "owner")
    try:
        count = 0
        while moved := await _retire_some(database, before):
            count += moved
        return count
    finally:
        await database.close()


async def keep_retiring(settings: Settings, every_s: float = 3600.0) -> None:
    """`retire` again and again, where the settings say so. Raises Invalid `audit.keep`."""
    if not settings.audit.keep_days:
        await asyncio.Event().wait()
    check_days(settings.audit.keep_days)
    while True:
        try:
            await retire(settings, settings.audit.keep_days)
        except (SQLAlchemyError, AppError, OSError):
            log.exception("audit.retention_failed")
        await asyncio.sleep(every_s)


async def _retire_some(database: Database, before: float) -> int:
    stream = await find_stream(database, STREAM)
    if stream is None:
        return 0
    young = (await database.fetch(_YOUNG, {"base": stream.base.seq, "before": before}))[0][0]
    feeds = (await database.fetch(_FEEDS, {}))[0][0]
    last = stream.head.seq if young is None else int(young) - 1
    last = min(last, stream.base.seq + AT_ONCE, stream.head.seq if feeds is None else int(feeds))
    if last <= stream.base.seq:
        return 0
    volume = await write_volume(database, stream, last)
    async with database.session(_SCOPE, write=True) as session:
        locked = await lock_stream(session, STREAM)
        if locked.base != stream.base:
            return 0
        await record_volume(session, locked, volume, datetime.now(UTC))
        await session.execute(
            delete(audit).where(audit.c.seq > stream.base.seq, audit.c.seq <= last)
        )
        detail = {"file": volume.file, "first": volume.first_seq, "last": volume.last_seq}
        record = AuditRecord(Actor("system", "retention"), ACTION, "ok", detail=detail)
        await append(session, record)
    return last - stream.base.seq
