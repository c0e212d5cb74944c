"""Pages of API clients: programs that ask with a bearer token, shown once."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from identity.clients.service import (
    MANAGE,
    NewClient,
    create_client,
    list_clients,
    revoke_client,
    rotate_client,
)
from identity.console.domain import places
from identity.console.forms import (
    PAGE,
    administered,
    database_of,
    day,
    form_of,
    form_status,
    number,
    start_of,
    subject_of,
    writing,
    wrong,
)
from identity.grants.domain import Subject
from identity.grants.service import NewGrant, grant, load_rights
from identity.organisations.service import load_tree
from kernel.errors import AppError
from kernel.i18n.catalog import marked
from kernel.web.guard import requires
from kernel.web.pages import is_fragment, render, see_other

# Roles that are made for programs.
ROLES = ("sender", "reader")
FIELDS = {
    "client.name": "name",
    "account.networks": "networks",
    "organisation.not_found": "place",
    "form.day": "until",
}


def setup(app: web.Application) -> None:
    """Add the pages."""
    app.router.add_get("/clients", clients_page)
    app.router.add_post("/clients", clients_page)
    app.router.add_get("/clients/new", new_page)
    app.router.add_post("/clients/new", new_page)
    app.router.add_post("/clients/{client:\\d+}/rotate", rotated)
    app.router.add_post("/clients/{client:\\d+}/revoke", revoked)


@requires(MANAGE)
async def clients_page(request: web.Request) -> web.Response:
    """GET /clients: the programs that may ask, and what for; POST searches and continues."""
    scope, form = await administered(request), await form_of(request)
    text, (name, _, last) = form.get("text", "")[:100], form.get("after", "").rpartition("#")
    after = (name, number(last) or 0) if last else None
    async with database_of(request).session(scope) as session:
        found = await list_clients(session, scope, text=text, after=after, limit=PAGE + 1)
        tree = await load_tree(session)
        rights = await load_rights(session)
    held = {one.id: rights.grants.get(Subject("client", one.id), []) for one in found}
    context = {
        "clients": found[:PAGE],
        "after": f"{found[PAGE - 1].name}#{found[PAGE - 1].id}" if len(found) > PAGE else "",
        "first": after is None,
        "text": text,
        "tree": tree,
        "held": held,
        "roles": rights.catalogue.roles,
        "now": time.time(),
    }
    template = "client_rows.html" if is_fragment(request) else "clients.html"
    return render(request, f"console/{template}", context)


@requires(MANAGE)
async def new_page(request: web.Request) -> web.StreamResponse:
    """GET /clients/new: the form of a new client; POST makes it and shows its token once.

    The role is granted by the person, so it can only be one that the person may grant there.
    """
    scope, form = await administered(request), await form_of(request)
    said: dict[str, Any] = {"errors": {}, "error": ""}
    if request.method == "POST":
        try:
            place = number(form.get("place", ""))
            new = NewClient(
                form.get("name", ""),
                organisation_id=place,
                networks=form.get("networks", ""),
                expires_at=start_of(day(form.get("until", "")), end=True),
            )
            async with writing(request) as session:
                made, token = await create_client(session, scope, new)
                role = form.get("role", "")
                subject = Subject("client", made.id)
                await grant(session, subject_of(scope), NewGrant(subject, role, place))
        except AppError as error:
            said = wrong(request, error, FIELDS)
        else:
            return render(request, "console/client_token.html", {"name": made.name, "token": token})
    async with database_of(request).session(scope) as session:
        tree = await load_tree(session)
        rights = await load_rights(session)
    context = said | {
        "form": form,
        "places": places(tree, scope),
        "roles": [(one, rights.catalogue.roles[one].title) for one in ROLES],
    }
    status = form_status(said)
    return render(request, "console/client_form.html", context, status=status)


@requires(MANAGE)
async def rotated(request: web.Request) -> web.Response:
    """POST /clients/{client}/rotate: a new token, shown once; the old one counts one more day."""
    scope, client_id = await administered(request), int(request.match_info["client"])
    async with writing(request) as session:
        token = await rotate_client(session, scope, client_id)
    return render(request, "console/client_token.html", {"name": "", "token": token})


@requires(MANAGE)
async def revoked(request: web.Request) -> web.StreamResponse:
    """POST /clients/{client}/revoke: end it for good."""
    scope = await administered(request)
    async with writing(request) as session:
        await revoke_client(session, scope, int(request.match_info["client"]))
    raise see_other("/clients", marked("The client was revoked."))
