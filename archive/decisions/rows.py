"""Decision rows, and transactions that are tried again where others changed the same rows."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from sqlalchemy import Row, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from archive.decisions.domain import Decision
from archive.decisions.overlay import Overlay, fold
from archive.index.tables import decision
from kernel.db.database import Database
from kernel.scope import Actor, Scope

_TRIES = 5
_CONTENDED = frozenset({"40001", "40P01"})  # serialization failure, deadlock
_FIELDS = tuple(decision.c[name] for name in Decision.__slots__)

Answer = TypeVar("Answer")


def owner_scope(owner_id: int, purpose: str) -> Scope:
    """The system at work for one owner."""
    return Scope(frozenset({owner_id}), Actor("system", ""), purpose)


async def attempt(
    database: Database, scope: Scope, work: Callable[[AsyncSession], Awaitable[Answer]]
) -> Answer:
    """The answer of `work` in one transaction.

    It is tried again where a committer added a row below one that was to go, or waited for us
    while we waited for it.
    """
    for left in reversed(range(_TRIES)):
        try:
            async with database.session(scope, write=True) as session:
                return await work(session)
        except DBAPIError as error:
            if not left or not _contended(error):
                raise
    raise AssertionError("unreachable")


def _contended(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    return isinstance(error, IntegrityError) or state in _CONTENDED


async def add(session: AsyncSession, made: Decision, log_key: str | None = None) -> int:
    """Insert a decision; its row id."""
    row = {name: getattr(made, name) for name in Decision.__slots__}
    row |= {"detail": dumps(made.detail), "log_key": log_key}
    return int(await session.scalar(insert(decision).values(row).returning(decision.c.id)) or 0)


async def load(session: AsyncSession, decision_id: int, *, lock: bool = False) -> Decision:
    """One decision."""
    chosen = select(*_FIELDS).where(decision.c.id == decision_id)
    if lock:
        chosen = chosen.with_for_update()
    return decision_of((await session.execute(chosen)).one())


async def of_study(session: AsyncSession, owner_id: int, study_uid: str) -> list[Decision]:
    """The decisions about a study in the order of deciding; '': those about patients."""
    chosen = (
        select(*_FIELDS)
        .where(decision.c.owner_id == owner_id, decision.c.study_instance_uid == study_uid)
        .order_by(decision.c.decided_ms, decision.c.id)
    )
    return [decision_of(row) for row in await session.execute(chosen)]


async def overlay_of(session: AsyncSession, owner_id: int, study_uid: str) -> Overlay:
    """What the decisions about a study add up to."""
    return fold(await of_study(session, owner_id, study_uid))


async def unlogged(session: AsyncSession, limit: int) -> list[tuple[int, Decision]]:
    """Decisions that no log object holds yet, oldest first, with their row ids."""
    chosen = (
        select(decision.c.id, *_FIELDS)
        .where(decision.c.log_key.is_(None))
        .order_by(decision.c.id)
        .limit(limit)
    )
    return [(row[0], decision_of(row[1:])) for row in await session.execute(chosen)]


async def recent(session: AsyncSession, kind: str, since_ms: int) -> list[tuple[int, Decision]]:
    """Decisions of one kind taken at `since_ms` or later, with their row ids."""
    chosen = select(decision.c.id, *_FIELDS).where(
        decision.c.kind == kind, decision.c.decided_ms >= since_ms
    )
    return [(row[0], decision_of(row[1:])) for row in await session.execute(chosen)]


async def note(session: AsyncSession, decision_id: int, detail: dict[str, Any]) -> None:
    """Say how a decision is getting on; what was logged of it is logged again."""
    await session.execute(
        update(decision)
        .where(decision.c.id == decision_id)
        .values(detail=dumps(detail), log_key=None)
    )


def dumps(detail: dict[str, Any]) -> str:
    """`detail` as the column holds it."""
    return json.dumps(detail, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def loads(text: str) -> dict[str, Any]:
    """The opposite of `dumps`."""
    found: dict[str, Any] = json.loads(text)
    return found


def decision_of(row: Row[Any] | tuple[Any, ...]) -> Decision:
    """A decision from its columns in the order of its fields."""
    fields = dict(zip(Decision.__slots__, row, strict=True))
    fields["detail"] = json.loads(fields["detail"])
    return Decision(**fields)
