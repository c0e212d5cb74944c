"""Who is signed in at the moment, for whoever administers them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity.accounts.tables import account
from identity.sessions.domain import Session
from identity.sessions.tables import session as table
from kernel.scope import Scope

_SHOWN = [table.c[name] for name in Session.__dataclass_fields__]


@dataclass(frozen=True, slots=True)
class Presence:
    """One live session with the name of its person."""

    session: Session
    login: str
    display_name: str
    organisation_id: int | None


async def count_live(session: AsyncSession, scope: Scope) -> int:
    """How many sessions of people within `scope`, and of one's own, have not ended."""
    wanted = _live(select(func.count()).select_from(table), scope)
    return int(await session.scalar(wanted) or 0)


async def list_live(
    session: AsyncSession,
    scope: Scope,
    *,
    text: str = "",
    before: int | None = None,
    limit: int = 50,
) -> list[Presence]:
    """Live sessions of people within `scope`, the newest first; `before` continues the list.

    `text` is part of a person's name.
    """
    chosen = select(*_SHOWN, account.c.login, account.c.display_name, account.c.organisation_id)
    wanted = _live(chosen, scope).order_by(table.c.id.desc()).limit(limit)
    if before is not None:
        wanted = wanted.where(table.c.id < before)
    if text:
        names = (account.c.login, account.c.display_name)
        wanted = wanted.where(or_(*(name.icontains(text, autoescape=True) for name in names)))
    width = len(_SHOWN)
    return [Presence(Session(*row[:width]), *row[width:]) for row in await session.execute(wanted)]


def _live(wanted: Select[Any], scope: Scope) -> Select[Any]:
    found = wanted.join(account, account.c.id == table.c.account_id).where(
        table.c.ended_at.is_(None), table.c.expires_at > time.time(), account.c.kind == "staff"
    )
    if scope.owners is not None:
        own = int(scope.actor.id) if scope.actor.kind == "session" else 0
        within = account.c.organisation_id.in_(scope.owners)
        found = found.where(or_(within, account.c.id == own))
    return found
