"""Evaluating the rules over sealed rows, each once; findings are rows that people acknowledge."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog
from sqlalchemy import Double, Select, bindparam, func, insert, or_, select, type_coerce, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from kernel.audit.domain import AuditRecord
from kernel.audit.search import Question, conditions, sees_all
from kernel.audit.service import append
from kernel.audit.tables import audit, audit_feed, audit_finding
from kernel.audit_rules.domain import DAY_S, Person, Rule, matches
from kernel.db.database import Database
from kernel.db.statement import Statement
from kernel.errors import AppError, NotFound
from kernel.scope import Scope

FEED = "rules"
READ = "system.audit.read"
_SCOPE = Scope.system("audit rules")
_AT_ONCE = 500
_c = audit.c
_f = audit_finding.c
_POSITION = Statement(select(audit_feed.c.seq).where(audit_feed.c.name == FEED))
_NEXT = Statement(
    select(
        _c.seq, type_coerce(_c.at, Double), _c.actor_kind, _c.actor_id, _c.action, _c.outcome,
        _c.owner_id, _c.study_instance_uid,
    ).where(_c.seq > bindparam("after")).order_by(_c.seq).limit(_AT_ONCE)
)  # fmt: skip

log = structlog.get_logger(__name__)


class Facts(Protocol):
    """What this floor cannot know: names behind accounts and studies."""

    async def account_name(self, account_id: str) -> str:
        """The name of the person of an account; empty where there is none."""

    async def person_of(self, study_instance_uid: str, owner_id: int | None) -> Person:
        """The person of a study."""


@dataclass(frozen=True, slots=True)
class Row:
    """What the rules see of an audit row; `at` in seconds since 1970."""

    seq: int
    at: float
    actor_kind: str
    actor_id: str
    action: str
    outcome: str
    owner_id: int | None
    study: str


async def look(database: Database, rules: Sequence[Rule], facts: Facts) -> int:
    """Evaluate every sealed row that was not evaluated yet; how many."""
    count = 0
    while found := await _look_at_some(database, rules, facts):
        count += found
    return count


async def keep_looking(
    database: Database, rules: Sequence[Rule], facts: Facts, every_s: float = 10.0
) -> None:
    """`look` again and again, until cancelled."""
    while True:
        try:
            await look(database, rules, facts)
        except (SQLAlchemyError, AppError, OSError):
            log.exception("audit.rules_failed")
        await asyncio.sleep(every_s)


async def findings(
    session: AsyncSession, scope: Scope, *, is_open: bool = True, limit: int = 50
) -> list[Any]:
    """The newest findings within the scope, as mappings of the table's columns."""
    wanted = (
        select(audit_finding)
        .where(_f.number > _f.most)
        .order_by(_f.found_at.desc(), _f.id.desc())
        .limit(limit)
    )
    if is_open:
        wanted = wanted.where(_f.acknowledged_at.is_(None))
    if not await sees_all(session, scope):
        wanted = wanted.where(_f.owner_id.in_(sorted(scope.owners or ())))
    return [row._mapping for row in await session.execute(wanted)]


async def acknowledge(session: AsyncSession, scope: Scope, finding_id: int, note: str) -> None:
    """Say that somebody has looked into a finding, and what came of it; once.

    Raises NotFound `audit.no_finding`.
    """
    mine = {int(one["id"]) for one in await findings(session, scope, limit=10_000)}
    if finding_id not in mine:
        raise NotFound("audit.no_finding", "There is no such open finding.")
    by = f"{scope.actor.kind}:{scope.actor.id}"
    await session.execute(
        update(audit_finding)
        .where(_f.id == finding_id)
        .values(acknowledged_at=time.time(), acknowledged_by=by, note=note.strip()[:500])
    )
    detail = {"change": "acknowledged", "finding": finding_id}
    await append(session, AuditRecord(scope.actor, READ, "ok", detail=detail))


