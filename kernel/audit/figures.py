"""What an overview says of the audit: when nodes last sent, what was refused lately."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from kernel.audit.domain import AuditRecord
from kernel.audit.tables import audit
from kernel.scope import Actor, Scope

LOOK_BACK = timedelta(hours=24)


async def last_of_nodes(session: AsyncSession, since: datetime) -> Mapping[str, datetime]:
    """AE title → when it last sent something that was stored, after `since`."""
    rows = await session.execute(
        select(audit.c.actor_id, func.max(audit.c.at))
        .where(audit.c.actor_kind == "ae", audit.c.at > since)
        .where(audit.c.action == "dimse.c-store", audit.c.outcome == "ok")
        .group_by(audit.c.actor_id)
    )
    return {row[0]: row[1] for row in rows}


async def recent_refusals(
    session: AsyncSession, scope: Scope, *, limit: int = 6
) -> list[AuditRecord]:
    """The newest denials of the last 24 hours; those of no institution are for whoever sees all."""
    wanted = (
        select(audit)
        .where(audit.c.outcome == "denied", audit.c.at > datetime.now(UTC) - LOOK_BACK)
        .order_by(audit.c.id.desc())
        .limit(limit)
    )
    if scope.owners is not None:
        wanted = wanted.where(audit.c.owner_id.is_(None) | audit.c.owner_id.in_(scope.owners))
    return [
        AuditRecord(Actor(row.actor_kind, row.actor_id), row.action, row.outcome, at=row.at)
        for row in await session.execute(wanted)
    ]
