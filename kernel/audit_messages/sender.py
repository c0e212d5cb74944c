"""Sending every sealed audit row to the repositories: the audit table itself is the spool.

How far each repository is, is a row in the database. It moves when the peer's system has
acknowledged the bytes and the connection has lived on for some seconds: what a repository had not
read when it died comes again. So an outage of whatever length loses nothing; after a break some
messages come twice.
"""

import asyncio
import json
import platform
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from kernel.audit.sealed import SEALED, sealed_columns
from kernel.audit.tables import audit, audit_feed
from kernel.audit_messages.domain import AuditRow
from kernel.audit_messages.syslog import Line, Repository, frame, tls_context
from kernel.audit_messages.xml import Reporter, to_xml
from kernel.db.database import Database
from kernel.db.statement import Statement
from kernel.errors import AppError
from kernel.scope import Scope
from kernel.settings import Settings

LOOK_EVERY_S, LONGEST_PAUSE_S = 1.0, 60.0
SETTLED_S = 3.0
_SCOPE = Scope.system("audit repository")
_AT_ONCE = 100
_FEED = Statement(select(audit_feed.c.seq).where(audit_feed.c.name == bindparam("name")))
_NEXT = Statement(
    select(*sealed_columns(), audit.c.seq)
    .where(audit.c.seq > bindparam("after"))
    .order_by(audit.c.seq)
    .limit(_AT_ONCE)
)

log = structlog.get_logger(__name__)


def reporter_of(settings: Settings) -> Reporter:
    """How this machine calls itself in audit messages."""
    node = settings.node or platform.node() or "localhost"
    return Reporter(settings.dicom.ae_title, node, settings.audit.site)


def feed_of(repository: Repository) -> str:
    """The name under which it is kept how far a repository is."""
    return f"syslog {repository.url}"


async def keep_sending(database: Database) -> None:
    """Send to every repository of the settings until cancelled. Raises Invalid `audit.*`."""
    wanted = database.settings.audit
    repositories = [Repository.parse(url) for url in wanted.repositories]
    tls = None
    if any(one.scheme == "tls" for one in repositories):
        tls = tls_context(wanted.tls_authority, wanted.tls_certificate, wanted.tls_key)
    await asyncio.gather(*(_serve(database, one, tls) for one in repositories))
    await asyncio.Event().wait()


async def _serve(database: Database, repository: Repository, tls: ssl.SSLContext | None) -> None:
    pause_s = LOOK_EVERY_S
    while True:
        try:
            async for _ in send_all(database, repository, tls):
                pause_s = LOOK_EVERY_S
        except (OSError, SQLAlchemyError, AppError) as error:
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            log.warning("audit.repository_unreachable", repository=repository.url, why=repr(error))
        await asyncio.sleep(pause_s)


async def send_all(
    database: Database,
    repository: Repository,
    tls: ssl.SSLContext | None,
    settled_s: float = SETTLED_S,
) -> AsyncIterator[int]:
    """Send what the repository does not have; yields how many rows after each batch.

    Opens no connection when there is nothing to send. Raises OSError when it breaks.
    """
    reporter, feed = reporter_of(database.settings), feed_of(repository)
    after = await _position(database, feed)
    sent: deque[tuple[float, int]] = deque()  # what has not lived on long enough: when, to where
    async with AsyncExitStack() as stack:
        line: Line | None = None
        while rows := await database.fetch(_NEXT, {"after": after}):
            if line is None:
                line = await Line.open(repository, tls)
                stack.push_async_callback(line.close)
            read = [audit_row(row) for row in rows]
            await line.send(
                [frame(one.at, reporter.node, "audit", to_xml(one, reporter)) for one in read]
            )
            after = read[-1].seq
            sent.append((time.monotonic(), after))
            await _settle(database, feed, sent, settled_s)
            yield len(read)
        while sent and line is not None:
            await asyncio.sleep(settled_s / 4)
            line.check()
            await _settle(database, feed, sent, settled_s)


def audit_row(values: tuple[Any, ...]) -> AuditRow:
    """A row of `sealed_columns` and its number."""
    named = dict(zip((*SEALED, "seq"), values, strict=True))
    named["at"] = datetime.fromtimestamp(named["at"], UTC)
    named["refs"] = tuple(json.loads(named["refs"]))
    named["detail"] = json.loads(named["detail"])
    return AuditRow(**named)


async def _position(database: Database, feed: str) -> int:
    rows = await database.fetch(_FEED, {"name": feed})
    if rows:
        return int(rows[0][0])
    async with database.session(_SCOPE, write=True) as session:
        await session.execute(insert(audit_feed), {"name": feed, "seq": 0})
    return 0


async def _settle(
    database: Database, feed: str, sent: deque[tuple[float, int]], settled_s: float
) -> None:
    """Move on over what was sent long enough ago on a connection that lives."""
    settled = 0
    while sent and time.monotonic() - sent[0][0] >= settled_s:
        settled = sent.popleft()[1]
    if settled:
        await _move(database, feed, settled)


async def _move(database: Database, feed: str, seq: int) -> None:
    further = update(audit_feed).where(audit_feed.c.name == feed, audit_feed.c.seq < seq)
    async with database.session(_SCOPE, write=True) as session:
        await session.execute(further.values(seq=seq))