async def _look_at_some(database: Database, rules: Sequence[Rule], facts: Facts) -> int:
    position = await database.fetch(_POSITION, {})
    after = int(position[0][0]) if position else 0
    rows = [Row(*values) for values in await database.fetch(_NEXT, {"after": after})]
    if not rows:
        return 0
    touched: dict[tuple[str, str, str], tuple[Rule, Row]] = {}
    matched: list[tuple[Rule, Row]] = []
    for row in rows:
        hour = datetime.fromtimestamp(row.at).astimezone().hour
        for rule in rules:
            if not rule.wants(row.actor_kind, row.action, row.outcome, hour):
                continue
            if not rule.match:
                touched[rule.code, row.actor_kind, row.actor_id] = (rule, row)
            elif row.study and await _matches(rule, row, facts):
                matched.append((rule, row))
    async with database.session(_SCOPE, write=True) as session:
        for rule, row in touched.values():
            await _count(session, rule, row)
        for rule, row in matched:
            await _add_match(session, rule, row)
        await _move(session, rows[-1].seq, known=bool(position))
    return len(rows)


async def _matches(rule: Rule, row: Row, facts: Facts) -> bool:
    name = await facts.account_name(row.actor_id) if row.actor_kind == "session" else ""
    return matches(rule.match, name, await facts.person_of(row.study, row.owner_id))


async def _count(session: AsyncSession, rule: Rule, row: Row) -> None:
    """Count what the actor did in the window that ends with `row`; too much is a finding."""
    number = func.count(_c.study_instance_uid.distinct()) if rule.distinct else func.sum(_c.count)
    columns = (number, func.min(_c.at), func.min(_c.owner_id), func.max(_c.owner_id))
    wanted: Select[Any] = select(*columns).where(
        *conditions(
            Question(None, None, row.actor_kind, row.actor_id, rule.actions, rule.outcomes)
        ),
        _c.at > row.at - rule.within_s,
        _c.at <= row.at,
    )
    if rule.hours is not None:
        wanted = wanted.where(_in_hours(rule.hours, row.at))
    counted, began, first, last = (await session.execute(wanted)).one()
    if counted is not None and int(counted) > rule.most:
        owner_id = first if first == last else None
        facts = {"within_s": rule.within_s}
        await _record(session, rule, row, int(counted), began, owner_id, facts)


async def _add_match(session: AsyncSession, rule: Rule, row: Row) -> None:
    """One more study of a person whom the rule looks for, in this window; it shows above `most`."""
    key = _key(rule, row)
    kept = await session.scalar(select(_f.facts).where(_f.key == key))
    studies = set(json.loads(kept)["studies"]) if kept else set()
    studies.add(row.study)
    facts = {"within_s": rule.within_s, "studies": sorted(studies)}
    began = datetime.fromtimestamp(row.at, UTC)
    await _record(session, rule, row, len(studies), began, row.owner_id, facts)


async def _record(
    session: AsyncSession,
    rule: Rule,
    row: Row,
    number: int,
    began: datetime,
    owner_id: int | None,
    facts: dict[str, Any],
) -> None:
    dialect = session.get_bind().dialect.name
    upsert = (postgresql if dialect == "postgresql" else sqlite).insert(audit_finding)
    values = {
        "key": _key(rule, row), "rule": rule.code, "actor_kind": row.actor_kind,
        "actor_id": row.actor_id, "owner_id": owner_id, "began_at": began, "ended_at": row.at,
        "found_at": time.time(), "number": number,
        "most": rule.most, "facts": json.dumps(facts, sort_keys=True),
        "acknowledged_at": None, "acknowledged_by": "", "note": "",
    }  # fmt: skip
    again = {name: upsert.excluded[name] for name in ("ended_at", "number", "most", "facts")}
    await session.execute(upsert.on_conflict_do_update(index_elements=[_f.key], set_=again), values)


def _key(rule: Rule, row: Row) -> str:
    """One finding for each rule, actor and window."""
    window = int(row.at // rule.within_s)
    return f"{rule.code}|{row.actor_kind}|{row.actor_id}|{window}"


def _in_hours(hours: tuple[int, int], at: float) -> Any:
    offset = datetime.fromtimestamp(at).astimezone().utcoffset()
    local = type_coerce(_c.at, Double) + (offset.total_seconds() if offset else 0.0)
    second = local - func.floor(local / DAY_S) * DAY_S
    first, last = hours[0] * 3600, hours[1] * 3600
    if first <= last:
        return (second >= first) & (second < last)
    return or_(second >= first, second < last)


async def _move(session: AsyncSession, seq: int, *, known: bool) -> None:
    if known:
        await session.execute(update(audit_feed).where(audit_feed.c.name == FEED).values(seq=seq))
    else:
        await session.execute(insert(audit_feed), {"name": FEED, "seq": seq})
