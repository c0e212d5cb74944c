"""GET /healthz: whether this machine can take and serve studies, for people and load balancers."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from aiohttp import web
from sqlalchemy import literal, select
from sqlalchemy.exc import SQLAlchemyError

from kernel.db.database import Database
from kernel.db.statement import Statement
from kernel.errors import AppError
from kernel.settings import Settings
from kernel.web.guard import PUBLIC, requires
from server.beats import Beat, read_beats

ANSWER_S = 2.0
LEAST_FREE_BYTES = 64 * 1024 * 1024
EXPECTS = "expects_"

_ALIVE = Statement(select(literal(1)))
DATABASE: web.AppKey[Database] = web.AppKey("server.database", Database)
_SETTINGS: web.AppKey[Settings] = web.AppKey("server.settings", Settings)


def setup(app: web.Application, settings: Settings, database: Database) -> None:
    """Add the route."""
    app[_SETTINGS], app[DATABASE] = settings, database
    app.router.add_get("/healthz", healthz)


@requires(PUBLIC)
async def healthz(request: web.Request) -> web.Response:
    """200 when every part works that this machine runs, else 503; the body says which."""
    parts = await parts_of_health(request.app[_SETTINGS], request.app[DATABASE])
    failing = any(part["status"] == "failing" for part in parts.values())
    body = {"status": "failing" if failing else "ok", **parts}
    headers = {"Cache-Control": "no-store"}
    return web.json_response(body, status=503 if failing else 200, headers=headers)


async def parts_of_health(settings: Settings, database: Database) -> dict[str, dict[str, Any]]:
    """Each part of this machine with its `status`: ok, failing, or not here."""
    beats = await asyncio.to_thread(read_beats, settings)
    return {
        "database": await _database(database),
        "storage": await asyncio.to_thread(_storage, settings.data),
        **{role: _process(role, beats) for role in ("gateway", "worker")},
    }


def room(data: Path) -> tuple[int, int]:
    """Free and all bytes of the disk of the data folder."""
    found = os.statvfs(data)
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


async def _database(database: Database) -> dict[str, Any]:
    try:
        async with asyncio.timeout(ANSWER_S):
            await database.fetch(_ALIVE, {})
    except (TimeoutError, OSError, AppError, SQLAlchemyError):
        return {"status": "failing", "kind": database.dialect}
    return {"status": "ok", "kind": database.dialect}


def _storage(data: Path) -> dict[str, Any]:
    try:
        probe = data / "run" / f"probe-{os.getpid()}"
        probe.write_bytes(b"y")
        probe.unlink()
        free_bytes, _ = room(data)
    except OSError:
        return {"status": "failing", "free_bytes": 0}
    return {
        "status": "ok" if free_bytes > LEAST_FREE_BYTES else "failing",
        "free_bytes": free_bytes,
    }


def _process(role: str, beats: list[Beat]) -> dict[str, Any]:
    expected = any(
        beat.alive and beat.numbers.get(EXPECTS + role)
        for beat in beats
        if beat.role == "supervisor"
    )
    alive = [beat for beat in beats if beat.role == role and beat.alive]
    if alive:
        return {"status": "ok", "heartbeat_age_s": round(min(beat.age_s for beat in alive), 1)}
    return {"status": "failing" if expected else "not here"}
