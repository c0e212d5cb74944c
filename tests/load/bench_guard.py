#!/usr/bin/env python3
"""CPU that guard and audit add to a QIDO-RS request with an exact key on SQLite.

  .venv/bin/python -m tests.load.bench_guard [--n 100] [--rounds 60]

The real application answers in this process, without a socket: once with guard and audit, once with
a guard that lets everybody do everything and without audit, in alternating rounds. Prints the
medians of milliseconds of CPU (all threads) per request, and their difference, for a session and a
bearer token.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from kernel.db.database import Database
from kernel.log import configure
from kernel.scope import Scope
from kernel.settings import Settings
from kernel.web.guard import AUDIT, GUARD
from server.migrations.run import upgrade
from tests.access import region as regions
from tests.archive.material import uid


class Open:
    """Lets everybody through with the scope that the guard has given once, masks included."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def authorise(self, request: web.Request, permission: str) -> Scope:
        return self._scope


class Nowhere(AbstractStreamWriter):
    """Takes an answer and forgets it: a mock would cost more than what is measured."""

    async def write(self, chunk: bytes) -> None: ...

    async def write_eof(self, chunk: bytes = b"") -> None: ...

    async def drain(self) -> None: ...

    def enable_compression(self, *how: object, **more: object) -> None: ...

    def enable_chunking(self) -> None: ...

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None: ...


async def request_of(app: web.Application, path: str, headers: dict[str, str]) -> web.Request:
    request = make_mocked_request("GET", path, headers=headers, app=app, writer=Nowhere())
    info = await app.router.resolve(request)
    info.add_app(app)
    request._match_info = info
    return request


async def measure(app: web.Application, path: str, headers: dict[str, str], n: int) -> float:
    requests = [await request_of(app, path, headers) for _ in range(n)]
    began = time.process_time()
    for request in requests:
        response = await app._handle(request)
        await response.prepare(request)
        await response.write_eof()
        assert response.status == 200, response.status
    return (time.process_time() - began) / n * 1000


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=60)
    asked = parser.parse_args()
    settings = Settings(data=Path(tempfile.mkdtemp()))
    configure(settings)
    await upgrade(settings)
    database = await Database.open(settings)
    async with AsyncExitStack() as stack:
        region = await stack.enter_async_context(regions.serve_region(settings, database))
        app = region.app
        guard, trail = app[GUARD], app[AUDIT]
        search = f"/dicom-web/studies?StudyInstanceUID={uid(1)}"
        cases = {
            "session": ("hospital_a1", search),
            "bearer token": ("client_a1", search),
        }
        state = app.__dict__["_state"]
        for name, (actor, path) in cases.items():
            headers = {**region.headers[actor], "Host": region.base.removeprefix("http://")}
            asked_once = await request_of(app, path, headers)
            opened = Open(await guard.authorise(asked_once, "archive.study.search"))
            found: dict[str, list[float]] = {"with": [], "without": []}
            for _ in range(asked.rounds):
                state[GUARD], state[AUDIT] = guard, trail
                found["with"].append(await measure(app, path, headers, asked.n))
                state[GUARD] = opened
                del state[AUDIT]
                found["without"].append(await measure(app, path, headers, asked.n))
            state[GUARD], state[AUDIT] = guard, trail
            both = {key: statistics.median(values) for key, values in found.items()}
            added = statistics.median(
                one - other for one, other in zip(found["with"], found["without"], strict=True)
            )
            print(
                f"{name}: {both['with']:.3f} ms with, {both['without']:.3f} without:"
                f" {added:.3f} ms [{min(found['with']) - min(found['without']):.3f} between minima]"
            )
    await database.close()


if __name__ == "__main__":
    asyncio.run(main())
