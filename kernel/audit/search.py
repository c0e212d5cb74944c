"""Looking for audit rows: by time, who, what, outcome and study, the newest first, paged by key."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Double, Select, and_, cast, func, or_, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncSession

from kernel.audit.tables import audit
from kernel.db.tables import owner
from kernel.scope import Scope

MOST = 200
_c = audit.c
_SHOWN = [column for column in audit.c if column.name != "fold_key"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended: the time (seconds since 1970) and key of its last row."""

    at: float
    id: int


@dataclass(frozen=True, slots=True)
class Question:
    """What is looked for; empty fields do not matter. `actions` are whole or, with a dot at their
    end, beginnings; `since` counts from, `until` up to but not including. `peer` is an address
    without port. `actors` (kind, id) are meant besides `actor_id`."""

    since: datetime | None = None
    until: datetime | None = None
    actor_kind: str = ""
    actor_id: str = ""
    actions: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    study_instance_uid: str = ""
    peer: str = ""
    actors: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """Rows as mappings of the table's columns, and where the next page begins (None: the end)."""

    rows: Sequence[Any]
    after: Place | None


async def find(
    session: AsyncSession,
    scope: Scope,
    question: Question,
    *,
    after: Place | None = None,
    limit: int = 50,
) -> Page:
    """One page of rows within the scope."""
    wanted = await _within(session, select(*_SHOWN), scope, question)
    if after is not None:
        at = type_coerce(_c.at, Double)
        wanted = wanted.where(or_(at < after.at, and_(at == after.at, _c.id < after.id)))
    ordered = wanted.order_by(_c.at.desc(), _c.id.desc()).limit(min(limit, MOST) + 1)
    rows = [row._mapping for row in await session.execute(ordered)]
    kept = rows[: min(limit, MOST)]
    last = kept[-1] if len(rows) > len(kept) else None
    return Page(kept, Place(last["at"].timestamp(), last["id"]) if last is not None else None)


async def find_one(session: AsyncSession, scope: Scope, audit_id: int) -> Any | None:
    """One row within the scope as a mapping, or None."""
    wanted = await _within(session, select(*_SHOWN), scope, Question())
    row = (await session.execute(wanted.where(_c.id == audit_id))).one_or_none()
    return None if row is None else row._mapping


async def count_by(
    session: AsyncSession, scope: Scope, question: Question, step_s: int, offset_s: int = 0
) -> dict[tuple[int, str], int]:
    """How many accesses in each step of time, by outcome: (beginning, outcome) → number.

    Steps begin at multiples of `step_s` in a zone that is `offset_s` ahead of UTC.
    """
    local = type_coerce(_c.at, Double) + offset_s
    step = cast(func.floor(local / step_s), Double).label("step")
    columns = (step, _c.outcome, func.sum(_c.count).label("number"))
    wanted = await _within(session, select(*columns), scope, question)
    rows = await session.execute(wanted.group_by(step, _c.outcome))
    return {(int(row.step) * step_s - offset_s, row.outcome): int(row.number) for row in rows}


async def sees_all(session: AsyncSession, scope: Scope) -> bool:
    """Whether the scope covers every owner: only then rows that belong to no single one show."""
    if scope.owners is None:
        return True
    known = set(await session.scalars(select(owner.c.id)))
    return known <= scope.owners


async def _within(
    session: AsyncSession, wanted: Select[Any], scope: Scope, question: Question
) -> Select[Any]:
    found = conditions(question)
    if not await sees_all(session, scope):
        found.append(_c.owner_id.in_(sorted(scope.owners or ())))
    return wanted.where(*found)


def conditions(question: Question) -> list[ColumnElement[bool]]:
    """The question as SQL."""
    found: list[ColumnElement[bool]] = []
    if question.since is not None:
        found.append(_c.at >= question.since)
    if question.until is not None:
        found.append(_c.at < question.until)
    if question.actor_kind:
        found.append(_c.actor_kind == question.actor_kind)
    if question.actor_id or question.actors:
        named = (and_(_c.actor_kind == kind, _c.actor_id == one) for kind, one in question.actors)
        found.append(or_(_c.actor_id == question.actor_id, *named))
    if question.actions:
        found.append(or_(*(_is_action(one) for one in question.actions)))
    if question.outcomes:
        found.append(_c.outcome.in_(question.outcomes))
    if question.study_instance_uid:
        found.append(_c.study_instance_uid == question.study_instance_uid)
    if question.peer:
        found.append(or_(_c.peer == question.peer, _c.peer.startswith(f"{question.peer}:")))
    return found


def _is_action(action: str) -> ColumnElement[bool]:
    if not action.endswith("."):
        return _c.action == action
    return and_(_c.action >= action, _c.action < action[:-1] + "/")  # "/" follows "."
