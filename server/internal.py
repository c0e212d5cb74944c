"""The listener for other nodes: GET /internal/packs/{id} gives what is not settled yet.

It has a port of its own, which belongs into a network of the nodes: nobody else is answered, but
what passes there is not encrypted.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
from contextlib import AsyncExitStack

import structlog
from aiohttp import web

from archive.nodes.service import PATH, announce, held_segment, keep_announcing, make_secret
from kernel.db.database import Database
from kernel.errors import Denied, Invalid, NotFound, Unavailable
from kernel.scope import Actor, Scope
from kernel.settings import Settings, split_address
from kernel.web.guard import GUARD, requires
from kernel.web.language import SETTINGS
from kernel.web.log import log_access
from kernel.web.pages import setup_pages
from kernel.web.problems import answer_errors

SHUTDOWN_S = 3.0

_DATABASE: web.AppKey[Database] = web.AppKey("server.internal.database", Database)
_log = structlog.get_logger(__name__)


class SecretGuard:
    """Answers whoever shows the secret of the nodes."""

    def __init__(self, secret: str) -> None:
        self._expected = f"Bearer {secret}".encode()

    async def authorise(self, request: web.Request, permission: str) -> Scope:
        """Everything, for a node; raises Denied `access.unknown`."""
        shown = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(shown, self._expected):
            raise Denied("access.unknown", "Only nodes that know the secret are answered.")
        return Scope(None, Actor("system", "node"), permission)


async def serve_internal(settings: Settings, database: Database, stack: AsyncExitStack) -> str:
    """Listen for other nodes and tell them where, until `stack` closes; the address.

    Raises Unavailable `internal.address` where the port cannot be had, Invalid `internal.wildcard`
    where the others could not know whom to ask.
    """
    secret = await asyncio.to_thread(make_secret, settings)
    host, port = split_address(settings.internal.bind)
    if not settings.internal.address and _is_every_address(host):
        raise Invalid(
            "internal.wildcard",
            "internal.bind is {bind}: say in internal.address where other nodes reach this one.",
            bind=settings.internal.bind,
        )
    runner = web.AppRunner(
        make_app(settings, database, secret), access_log=None, shutdown_timeout=SHUTDOWN_S
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    shared = settings.http.processes > 1 and port != 0
    try:
        await web.TCPSite(runner, host, port, reuse_port=shared or None).start()
    except OSError as error:
        raise Unavailable(
            "internal.address",
            "The listener for other nodes cannot use {bind}: {why}.",
            bind=settings.internal.bind,
            why=error.strerror or str(error),
        ) from error
    bound = runner.addresses[0][1]
    address = settings.internal.address or (
        f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"
    )
    await announce(settings, database, address)
    telling = asyncio.create_task(keep_announcing(settings, database, address))
    stack.push_async_callback(_cancel, telling)
    _log.info("internal.listening", reached_at=address)
    return address


def make_app(settings: Settings, database: Database, secret: str) -> web.Application:
    """The application for other nodes: one route."""
    app = web.Application(middlewares=[log_access, answer_errors])
    app[SETTINGS], app[_DATABASE], app[GUARD] = settings, database, SecretGuard(secret)
    setup_pages(app)
    app.router.add_get(f"{PATH}/{{pack_id:[0-9]{{1,18}}}}", read_pack)
    return app


@requires("archive.pack.read")
async def read_pack(request: web.Request) -> web.StreamResponse:
    """GET /internal/packs/{id}: a segment in this node's journal, whole or the range asked for."""
    pack_id = int(request.match_info["pack_id"])
    path = await held_segment(request.app[SETTINGS], request.app[_DATABASE], pack_id)
    if path is None:
        raise NotFound("pack.not_found", "the pack is gone")
    headers = {"Content-Type": "application/octet-stream", "Cache-Control": "no-store"}
    return web.FileResponse(path, headers=headers)


def _is_every_address(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
