"""The decision log: what was decided, kept as objects beside the packs it is about.

``decisions/2026/03/<random>.json`` holds one decision a line. The index can be made again from
packs and log alone; a decision that was logged twice (a crash between object and row) counts once.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

import structlog
from sqlalchemy import update

from archive.decisions import rows
from archive.decisions.domain import Decision, from_line, to_line
from archive.index.tables import decision
from archive.store.domain import ObjectStore
from archive.store.service import Stores
from kernel.db.database import Database
from kernel.errors import Invalid
from kernel.scope import Scope

PREFIX = "decisions/"
_AT_ONCE = 200
_SCOPE = Scope.system("decision log")
_log = structlog.get_logger(__name__)


async def append_log(database: Database, stores: Stores) -> int:
    """Append every closed decision that no log object holds yet; returns how many there were.

    Raises `Unavailable` where the store fails: the decisions stay to be appended.
    """
    async with database.session(_SCOPE) as session:
        waiting = await rows.unlogged(session, _AT_ONCE)
    ready = [(row_id, made) for row_id, made in waiting if made.closed]
    if not ready:
        return 0
    key = _key(ready[0][1].decided_ms)
    await asyncio.to_thread(_write, stores.objects, key, [made for _, made in ready])
    async with database.session(_SCOPE, write=True) as session:
        for row_id, made in ready:
            await session.execute(
                update(decision)
                .where(decision.c.id == row_id, decision.c.detail == rows.dumps(made.detail))
                .values(log_key=key)
            )
    return len(ready)


def read_log(store: ObjectStore) -> tuple[dict[tuple[int, str], tuple[str, Decision]], list[str]]:
    """Every logged decision by identity, with its log object's key; and what cannot be read.

    Where a decision was logged again because more of it was done, the later line counts.
    """
    found: dict[tuple[int, str], tuple[str, Decision]] = {}
    damaged = []
    for key in sorted(one.key for one in store.keys(PREFIX)):
        try:
            lines = store.read(key).decode().splitlines()
            listed = [from_line(line) for line in lines]
        except (Invalid, UnicodeDecodeError):
            _log.error("decision_log_damaged", key=key)
            damaged.append(key)
            continue
        for made in listed:
            known = found.get(made.identity)
            if known is None or _instances(known[1]) < _instances(made):
                found[made.identity] = (key, made)
    return found, damaged


def _instances(made: Decision) -> int:
    return int(made.detail.get("instances", 0))


def _key(decided_ms: int) -> str:
    day = datetime.fromtimestamp(decided_ms / 1000, UTC)
    return f"{PREFIX}{day:%Y/%m}/{secrets.token_hex(16)}.json"


def _write(store: ObjectStore, key: str, decisions: Sequence[Decision]) -> None:
    writer = store.create(key)
    try:
        writer.write("".join(to_line(made) + "\n" for made in decisions).encode())
        writer.commit()
    except BaseException:
        writer.abort()
        raise
