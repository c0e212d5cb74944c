"""A web server with the real guard and pages, and some guarded routes, for tests."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
from aiohttp import web

from identity.guard.keeper import Keeper
from identity.guard.service import IdentityGuard
from identity.pages.routes import Identity, setup
from identity.sign_in.service import SignIn
from kernel.audit.trail import AuditTrail
from kernel.db.database import Database
from kernel.settings import HttpSettings
from kernel.web.app import make_app
from kernel.web.guard import AUDIT, GUARD, requires, scope_of
from kernel.web.pages import render
from tests.servers import free_port


@requires("archive.study.search")
async def search(request: web.Request) -> web.Response:
    """Whose studies may be searched."""
    return _told(request)


@requires("archive.study.read")
async def read(request: web.Request) -> web.Response:
    """Whose data this study may be of."""
    return _told(request)


@requires("archive.study.store")
async def store(request: web.Request) -> web.Response:
    """A change."""
    return _told(request)


@requires("archive.study.search")
async def home(request: web.Request) -> web.Response:
    """A page."""
    problem = {"title": "Home", "detail": "", "code": "", "request_id": ""}
    return render(request, "error.html", {"problem": problem})


def _told(request: web.Request) -> web.Response:
    scope = scope_of(request)
    return web.json_response(
        {
            "owners": sorted(scope.owners or ()),
            "actor": [scope.actor.kind, scope.actor.id],
            "purpose": scope.purpose,
        }
    )


@dataclass(slots=True)
class Answer:
    """A whole answer."""

    status: int
    text: str
    json: Any
    headers: Any

    @property
    def code(self) -> str:
        """The code of a problem document."""
        return str(self.json["code"])


class Client:
    """A browser without eyes: keeps cookies, follows nothing, fills forms."""

    def __init__(self, base: str, session: aiohttp.ClientSession) -> None:
        self.base = base
        self.session = session

    async def get(self, path: str, **headers: str) -> Answer:
        """GET; JSON unless `Accept` says otherwise."""
        return await self._ask("GET", path, None, headers)

    async def page(self, path: str) -> Answer:
        """GET as a browser does."""
        return await self.get(path, Accept="text/html")

    async def post(self, path: str, form: dict[str, str] | None = None, **headers: str) -> Answer:
        """POST from a page of our own."""
        headers = {"Origin": self.base, **headers}
        return await self._ask("POST", path, form or {}, headers)

    async def fill(self, path: str, to: str = "", **fields: str) -> Answer:
        """Fetch a page with a form, and send it with its token and `fields`."""
        shown = await self.page(path)
        token = re.search(r'name="csrf" value="([^"]*)"', shown.text)
        assert token is not None, shown.text
        sent = {"csrf": token[1], **{name.rstrip("_"): value for name, value in fields.items()}}
        return await self.post(to or path.partition("?")[0], sent, Accept="text/html")

    async def sign_in(self, login: str, password: str) -> Answer:
        """Fill the page of signing in."""
        return await self.fill("/login", login=login, password=password)

    async def _ask(
        self, method: str, path: str, form: dict[str, str] | None, headers: dict[str, str]
    ) -> Answer:
        headers = {"Accept": "application/json", **headers}
        async with self.session.request(
            method, self.base + path, data=form, headers=headers, allow_redirects=False
        ) as answer:
            text = await answer.text()
            parsed = await answer.json(content_type=None) if "json" in answer.content_type else None
            return Answer(answer.status, text, parsed, answer.headers)


@dataclass(slots=True)
class Site:
    """A running server."""

    base: str
    keeper: Keeper
    guard: IdentityGuard
    sign_in: SignIn
    database: Database

    @asynccontextmanager
    async def client(self, **headers: str) -> AsyncIterator[Client]:
        """A fresh browser."""
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar, headers=headers) as session:
            yield Client(self.base, session)


@asynccontextmanager
async def serve_site(database: Database, *, audit: bool = False) -> AsyncIterator[Site]:
    """Serve on a free port of loopback."""
    settings = replace(database.settings, http=HttpSettings(bind=f"127.0.0.1:{free_port()}"))
    keeper = await Keeper.open(database)
    guard = IdentityGuard(keeper, settings.access)
    sign_in = SignIn(database, settings.access)
    app = make_app(settings)
    app[GUARD] = guard
    trail = AuditTrail.open(settings) if audit else None
    if trail is not None:
        app[AUDIT] = trail
    setup(app, Identity(database, sign_in, guard))
    app.router.add_get("/", home)
    app.router.add_get("/search", search)
    app.router.add_get("/studies/{study}", read)
    app.router.add_post("/studies", store)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    host, _, port = settings.http.bind.rpartition(":")
    await web.TCPSite(runner, host, int(port)).start()
    try:
        yield Site(f"http://{settings.http.bind}", keeper, guard, sign_in, database)
    finally:
        await runner.cleanup()
        await keeper.close()
        if trail is not None:
            trail.close()
