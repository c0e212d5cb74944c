"""Beginning, finding, listing and ending sessions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity.changes.service import touch
from identity.sessions.domain import AGENT_LENGTH, HALF_DONE_S, Session, Stage
from identity.sessions.tables import session as table
from identity.tokens.domain import fingerprint, new_secret
from kernel.audit.domain import AuditRecord
from kernel.audit.service import append
from kernel.db.statement import Statement
from kernel.errors import NotFound
from kernel.events.service import emit
from kernel.scope import Actor, ActorKind

KEPT_DAYS = 180
EVERYBODY = 1  # the owner of what belongs to no institution
SIGN_OUT = "identity.sign_out"
ENDED = "identity.session_ended.v1"
NEXT_STEP = "code given"  # the session goes on in another one: nobody signed out
_SHOWN = [table.c[name] for name in Session.__dataclass_fields__]

# For the guard: one live session by the hash of its token, times in seconds since 1970.
BY_TOKEN = Statement(
    select(
        table.c.id,
        table.c.account_id,
        table.c.stage,
        table.c.seen_at,
        table.c.expires_at,
    ).where(table.c.token_hash == bindparam("token_hash"), table.c.ended_at.is_(None))
)
# For the guard: what ended since a moment.
ENDED_SINCE = Statement(select(table.c.token_hash).where(table.c.ended_at >= bindparam("since")))


async def begin_session(
    session: AsyncSession,
    account_id: int,
    stage: Stage,
    session_s: float,
    *,
    peer: str,
    agent: str,
    amr: str = "pwd",
) -> tuple[str, Session]:
    """A new session of at most `session_s`: its token, which is not kept, and its row."""
    token = new_secret()
    now = datetime.now(UTC)
    lasts_s = session_s if stage == "full" else min(HALF_DONE_S, session_s)
    row = {
        "account_id": account_id,
        "token_hash": fingerprint(token),
        "stage": stage,
        "amr": amr,
        "created_at": now,
        "seen_at": now,
        "expires_at": now + timedelta(seconds=lasts_s),
        "peer": peer,
        "agent": agent[:AGENT_LENGTH],
    }
    made = await session.execute(insert(table).values(row).returning(*_SHOWN))
    return token, Session(**made.one()._mapping)


async def live_sessions(session: AsyncSession, account_id: int) -> list[Session]:
    """The sessions of an account that have not ended, the newest first."""
    wanted = (
        select(*_SHOWN)
        .where(table.c.account_id == account_id, table.c.ended_at.is_(None))
        .where(table.c.expires_at > time.time())
        .order_by(table.c.id.desc())
    )
    return [Session(**row._mapping) for row in await session.execute(wanted)]


async def end_session(
    session: AsyncSession,
    account_id: int,
    session_id: int,
    why: str,
    *,
    kind: ActorKind = "session",
) -> None:
    """End one session of an account; raises NotFound `session.not_found`."""
    ended = (
        update(table)
        .where(table.c.id == session_id, table.c.account_id == account_id)
        .where(table.c.ended_at.is_(None))
        .values(ended_at=time.time(), ended_why=why)
        .returning(table.c.id)
    )
    if await session.scalar(ended) is None:
        raise NotFound("session.not_found", "There is no such session.")
    if why != NEXT_STEP:
        detail = {"why": why, "session": session_id}
        actor = Actor(kind, str(account_id))
        await append(session, AuditRecord(actor, SIGN_OUT, "ok", detail=detail))
        await _tell(session, [session_id])
    await touch(session, "revocation")


async def end_sessions(
    session: AsyncSession, account_id: int, why: str, *, but: int | None = None
) -> int:
    """End every session of an account, or all but one; how many there were."""
    ended = (
        update(table)
        .where(table.c.account_id == account_id, table.c.ended_at.is_(None))
        .values(ended_at=time.time(), ended_why=why)
        .returning(table.c.id)
    )
    if but is not None:
        ended = ended.where(table.c.id != but)
    numbers = list((await session.scalars(ended)).all())
    if numbers:
        detail = {"why": why, "sessions": len(numbers)}
        actor = Actor("session", str(account_id))
        await append(session, AuditRecord(actor, SIGN_OUT, "ok", detail=detail))
        await _tell(session, numbers)
        await touch(session, "revocation")
    return len(numbers)


async def note_seen(session: AsyncSession, seen: Mapping[int, float]) -> None:
    """Keep when sessions were last used: number → seconds since 1970."""
    for session_id, at in sorted(seen.items()):
        await session.execute(
            update(table).where(table.c.id == session_id, table.c.seen_at < at).values(seen_at=at)
        )


async def forget_old_sessions(session: AsyncSession) -> None:
    """Delete rows of sessions that expired long ago; the audit keeps what they did."""
    limit = time.time() - KEPT_DAYS * 86400
    await session.execute(delete(table).where(table.c.expires_at < limit))


async def _tell(session: AsyncSession, session_ids: Sequence[int]) -> None:
    """Let applications know in which these sessions were used."""
    await emit(session, ENDED, {"session_ids": list(session_ids)}, owner_id=EVERYBODY)
