"""Start and stop of the system as audit rows (PS3.15 A.5.3.1, Application Activity)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

import structlog

from kernel.audit.domain import AuditRecord
from kernel.audit.service import append
from kernel.db.database import Database
from kernel.errors import AppError
from kernel.scope import Actor, Scope
from kernel.settings import Settings

_SCOPE = Scope.system("activity")

log = structlog.get_logger(__name__)


async def note_activity(settings: Settings, action: str, roles: Sequence[str]) -> None:
    """Record that the processes of `roles` work now (`system.start`) or no more (`system.stop`)."""
    detail = {"roles": sorted(set(roles)), "version": version("yunying")}
    record = AuditRecord(Actor("system", "yunying"), action, "ok", detail=detail)
    try:
        database = await Database.open(settings)
        try:
            async with database.session(_SCOPE, write=True) as session:
                await append(session, record)
        finally:
            await database.close()
    except (AppError, OSError):  # the processes say by themselves that nothing works
        log.exception("activity.not_recorded", action=action)
