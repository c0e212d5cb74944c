"""Writing events with the change they tell of, numbering them after commit, and reading them."""

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, bindparam, exists, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from kernel.db.database import Database, after_commit
from kernel.db.statement import Statement
from kernel.errors import NotFound
from kernel.events.domain import Event
from kernel.events.tables import event, event_counter, event_delivery
from kernel.scope import Scope

_SCOPE = Scope.system("events")
NUMBERED_AT_ONCE = 200

# For hot paths: parameters topic, key, payload (JSON text), owner_id, created_at (seconds since
# 1970); gives the id. Ring the database's ringer after the commit.
EMIT = Statement(
    insert(event)
    .values(
        topic=bindparam("topic"),
        key=bindparam("key"),
        payload=bindparam("payload"),
        owner_id=bindparam("owner_id"),
        created_at=bindparam("created_at"),
    )
    .returning(event.c.id)
)

_UNNUMBERED = Statement(select(exists().where(event.c.seq.is_(None))))


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that a subscriber could not handle in any attempt."""

    subscriber: str
    event: Event
    attempts: int
    error: str


async def emit(
    session: AsyncSession, topic: str, payload: Mapping[str, Any], *, owner_id: int, key: str = ""
) -> None:
    """Add an event to the session's transaction; listeners wake once it has committed."""
    row = {
        "topic": topic,
        "key": key,
        "payload": json.dumps(payload, ensure_ascii=False, separators=(",", ":")),
        "owner_id": owner_id,
        "created_at": time.time(),
    }
    await session.execute(insert(event), row)
    after_commit(session, session.info["ring"])


async def number_events(database: Database) -> int:
    """Give committed events without one their `seq`, oldest first; how many there were.

    One process at a time does it (the counter's row is locked), and numbers appear with the
    commit, so a reader never sees n before n - 1.
    """
    if not (await database.fetch(_UNNUMBERED, {}))[0][0]:
        return 0
    async with database.session(_SCOPE, write=True) as session:
        last = await session.scalar(select(event_counter.c.last_seq).with_for_update())
        fresh = (
            select(event.c.id, (literal(last) + func.row_number().over(order_by=event.c.id)))
            .where(event.c.seq.is_(None))
            .order_by(event.c.id)
            .limit(NUMBERED_AT_ONCE)
            .subquery()
        )
        source, number = fresh.c
        numbered = update(event).where(event.c.id == source).values(seq=number)
        count = cast("CursorResult[Any]", await session.execute(numbered)).rowcount
        await session.execute(
            update(event_counter).values(last_seq=event_counter.c.last_seq + count)
        )
    return count


async def feed(
    database: Database,
    after_seq: int,
    limit: int,
    topics: Collection[str] | None = None,
    scope: Scope = _SCOPE,
) -> list[Event]:
    """At most `limit` events with a `seq` above `after_seq`, in order, within `scope`."""
    async with database.session(scope) as session:
        return await read_events(session, after_seq, limit, topics, scope)


async def read_events(
    session: AsyncSession,
    after_seq: int,
    limit: int,
    topics: Collection[str] | None,
    scope: Scope,
) -> list[Event]:
    """`feed` inside a session."""
    wanted = select(event).where(event.c.seq > after_seq).order_by(event.c.seq).limit(limit)
    if topics is not None:
        wanted = wanted.where(event.c.topic.in_(topics))
    if scope.owners is not None:
        wanted = wanted.where(event.c.owner_id.in_(scope.owners))
    return [as_event(row._mapping) for row in await session.execute(wanted)]


async def dead_letters(database: Database, limit: int = 100) -> list[DeadLetter]:
    """Events that were given up, newest first."""
    wanted = (
        select(event, event_delivery)
        .join(event_delivery, event_delivery.c.event_id == event.c.id)
        .where(event_delivery.c.state == "dead")
        .order_by(event.c.id.desc())
        .limit(limit)
    )
    async with database.session(_SCOPE) as session:
        rows = [row._mapping for row in await session.execute(wanted)]
    return [
        DeadLetter(row["subscriber"], as_event(row), row["attempts"], row["error"]) for row in rows
    ]


async def revive(session: AsyncSession, subscriber: str, event_id: int) -> None:
    """Deliver a dead letter again, as if new; raises NotFound `event.no_dead_letter`."""
    again = (
        update(event_delivery)
        .where(event_delivery.c.subscriber == subscriber)
        .where(event_delivery.c.event_id == event_id)
        .where(event_delivery.c.state == "dead")
        .values(state="waiting", attempts=0, due_at=time.time())
        .returning(event_delivery.c.event_id)
    )
    if await session.scalar(again) is None:
        raise NotFound(
            "event.no_dead_letter",
            "Subscriber {subscriber} has no failed event {event}.",
            subscriber=subscriber,
            event=event_id,
        )
    after_commit(session, session.info["ring"])


def as_event(row: Mapping[Any, Any]) -> Event:
    """An event from its row."""
    return Event(
        seq=row["seq"],
        id=row["id"],
        topic=row["topic"],
        key=row["key"],
        payload=json.loads(row["payload"]),
        owner_id=row["owner_id"],
        created_at=row["created_at"],
    )
