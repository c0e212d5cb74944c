"""The whole server with its background parts in this process, and an application beside it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
from aiohttp import web
from authlib.common.security import generate_token
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from identity.applications.domain import Application
from identity.applications.service import Facts, register
from identity.pages.routes import IDENTITY
from identity.provider.doors import PROVIDER
from identity.provider.service import LOGOUT_JOB, Provider
from identity.sessions.service import ENDED
from kernel.db.database import Database
from kernel.events.dispatcher import Dispatcher
from kernel.jobs.runner import Jobs
from kernel.notify.routes import OUTBOX
from kernel.notify.service import SEND_JOB
from kernel.settings import HttpSettings, Settings
from server.health import DATABASE
from server.web_process import build
from tests.identity.people import PASSWORD
from tests.identity.places import SYSTEM
from tests.identity.site import Client
from tests.servers import free_port

ENGLISH = {"Accept-Language": "en"}


@dataclass(slots=True)
class SsoSite:
    """A running server."""

    base: str
    app: web.Application
    database: Database
    provider: Provider

    @property
    def keeper(self) -> Any:
        """What the guard knows."""
        return self.app[IDENTITY].guard._keeper

    @asynccontextmanager
    async def browser(self) -> AsyncIterator[Client]:
        """A browser without eyes."""
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar, headers=ENGLISH) as session:
            yield Client(self.base, session)


@asynccontextmanager
async def serve_sso(
    settings: Settings, *, port: int = 0, name: str = "127.0.0.1"
) -> AsyncIterator[SsoSite]:
    """Serve on loopback; events are delivered and jobs done as in the worker, without pauses.

    Cookies know no ports: two servers need two names.
    """
    bind = f"127.0.0.1:{port or free_port()}"
    settings = replace(settings, http=HttpSettings(bind=bind))
    async with AsyncExitStack() as stack:
        app = await build(settings, stack)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        host, _, bound = bind.rpartition(":")
        await web.TCPSite(runner, host, int(bound)).start()
        database, provider = app[DATABASE], app[PROVIDER]
        dispatcher = Dispatcher(database, pause=lambda _: 0.05, poll_s=0.1)
        dispatcher.subscribe("sso", [ENDED], provider.session_ended)
        handlers = {LOGOUT_JOB: provider.tell_logout, SEND_JOB: app[OUTBOX].send}
        jobs = Jobs(database, handlers, poll_s=0.1, pause=lambda _: 0.05)
        tasks = [asyncio.create_task(dispatcher.run()), asyncio.create_task(jobs.run())]
        try:
            yield SsoSite(f"http://{name}:{bound}", app, database, provider)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(slots=True)
class Rp:
    """An application of somebody else: where people are led back, and what it was told."""

    base: str
    told: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    failing: int = 0

    @property
    def callback(self) -> str:
        """The registered address."""
        return f"{self.base}/callback?fixed=1"

    async def register(
        self, database: Database, client_id: str, **more: Any
    ) -> tuple[Application, str]:
        """Make it known to the provider; the secret."""
        kind, audience = more.pop("kind", "confidential"), more.pop("audience", "staff")
        facts = Facts(
            **{
                "name_zh": "县门户",
                "name_en": "County portal",
                "redirect_uris": [self.callback],
                "post_logout_uris": [f"{self.base}/bye"],
                "backchannel_uri": f"{self.base}/backchannel",
                "scopes": ["openid", "profile", "org", "roles", "phone", "studies.read"],
                "first_party": True,
                **more,
            }
        )
        async with database.session(SYSTEM, write=True) as session:
            return await register(session, SYSTEM, client_id, facts, kind=kind, audience=audience)


@asynccontextmanager
async def serve_rp() -> AsyncIterator[Rp]:
    """An application that keeps logout tokens; `failing` times it answers 500 first."""
    rp = Rp(f"http://127.0.0.1:{free_port()}")

    async def backchannel(request: web.Request) -> web.Response:
        if rp.failing:
            rp.failing -= 1
            return web.Response(status=500)
        rp.told.put_nowait(str((await request.post())["logout_token"]))
        return web.Response()

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<h1>Portal</h1>", content_type="text/html")

    app = web.Application()
    app.router.add_post("/backchannel", backchannel)
    app.router.add_get("/callback", page)
    app.router.add_get("/bye", page)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(rp.base.rpartition(":")[2])).start()
    try:
        yield rp
    finally:
        await runner.cleanup()


@dataclass(slots=True)
class Begun:
    """One authorisation request and what belongs to it."""

    path: str
    state: str
    nonce: str
    verifier: str


def begin(client_id: str, redirect_uri: str, scope: str = "openid profile", **more: Any) -> Begun:
    """An authorisation request; a parameter that is None is left out."""
    verifier, state, nonce = generate_token(48), generate_token(12), generate_token(12)
    asked = {
        "client_id": client_id,
        "response_type": "code",
        "redirect_uri": redirect_uri,
        "scope": scope,
        "state": state,
        "nonce": nonce,
        "code_challenge": create_s256_code_challenge(verifier),
        "code_challenge_method": "S256",
        **more,
    }
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    return Begun(f"/sso/authorize?{query}", state, nonce, verifier)


def led_to(location: str) -> dict[str, str]:
    """The parameters of an address."""
    return {name: one[0] for name, one in parse_qs(urlsplit(location).query).items()}


def onward_place(text: str) -> str:
    """Where a page leads on to by itself."""
    found = re.search(r'http-equiv="refresh" content="0;url=([^"]*)"', text)
    assert found is not None, text
    return found[1].replace("&amp;", "&")


async def sign_in(browser: Client, login: str, begun: Begun) -> Mapping[str, str]:
    """Come from an application, sign in with the password, and be led back; the parameters."""
    led = await browser.page(begun.path)
    assert led.status == 303, led.text
    shown = led.headers["Location"]
    done = await browser.fill(
        shown, to="/login", login=login, password=PASSWORD, next=led_to(shown)["next"]
    )
    assert done.status == 200, done.text
    back = await browser.page(onward_place(done.text))
    assert back.status == 303, back.text
    return led_to(back.headers["Location"])
