"""The whole web application on a free port, with places and people, for tests of the console."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
from aiohttp import web
from sqlalchemy import event

from identity.grants.domain import Subject
from identity.grants.service import NewGrant, grant
from kernel.db.database import Database
from kernel.settings import HttpSettings, Settings
from server.console.routes import DATABASE
from server.web_process import build
from tests.identity.people import PASSWORD, make_account
from tests.identity.places import SYSTEM, Places, make_places
from tests.identity.site import Client
from tests.servers import free_port

ENGLISH = {"Accept-Language": "en"}


@dataclass(slots=True)
class ConsoleSite:
    """A running server; `people` are account numbers by login name, all with `PASSWORD`."""

    base: str
    database: Database
    places: Places
    people: dict[str, int] = field(default_factory=dict)

    @asynccontextmanager
    async def signed_in(self, login: str) -> AsyncIterator[Client]:
        """A browser without eyes in which `login` is signed in."""
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar, headers=ENGLISH) as session:
            client = Client(self.base, session)
            assert (await client.sign_in(login, PASSWORD)).status == 303
            yield client

    @contextmanager
    def counted(self) -> Iterator[list[str]]:
        """The statements of requests meanwhile, hot reads too; not those of the guard."""
        said: list[str] = []
        engine, fetch = self.database.engine.sync_engine, self.database.fetch

        def note(_c: Any, _u: Any, statement: str, *_: Any) -> None:
            if _in_request():
                said.append(statement)

        async def fetched(statement: Any, *args: Any) -> Any:
            if _in_request():
                said.append(str(statement.core))
            return await fetch(statement, *args)

        event.listen(engine, "before_cursor_execute", note)
        self.database.fetch = fetched  # type: ignore[method-assign, assignment]
        try:
            yield said
        finally:
            self.database.fetch = fetch  # type: ignore[method-assign]
            event.remove(engine, "before_cursor_execute", note)


def _in_request() -> bool:
    task = asyncio.current_task()
    return task is not None and task.get_coro().__qualname__.startswith("RequestHandler.")


@asynccontextmanager
async def serve_console(settings: Settings, database: Database) -> AsyncIterator[ConsoleSite]:
    """Serve with two counties: an administrator of each level and who reads, reviews, audits."""
    settings = replace(settings, http=HttpSettings(bind=f"127.0.0.1:{free_port()}"))
    places = await make_places(database)
    people = {}
    for login, role, place in (
        ("chief", "platform_admin", None),
        ("county", "county_admin", places.county_a),
        ("manager", "hospital_admin", places.hospital_a1),
        ("doctor", "radiologist", places.hospital_a1),
        ("affairs", "medical_affairs", places.prefecture),
        ("auditor", "auditor", None),
    ):
        made = await make_account(database, login, place or places.prefecture)
        people[login] = made.id
        async with database.session(SYSTEM, write=True) as session:
            await grant(session, None, NewGrant(Subject("account", made.id), role, place))
    async with AsyncExitStack() as stack:
        app = await build(settings, stack)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        host, _, port = settings.http.bind.rpartition(":")
        await web.TCPSite(runner, host, int(port)).start()
        yield ConsoleSite(f"http://{settings.http.bind}", app[DATABASE], places, people)
