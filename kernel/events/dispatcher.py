"""Delivering events to subscribers: at least once, in order for each key, retried, given up."""

import asyncio
import os
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from kernel.db.database import Database
from kernel.errors import Unavailable
from kernel.events.bell import Bell
from kernel.events.domain import MAX_ATTEMPTS, Event, Handler, pause_s
from kernel.events.service import NUMBERED_AT_ONCE, as_event, number_events, read_events
from kernel.events.tables import event, event_counter, event_delivery, event_subscriber
from kernel.scope import Scope

_SCOPE = Scope.system("events")
_BATCH = 100
_WAITING_AT_ONCE = 500
_SAVE_EVERY_S = 1.0
_NUMBER_EVERY_S = 0.1

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Subscription:
    """Who wants which topics; the cursor is kept under `name`."""

    name: str
    topics: frozenset[str]
    handler: Handler
    wake: asyncio.Event


class LeaseLost(Exception):
    """Another process serves the subscriber now."""


class Dispatcher:
    """Numbers events and hands them to subscribers of this process.

    Of several processes with the same subscriber one serves it at a time, by a lease. A handler
    may see an event twice (after a crash) and must not mind.
    """

    def __init__(
        self,
        database: Database,
        *,
        pause: Callable[[int], float] = pause_s,
        attempts: int = MAX_ATTEMPTS,
        lease_s: float = 30.0,
        poll_s: float = 0.5,
    ) -> None:
        self._database = database
        self._pause = pause
        self._attempts = attempts
        self._lease_s = lease_s
        self._poll_s = poll_s
        self._holder = f"{os.getpid()}-{uuid.uuid4().hex}"
        self._subscriptions: list[Subscription] = []

    def subscribe(self, name: str, topics: Collection[str], handler: Handler) -> None:
        """Deliver events of `topics` to `handler`, for a new `name` from the first event on."""
        if any(one.name == name for one in self._subscriptions):
            raise ValueError(f"{name} subscribed twice")
        self._subscriptions.append(Subscription(name, frozenset(topics), handler, asyncio.Event()))

    async def run(self) -> None:
        """Work until cancelled."""
        for one in self._subscriptions:
            await self._register(one)
        bell = await Bell.open(self._database)
        try:
            async with asyncio.TaskGroup() as tasks:
                for one in self._subscriptions:
                    tasks.create_task(self._serve(one))
                await self._sequence(bell)
        finally:
            await bell.close()

    async def _sequence(self, bell: Bell) -> None:
        """Number what is committed, a tenth of a second's worth at a time: each time costs the
        database a sync, which receiving has to wait for.
        """
        while True:
            count = 0
            try:
                count = await number_events(self._database)
            except (SQLAlchemyError, Unavailable, OSError):
                log.exception("events.numbering_failed")
            self._wake()
            if count < NUMBERED_AT_ONCE:
                await asyncio.sleep(min(_NUMBER_EVERY_S, self._poll_s))
                await bell.wait(self._poll_s)

    def _wake(self) -> None:
        for one in self._subscriptions:
            one.wake.set()

    async def _serve(self, one: Subscription) -> None:
        while True:
            await one.wake.wait()
            one.wake.clear()
            try:
                while await self._has_work(one) and await self._claim(one):
                    async with asyncio.TaskGroup() as tasks:
                        beat = tasks.create_task(self._keep_lease(one))
                        await self._work(one)
                        beat.cancel()
            except* LeaseLost:
                log.warning("events.lease_lost", subscriber=one.name)
            except* (SQLAlchemyError, Unavailable, OSError):
                log.exception("events.delivery_failed", subscriber=one.name)

    async def _register(self, one: Subscription) -> None:
        known = select(event_subscriber.c.name).where(event_subscriber.c.name == one.name)
        try:
            async with self._database.session(_SCOPE, write=True) as session:
                if await session.scalar(known) is None:
                    row = {"name": one.name, "seq": 0, "holder": "", "lease_until": 0.0}
                    await session.execute(insert(event_subscriber), row)
        except IntegrityError:
            log.debug("events.registered_elsewhere", subscriber=one.name)

    async def _has_work(self, one: Subscription) -> bool:
        """Something new or due; a read, so that idle processes take no lock."""
        cursor = (
            select(event_subscriber.c.seq)
            .where(event_subscriber.c.name == one.name)
            .scalar_subquery()
        )
        new = select(event.c.id).where(event.c.seq > cursor, event.c.topic.in_(one.topics))
        due = select(event_delivery.c.event_id).where(
            event_delivery.c.subscriber == one.name,
            event_delivery.c.state == "waiting",
            event_delivery.c.due_at <= time.time(),
        )
        async with self._database.session(_SCOPE) as session:
            return (await session.scalar(new.limit(1))) is not None or (
                await session.scalar(due.limit(1))
            ) is not None

    async def _claim(self, one: Subscription) -> bool:
        now = time.time()
        take = (
            update(event_subscriber)
            .where(event_subscriber.c.name == one.name)
            .where(
                or_(
                    event_subscriber.c.holder == self._holder,
                    event_subscriber.c.lease_until < now,
                )
            )
            .values(holder=self._holder, lease_until=now + self._lease_s)
            .returning(event_subscriber.c.name)
        )
        async with self._database.session(_SCOPE, write=True) as session:
            return await session.scalar(take) is not None

    async def _keep_lease(self, one: Subscription) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            if not await self._claim(one):
                raise LeaseLost

    async def _work(self, one: Subscription) -> None:
        held = await self._retry(one)
        async with self._database.session(_SCOPE) as session:
            seen = await session.scalar(select(event_counter.c.last_seq)) or 0
            cursor = await session.scalar(
                select(event_subscriber.c.seq).where(event_subscriber.c.name == one.name)
            )
            found = await read_events(session, cursor or 0, _BATCH, one.topics, _SCOPE)
        saved = time.monotonic()
        for happened in found:
            if happened.key and happened.key in held:
                await self._advance(one, happened.seq, _waiting(one, happened, 0, 0.0, ""))
                continue
            error = await _attempt(one, happened)
            if error is not None:
                held.add(happened.key)
                row = _waiting(one, happened, 1, time.time() + self._pause(1), error)
                await self._advance(one, happened.seq, row)
            elif time.monotonic() - saved > _SAVE_EVERY_S:
                await self._advance(one, happened.seq)
                saved = time.monotonic()
        last = found[-1].seq if found else 0  # may be newer than `seen`, which was read before
        await self._advance(one, last if len(found) == _BATCH else max(last, seen))

    async def _advance(
        self, one: Subscription, seq: int, failed: Mapping[str, Any] | None = None
    ) -> None:
        async with self._database.session(_SCOPE, write=True) as session:
            await self._assert_held(session, one)
            await session.execute(
                update(event_subscriber)
                .where(event_subscriber.c.name == one.name, event_subscriber.c.seq < seq)
                .values(seq=seq)
            )
            if failed is not None:
                await session.execute(insert(event_delivery), failed)

    async def _assert_held(self, session: AsyncSession, one: Subscription) -> None:
        mine = select(event_subscriber.c.holder).where(event_subscriber.c.name == one.name)
        if await session.scalar(mine.with_for_update()) != self._holder:
            raise LeaseLost

    async def _retry(self, one: Subscription) -> set[str]:
        """Try what is due again; the keys that still wait, whose newer events must wait too."""
        waiting = (
            select(event, event_delivery.c.attempts, event_delivery.c.due_at)
            .join(event_delivery, event_delivery.c.event_id == event.c.id)
            .where(event_delivery.c.subscriber == one.name)
            .where(event_delivery.c.state == "waiting")
            .order_by(event.c.seq)
            .limit(_WAITING_AT_ONCE)
        )
        async with self._database.session(_SCOPE) as session:
            rows = [row._mapping for row in await session.execute(waiting)]
        held: set[str] = set()
        for row in rows:
            happened, due_at = as_event(row), row["due_at"].timestamp()
            if (happened.key and happened.key in held) or due_at > time.time():
                held.add(happened.key)
                continue
            error = await _attempt(one, happened)
            if await self._settle(one, happened, row["attempts"] + 1, error) == "waiting":
                held.add(happened.key)
        return held

    async def _settle(
        self, one: Subscription, happened: Event, attempts: int, error: str | None
    ) -> str:
        this = (event_delivery.c.subscriber == one.name) & (
            event_delivery.c.event_id == happened.id
        )
        async with self._database.session(_SCOPE, write=True) as session:
            await self._assert_held(session, one)
            if error is None:
                await session.execute(delete(event_delivery).where(this))
                return "done"
            state = "dead" if attempts >= self._attempts else "waiting"
            due_at = time.time() + self._pause(attempts)
            change = {"state": state, "attempts": attempts, "due_at": due_at, "error": error}
            await session.execute(update(event_delivery).where(this).values(change))
        if state == "dead":
            log.error("events.dead_letter", subscriber=one.name, event_id=happened.id)
        return state


async def _attempt(one: Subscription, happened: Event) -> str | None:
    """Call the handler; the kind of error, or None. The error's text may name a person."""
    try:
        await one.handler(happened)
    except Exception as error:
        log.exception("events.handler_failed", subscriber=one.name, event_id=happened.id)
        return getattr(error, "code", type(error).__name__)
    return None


def _waiting(
    one: Subscription, happened: Event, attempts: int, due_at: float, error: str
) -> dict[str, Any]:
    return {
        "subscriber": one.name,
        "event_id": happened.id,
        "state": "waiting",
        "attempts": attempts,
        "due_at": due_at,
        "error": error,
    }
