"""Routes, errors, pages and headers over a real socket."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from io import StringIO
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from kernel import log
from kernel.audit.trail import AuditTrail, trail_folder
from kernel.audit.wire import from_line
from kernel.errors import Conflict, Denied, Invalid, NotFound, Unavailable
from kernel.scope import Actor, Scope
from kernel.settings import HttpSettings, LogSettings, Settings
from kernel.web import language
from kernel.web.app import make_app
from kernel.web.assets import STATIC, Assets
from kernel.web.guard import (
    AUDIT,
    GUARD,
    PERMISSIONS,
    PUBLIC,
    permission_of,
    require_also,
    requires,
    scope_of,
)
from kernel.web.pages import ASSETS, add_templates, render
from kernel.web.problems import prefers_html, status_of
from tests.servers import free_port

SCOPE = Scope(frozenset({1}), Actor("session", "7"), "care")
UNBUILT = Assets({})


class OpenGuard:
    """Lets everybody in, but nobody delete."""

    async def authorise(self, request: web.Request, permission: str) -> Scope:
        if permission == "archive.study.delete":
            raise Denied("access.denied", "You may not do this.")
        if permission == "archive.study.original":
            return replace(SCOPE, owners=frozenset({2, 3}))
        return SCOPE


@requires("archive.study.read")
async def study(request: web.Request) -> web.Response:
    return web.json_response({"owners": sorted(scope_of(request).owners or ())})


@requires("archive.study.read", fold=True)
async def frame(request: web.Request) -> web.Response:
    return web.Response(body=b"frame")


@requires("archive.study.read")
async def original(request: web.Request) -> web.Response:
    await require_also(request, "archive.study.original")
    return web.json_response({"owners": sorted(scope_of(request).owners or ())})


@requires("archive.study.delete")
async def remove(request: web.Request) -> web.Response:
    return web.Response()


@requires(PUBLIC)
async def raising(request: web.Request) -> web.Response:
    errors = {
        "not_found": NotFound("study.not_found", "Study {uid} is not here.", uid="1.2"),
        "conflict": Conflict("test.conflict", "No."),
        "invalid": Invalid("test.invalid", "No."),
        "unavailable": Unavailable("test.unavailable", "No."),
        "bug": RuntimeError("王小明"),
    }
    raise errors[request.match_info["kind"]]


@requires(PUBLIC)
async def breaking(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"half")
    raise Unavailable("test.unavailable", "No.")


@requires(PUBLIC)
async def page(request: web.Request) -> web.Response:
    return render(request, "hello.html", {"name": "<王>"})


@asynccontextmanager
async def serving(
    settings: Settings, trail: AuditTrail | None = None, templates: Path | None = None
) -> AsyncIterator[aiohttp.ClientSession]:
    port = free_port()
    bound = replace(settings, http=replace(settings.http, bind=f"127.0.0.1:{port}"))
    app = make_app(bound)
    app[GUARD] = OpenGuard()
    if trail is not None:
        app[AUDIT] = trail
    if templates is not None:
        app[ASSETS] = UNBUILT
        add_templates(app, templates)
    app.router.add_get("/studies/{study}", study)
    app.router.add_get("/studies/{study}/frames/{frame}", frame)
    app.router.add_get("/studies/{study}/original", original)
    app.router.add_delete("/studies/{study}", remove)
    app.router.add_get("/raise/{kind}", raising)
    app.router.add_get("/breaking", breaking)
    app.router.add_get("/page", page)
    app.router.add_get("/share/{token}", page)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        jar = aiohttp.CookieJar(unsafe=True)  # cookies of an IP address too
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", cookie_jar=jar) as client:
            yield client
    finally:
        await runner.cleanup()


@pytest.fixture
def plain(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path)


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "hello.html").write_text("<html lang='{{ lang }}'>{{ _('Not found') }} {{ name }}")
    return folder


async def test_a_handler_gets_the_scope_that_the_guard_gave(plain: Settings) -> None:
    async with serving(plain) as client, client.get("/studies/1.2") as answer:
        assert await answer.json() == {"owners": [1]}


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("not_found", 404, "study.not_found"),
        ("conflict", 409, "test.conflict"),
        ("invalid", 400, "test.invalid"),
        ("unavailable", 503, "test.unavailable"),
        ("bug", 500, "web.internal"),
    ],
)
async def test_an_error_is_a_problem_document(
    plain: Settings, kind: str, status: int, code: str
) -> None:
    async with serving(plain) as client, client.get(f"/raise/{kind}?lang=en") as answer:
        body = await answer.json(content_type="application/problem+json")
        assert (answer.status, body["status"], body["code"]) == (status, status, code)
        assert body["request_id"] == answer.headers["X-Request-ID"]
        assert ("Retry-After" in answer.headers) == (status == 503)
        assert "王" not in json.dumps(body, ensure_ascii=False)
        if kind == "not_found":
            assert body["detail"] == "Study 1.2 is not here."
            assert body["title"] == "Not found"


async def test_what_no_route_knows_is_a_problem_document_too(plain: Settings) -> None:
    async with serving(plain) as client:
        async with client.get("/nowhere") as answer:
            body = await answer.json(content_type="application/problem+json")
            assert (answer.status, body["code"]) == (404, "web.not_found")
        async with client.post("/page") as answer:
            body = await answer.json(content_type="application/problem+json")
            assert (answer.status, body["code"]) == (405, "web.method")
            assert "GET" in answer.headers["Allow"]


async def test_people_get_a_page_instead(plain: Settings) -> None:
    built = (STATIC / "dist" / "manifest.json").is_file()
    headers = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    async with serving(plain) as client, client.get("/raise/not_found", headers=headers) as answer:
        text = await answer.text()
        assert answer.status == 404
        assert answer.content_type == ("text/html" if built else "application/problem+json")
        assert "study.not_found" in text
        assert "未找到" in text


async def test_an_error_after_the_first_byte_breaks_the_answer_off(plain: Settings) -> None:
    async with serving(plain) as client, client.get("/breaking") as answer:
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


def test_the_most_specific_kind_and_code_choose_the_status() -> None:
    class Mine(Conflict):
        pass

    assert status_of(Mine("mine.kind", "No.")) == 409
    assert status_of(Unavailable("storage.full", "No.")) == 507
    assert status_of(Denied("access.unknown", "No.")) == 401


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        ("text/html,*/*;q=0.8", True),
        ("*/*", False),
        ("", False),
        ("application/dicom+json", False),
        ("text/html;q=0.5, application/json", False),
        ("text/html;q=0", False),
        ("text/html;q=x", False),
    ],
)
def test_html_is_sent_to_those_who_name_it(accept: str, html: bool) -> None:
    assert prefers_html(accept) is html


async def test_every_answer_carries_the_security_headers(plain: Settings) -> None:
    async with serving(plain) as client:
        for path in ("/studies/1", "/nowhere", "/raise/bug", "/breaking"):
            async with client.get(path) as answer:
                policy = answer.headers["Content-Security-Policy"]
                assert policy.startswith("default-src 'self'")
                assert "unsafe" not in policy
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Server"] == "Yunying"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:80"}, 421),
        ({"Host": "["}, 400),
        ({"Host": "localhost"}, 200),
        ({"Host": "[::1]:8080"}, 200),
        ({"Host": "reading-room:8080"}, 200),
        ({"Host": "localhost:8080", "Origin": "http://localhost:8080"}, 200),
        ({"Host": "localhost:8080", "Origin": "http://localhost:9090"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[:bad"}, 403),
    ],
)
async def test_on_loopback_foreign_hosts_and_origins_are_refused(
    plain: Settings, headers: dict[str, str], status: int
) -> None:
    named = replace(plain, http=HttpSettings(hosts=("reading-room",)))
    async with serving(named) as client, client.get("/studies/1", headers=headers) as answer:
        assert answer.status in {status, 421 if status == 400 else status}


async def test_a_guarded_access_leaves_an_audit_line(plain: Settings) -> None:
    trail = AuditTrail.open(plain)
    async with serving(plain, trail) as client:
        await client.get("/studies/1.2?PatientName=x")
        await client.get("/studies/1.2/frames/1")
        async with client.delete("/studies/1.2") as denied:
            assert denied.status == 403
            body = await denied.json(content_type="application/problem+json")
            assert body["code"] == "access.denied"
        await client.get("/page")
    trail.close()
    (file,) = trail_folder(plain).iterdir()
    records = [from_line(line) for line in file.read_bytes().splitlines()]
    seen = [(one.action, one.outcome, one.study_instance_uid, one.fold) for one in records]
    assert seen == [
        ("archive.study.read", "ok", "1.2", False),
        ("archive.study.read", "ok", "1.2", True),
        ("archive.study.delete", "denied", "1.2", False),
    ]
    assert records[0].detail == {"method": "GET", "route": "/studies/{study}", "status": 200}
    assert (records[0].actor, records[0].owner_id) == (SCOPE.actor, 1)
    assert records[2].detail["code"] == "access.denied"


async def test_without_a_working_audit_nothing_is_given(plain: Settings) -> None:
    trail = AuditTrail.open(plain)
    trail.close()
    async with serving(plain, trail) as client, client.get("/studies/1.2") as answer:
        body = await answer.json(content_type="application/problem+json")
        assert (answer.status, body["code"]) == (503, "audit.failed")


def test_a_route_cannot_ask_for_an_unknown_permission() -> None:
    with pytest.raises(ValueError, match="PERMISSIONS"):
        requires("no.such.permission")
    assert permission_of(study) == "archive.study.read"
    assert permission_of(test_a_route_cannot_ask_for_an_unknown_permission) is None
    assert all(PERMISSIONS.values())


async def test_a_page_is_in_the_readers_language_and_escapes(
    plain: Settings, templates: Path
) -> None:
    async with serving(plain, templates=templates) as client:
        async with client.get("/page") as answer:
            text = await answer.text()
            assert "lang='zh-CN'" in text
            assert "未找到" in text
            assert "&lt;王&gt;" in text
            assert answer.headers["Cache-Control"] == "no-store"
        async with client.get("/page", headers={"Accept-Language": "en-GB,zh;q=0.5"}) as answer:
            assert "Not found" in await answer.text()
        async with client.get("/page?lang=en") as answer:
            assert answer.cookies["lang"].value == "en"
            assert answer.cookies["lang"]["httponly"]
        async with client.get("/page") as answer:
            assert "lang='en'" in await answer.text()


@pytest.mark.parametrize(
    ("query", "cookie", "accept", "expected"),
    [
        ("en", "zh-CN", "zh", "en"),
        ("xx", "en", "zh", "en"),
        ("", "", "fr,en;q=0.3,zh-TW;q=0.4", "zh-CN"),
        ("", "", "en;q=0", "zh-CN"),
        ("", "", "en;q=x", "zh-CN"),
        ("", "", "", "zh-CN"),
    ],
)
def test_the_strongest_wish_chooses_the_language(
    query: str, cookie: str, accept: str, expected: str
) -> None:
    assert language.choose(query, cookie, accept, "zh-CN") == expected


async def test_static_files_stay_inside_their_folder(plain: Settings) -> None:
    paths = ("../app.py", "%2e%2e/app.py", "dist/../../app.py", "nothing", "dist", "dist/.vite/x")
    async with serving(plain) as client:
        for path in paths:
            async with client.get(f"/static/{path}") as answer:
                assert answer.status == 404


async def test_a_built_file_may_be_kept_for_ever(plain: Settings) -> None:
    built = sorted((STATIC / "dist" / "assets").glob("*.css"))
    if not built:
        pytest.skip("the front end was not built: make setup")
    async with serving(plain) as client, client.get(f"/static/dist/assets/{built[0].name}") as got:
        assert got.status == 200
        assert "immutable" in got.headers["Cache-Control"]
        assert got.content_type == "text/css"


async def test_the_access_log_has_neither_query_nor_token(plain: Settings, templates: Path) -> None:
    out = StringIO()
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    log.configure(replace(plain, log=LogSettings(format="json")), out)
    async with serving(plain, templates=templates) as client:
        await client.get("/studies/1.2?PatientName=王小明")
        await client.get("/share/verysecret")
        await client.get("/王小明")
        await client.get("/raise/bug")
    root.handlers[:], root.level = before
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    access = [one for one in lines if one["event"] == "http.request"]
    assert [one["path"] for one in access] == ["/studies/1.2", "/share/{token}", "", "/raise/bug"]
    assert [one["status"] for one in access] == [200, 200, 404, 500]
    assert all(len(one["request_id"]) == 16 and one["duration_ms"] >= 0 for one in access)
    assert "verysecret" not in out.getvalue()
    assert "PatientName" not in out.getvalue()


async def test_a_second_permission_narrows_the_scope_of_the_first(
    plain: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.SCOPE", replace(SCOPE, owners=frozenset({1, 2})))
    async with serving(plain) as client, client.get("/studies/1.2/original") as answer:
        assert await answer.json() == {"owners": [2]}
