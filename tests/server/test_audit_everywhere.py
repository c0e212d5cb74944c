"""Every route of the real application leaves an audit line: given, failed and refused accesses."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp import web

from identity.accounts.passwords import Hashing
from identity.accounts.service import find_account
from identity.clients.service import NewClient, create_client
from identity.first_start.service import ensure_admin
from identity.grants.domain import Subject
from identity.grants.service import NewGrant, grant
from kernel.audit.domain import AuditRecord
from kernel.audit.service import recent
from kernel.db.database import Database
from kernel.scope import Scope
from kernel.settings import Settings
from kernel.web.guard import AUDIT, PUBLIC, permission_of
from server.web_process import build
from tests.identity.people import PASSWORD, make_account

SYSTEM = Scope.system("test")
# Routes for everybody that give nothing of a patient and change nothing: no line.
SILENT = {
    ("GET", "/healthz"),
    ("GET", "/static/{path}"),
    ("GET", "/login"),
    ("GET", "/login/code"),
    ("GET", "/login/elsewhere"),
    ("GET", "/login/out"),
    ("GET", "/.well-known/openid-configuration"),
    ("GET", "/sso/jwks"),
    ("GET", "/my/login"),
    # Tells an application of a person what that person allowed it, or of its own tokens.
    ("GET", "/sso/userinfo"),
    ("POST", "/sso/userinfo"),
    # A carrier says what became of a message.
    ("POST", "/sms/reports/{provider}/{token}"),
}
# Routes for everybody whose service writes the line itself; each has its test below.
BY_SERVICE = {
    ("POST", "/login"),
    ("POST", "/login/code"),
    ("POST", "/logout"),
    # tests/identity/test_provider.py, test_upstream.py and test_citizens.py
    ("GET", "/login/callback"),
    ("POST", "/login/ended"),
    ("GET", "/sso/authorize"),
    ("POST", "/sso/consent"),
    ("GET", "/sso/logout"),
    ("POST", "/sso/logout"),
    ("POST", "/sso/token"),
    ("POST", "/sso/revoke"),
    ("POST", "/sso/introspect"),
    ("GET", "/my/authorize"),
    ("POST", "/my/consent"),
    ("GET", "/my/leave"),
    ("POST", "/my/leave"),
    ("POST", "/my/login"),
    ("POST", "/my/login/code"),
}
PLACES = {
    **dict.fromkeys(("session", "frames", "number", "organisation", "account", "client"), "1"),
    **dict.fromkeys(("grant", "review", "job", "application"), "999999"),
    "role": "auditor",
    "format": "csv",
    "stack": "0",
    "path": "7fe00010",
}


class KeptTrail:
    """An audit trail in memory."""

    def __init__(self) -> None:
        self.lines: list[AuditRecord] = []

    def note(self, record: AuditRecord) -> None:
        self.lines.append(record)

    async def note_synced(self, record: AuditRecord) -> None:
        self.lines.append(record)

    def check(self) -> None:
        """Everything can be written."""


@dataclass(slots=True)
class Running:
    """The application on a port, its trail, and tokens: of who may everything, of who may none."""

    app: web.Application
    base: str
    trail: KeptTrail
    all_tokens: list[str]
    no_token: str


@pytest.fixture
async def running(settings: Settings, database: Database) -> AsyncIterator[Running]:
    await ensure_admin(database, settings.access, Hashing())
    async with database.session(SYSTEM, write=True) as session:
        admin = await find_account(session, SYSTEM, "admin")
        everything = (await create_client(session, SYSTEM, NewClient("all", admin.id)))[1]
    auditor = await make_account(database, "auditor")
    nobody = await make_account(database, "nobody")
    async with database.session(SYSTEM, write=True) as session:
        await grant(session, None, NewGrant(Subject("account", auditor.id), "auditor", None))
        auditing = (await create_client(session, SYSTEM, NewClient("audit", auditor.id)))[1]
        nothing = (await create_client(session, SYSTEM, NewClient("none", nobody.id)))[1]
    async with AsyncExitStack() as stack:
        app = await build(settings, stack)
        trail = KeptTrail()
        app[AUDIT] = trail  # type: ignore[assignment]
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield Running(app, base, trail, [everything, auditing], nothing)


def guarded(app: web.Application) -> list[tuple[str, str, str]]:
    """(method, address, permission) of every route but the public ones; HEAD goes with GET."""
    found = []
    for route in app.router.routes():
        permission = permission_of(route.handler)
        if route.method == "HEAD" or route.resource is None or permission in (None, PUBLIC):
            continue
        path = re.sub(
            r"\{(\w+)\}", lambda name: PLACES.get(name[1], "1.2.3"), route.resource.canonical
        )
        found.append((route.method, path, str(permission)))
    assert len(found) > 40
    return found


async def test_every_access_and_every_refusal_leaves_a_line(running: Running) -> None:
    silent = []
    async with aiohttp.ClientSession() as client:
        for method, path, permission in guarded(running.app):
            for token in ("", running.no_token, *running.all_tokens):
                running.trail.lines.clear()
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                async with client.request(
                    method, running.base + path, headers=headers, allow_redirects=False
                ) as answer:
                    await answer.read()
                lines = [one for one in running.trail.lines if one.action == permission]
                if not any(_is_whole(one, answer.status, known=bool(token)) for one in lines):
                    silent.append((method, path, answer.status, running.trail.lines[:]))
    assert not silent


def _is_whole(line: AuditRecord, status: int, *, known: bool) -> bool:
    """Who, from where, what and how it ended are there and right; the time is never missing."""
    refused = status in (401, 403, 303) and line.outcome == "denied"
    ended = (line.outcome == "ok") == (status < 400) and line.detail.get("status") == status
    who = bool(line.actor.id) == known
    return who and line.peer == "127.0.0.1" and bool(line.detail["route"]) and (refused or ended)


async def test_every_public_route_is_known_here(running: Running) -> None:
    public = {
        (route.method, route.resource.canonical)
        for route in running.app.router.routes()
        if permission_of(route.handler) == PUBLIC and route.resource and route.method != "HEAD"
    }
    assert public == SILENT | BY_SERVICE


@pytest.mark.backend
async def test_signing_in_and_everything_around_it_leaves_lines(
    running: Running, database: Database
) -> None:
    yang = await make_account(database, "yang")
    jar = aiohttp.CookieJar(unsafe=True)
    headers = {"Sec-Fetch-Site": "same-origin"}
    async with aiohttp.ClientSession(cookie_jar=jar, headers=headers) as client:

        async def send(path: str, **fields: str) -> int:
            page = path if path.startswith(("/login", "/account")) else "/account"
            async with client.get(running.base + page) as answer:
                found = re.search(r'name="csrf" value="(\w+)"', await answer.text())
            form = {**fields, "csrf": found[1] if found else ""}
            async with client.post(running.base + path, data=form, allow_redirects=False) as answer:
                return answer.status

        await send("/login", login="yang", password="wrong")
        assert await send("/login", login="yang", password=PASSWORD) == 303
        await send("/account/password", old="wrong", new="x", again="x")
        assert await send("/account/password", old=PASSWORD, new="Yc9!kpqr2t", again="Yc9!kpqr2t")
        await send("/logout")
        for _ in range(6):
            await send("/login", login="yang", password="wrong")
    lines = await _lines(database, str(yang.id))
    seen = [(line.action, line.outcome, line.detail.get("code")) for line in lines]
    wrong = ("identity.sign_in", "denied", "sign_in.wrong")
    assert seen.count(wrong) == 6
    assert ("identity.sign_in", "denied", "password.wrong") in seen
    assert ("identity.sign_in", "denied", "sign_in.locked") in seen
    assert ("identity.sign_out", "ok", None) in seen
    assert [one for one in lines if one.detail.get("locked")]
    changed = [one for one in lines if one.detail.get("change") == "password changed"]
    assert len(changed) == 1
    assert all(line.peer == "127.0.0.1" and line.purpose for line in lines)


async def _lines(database: Database, actor_id: str) -> list[AuditRecord]:
    async with database.session(SYSTEM) as session:
        found = await recent(session, SYSTEM, limit=1000)
    return [one for one in found if one.actor.id == actor_id and one.actor.kind == "session"]


async def test_an_answer_that_breaks_off_leaves_a_line_that_says_so(running: Running) -> None:
    from kernel.errors import Unavailable
    from kernel.web.app import make_app
    from kernel.web.guard import GUARD, requires

    @requires("archive.study.read")
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x" * 100_000)
        raise Unavailable("pack.unreachable", "gone")

    app = make_app(Settings())
    app[GUARD], app[AUDIT] = running.app[GUARD], running.trail  # type: ignore[misc]
    app.router.add_get("/half", half)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        headers = {"Authorization": f"Bearer {running.all_tokens[0]}"}
        address = f"http://127.0.0.1:{runner.addresses[0][1]}/half"
        async with aiohttp.ClientSession() as client:
            with pytest.raises(aiohttp.ClientError):
                async with client.get(address, headers=headers) as answer:
                    await answer.read()
    finally:
        await runner.cleanup()
    given, broken = running.trail.lines
    assert (given.outcome, broken.outcome) == ("ok", "failed")
    assert broken.detail["partial"] is True
    assert broken.detail["why"] == "pack.unreachable"
    assert broken.detail["bytes"] >= 100_000
