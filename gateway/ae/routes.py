"""Pages of DICOM nodes: the list, adding, changing, and the test by C-ECHO."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

from archive.versions.domain import POLICIES
from gateway.ae.domain import LOCAL_OWNER, Ae, check_same_uid
from gateway.ae.service import add_ae, change_ae, get_ae, list_aes, remove_ae
from kernel.audit.figures import last_of_nodes
from kernel.db.database import Database
from kernel.errors import AppError, Invalid, NotFound
from kernel.i18n.catalog import marked
from kernel.scope import Scope
from kernel.web.guard import requires, scope_of
from kernel.web.pages import add_templates, is_fragment, render, see_other, words_of

MANAGE = "gateway.ae.manage"
TEMPLATES = Path(__file__).parent / "templates"
LOOK_BACK = timedelta(days=7)
PAGE = 50
POLICY_WORDS: Mapping[str, str] = {
    "first": marked("The first one is shown"),
    "last": marked("The last one is shown"),
    "last_same_patient": marked("The last one is shown where the patient is the same"),
}
STATE_WORDS: Mapping[str, str] = {
    "active": marked("Active"),
    "suspended": marked("Suspended"),
}
FIELDS = {
    "ae.title": "title",
    "ae.exists": "title",
    "ae.address": "host",
    "ae.same_uid": "same_uid",
    "owner.not_found": "owner",
}


# The time that a C-ECHO took, in milliseconds; raises Unavailable or Denied `peer.*`.
Echo = Callable[[Ae], Awaitable[float]]


@dataclass(frozen=True, slots=True)
class Nodes:
    """What the pages work with.

    `places` gives the owners within a scope as (number, name, depth); the composition knows names.
    """

    database: Database
    echo: Echo
    places: Callable[[Scope], Awaitable[Sequence[tuple[int, str, int]]]]


NODES: web.AppKey[Nodes] = web.AppKey("gateway.nodes", Nodes)


def setup(app: web.Application, nodes: Nodes) -> None:
    """Add the pages."""
    app[NODES] = nodes
    add_templates(app, TEMPLATES)
    app.router.add_get("/aes", nodes_page)
    app.router.add_post("/aes", nodes_page)
    app.router.add_get("/aes/new", new_page)
    app.router.add_post("/aes/new", new_page)
    app.router.add_get("/aes/edit", edit_page)
    app.router.add_post("/aes/edit", edit_page)
    app.router.add_post("/aes/remove", removed)
    app.router.add_post("/aes/echo", echoed)


@requires(MANAGE)
async def nodes_page(request: web.Request) -> web.Response:
    """GET /aes: the nodes of the institutions that the person administers, and when they sent.

    POST searches them by title, address and institution, and continues the list.
    """
    scope, nodes, form = scope_of(request), request.app[NODES], await _form(request)
    text, after = form.get("text", "")[:100], form.get("after", "")
    names = {number: name for number, name, _ in await nodes.places(scope)}
    owners = [number for number, name in names.items() if text and text.lower() in name.lower()]
    async with nodes.database.session(scope) as session:
        found = await list_aes(
            session, scope, text=text, owners=owners, after=after, limit=PAGE + 1
        )
    async with nodes.database.session(Scope.system("last seen")) as session:
        heard = await last_of_nodes(session, datetime.now(UTC) - LOOK_BACK)
    context = {
        "nodes": found[:PAGE],
        "after": found[PAGE - 1].title if len(found) > PAGE else "",
        "first": not after,
        "text": text,
        "heard": heard,
        "names": names,
        "state_words": STATE_WORDS,
    }
    template = "ae/node_rows.html" if is_fragment(request) else "ae/nodes.html"
    return render(request, template, context)


@requires(MANAGE)
async def new_page(request: web.Request) -> web.StreamResponse:
    """GET /aes/new: the form of a new node; POST registers it."""
    scope, form = scope_of(request), await _form(request)
    said: dict[str, Any] = {"errors": {}, "error": ""}
    if request.method == "POST":
        try:
            owner = _owner(scope, form)
            async with request.app[NODES].database.session(scope, write=True) as session:
                await add_ae(
                    session,
                    form.get("title", ""),
                    form.get("host", ""),
                    _port(form),
                    owner_id=owner,
                    charset=form.get("charset", ""),
                    same_uid=form.get("same_uid", "first"),
                )
        except AppError as error:
            said = _wrong(request, error)
        else:
            raise see_other("/aes", marked("The node was registered."))
    return await _form_page(request, None, form, said)


@requires(MANAGE)
async def edit_page(request: web.Request) -> web.StreamResponse:
    """GET /aes/edit?title=…: the form of a node; POST changes it."""
    scope, form = scope_of(request), await _form(request)
    database = request.app[NODES].database
    said: dict[str, Any] = {"errors": {}, "error": ""}
    title = form.get("title", request.query.get("title", ""))
    async with database.session(scope) as session:
        node = _seen(scope, await get_ae(session, title))
    if request.method == "POST":
        try:
            new = Ae(
                node.title,
                form.get("host", ""),
                _port(form),
                _owner(scope, form),
                form.get("charset", ""),
                "suspended" if form.get("state") == "suspended" else "active",
                check_same_uid(form.get("same_uid", "first")),
            )
            async with database.session(scope, write=True) as session:
                await change_ae(session, new)
        except AppError as error:
            said = _wrong(request, error)
        else:
            raise see_other("/aes", marked("The change was saved."))
    return await _form_page(request, node, form, said)


@requires(MANAGE)
async def removed(request: web.Request) -> web.StreamResponse:
    """POST /aes/remove: forget a node; what it sent stays."""
    scope, form = scope_of(request), await _form(request)
    async with request.app[NODES].database.session(scope, write=True) as session:
        node = _seen(scope, await get_ae(session, form.get("title", "")))
        await remove_ae(session, node.title)
    raise see_other("/aes", marked("The node was forgotten."))


@requires(MANAGE)
async def echoed(request: web.Request) -> web.Response:
    """POST /aes/echo: ask a node by C-ECHO whether it is there; the answer is a fragment."""
    scope, form = scope_of(request), await _form(request)
    nodes = request.app[NODES]
    async with nodes.database.session(scope) as session:
        node = _seen(scope, await get_ae(session, form.get("title", "")))
    try:
        taken_ms: float | None = await nodes.echo(node)
        words = ""
    except AppError as error:
        taken_ms, words = None, words_of(request, error)
    return render(request, "ae/echo.html", {"taken_ms": taken_ms, "words": words})


async def _form_page(
    request: web.Request, node: Ae | None, form: dict[str, str], said: dict[str, Any]
) -> web.Response:
    places = await request.app[NODES].places(scope_of(request))
    context = said | {
        "node": node,
        "form": form,
        "places": places or [(LOCAL_OWNER, "local", 0)],
        "policies": [(one, POLICY_WORDS[one]) for one in POLICIES],
        "states": STATE_WORDS,
    }
    status = 400 if said["errors"] or said["error"] else 200
    return render(request, "ae/node_form.html", context, status=status)


async def _form(request: web.Request) -> dict[str, str]:
    if request.method != "POST":
        return {}
    posted = await request.post()
    return {name: one.strip() for name, one in posted.items() if isinstance(one, str)}


def _seen(scope: Scope, node: Ae) -> Ae:
    if not scope.covers(node.owner_id):
        raise NotFound("ae.not_found", "AE title {title} is not registered.", title=node.title)
    return node


def _owner(scope: Scope, form: Mapping[str, str]) -> int:
    text = form.get("owner", "")
    if not (text.isascii() and text.isdigit()) or not scope.covers(int(text)):
        raise NotFound("owner.not_found", "There is no owner {id}.", id=text)
    return int(text)


def _port(form: Mapping[str, str]) -> int:
    text = form.get("port", "")
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise Invalid(
            "ae.address",
            "{host}:{port} is not an address of a DICOM node.",
            host=form.get("host", ""),
            port=text,
        )
    return int(text)


def _wrong(request: web.Request, error: AppError) -> dict[str, Any]:
    name, words = FIELDS.get(error.code), words_of(request, error)
    return {"errors": {name: words}, "error": ""} if name else {"errors": {}, "error": words}
