"""Pages of roles: what they let people do, and those that the installation makes itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from aiohttp import web

from identity.console.forms import (
    administered,
    database_of,
    form_of,
    form_status,
    subject_of,
    writing,
    wrong,
)
from identity.grants.domain import GRANT
from identity.grants.service import change_role, define_role, load_rights, remove_role
from identity.roles.domain import Role, built_in, permissions
from kernel.errors import AppError, NotFound
from kernel.i18n.catalog import marked
from kernel.web.guard import PERMISSIONS, requires, scope_of
from kernel.web.pages import render, see_other

# Permissions as people think of them: (msgid, beginnings of their names).
AREAS: Sequence[tuple[str, tuple[str, ...]]] = (
    (marked("Studies"), ("archive.study.", "archive.patient.", "archive.capability.")),
    (marked("Privacy"), ("archive.identifiers.", "archive.sensitive.")),
    (marked("Emergency access"), ("identity.break_glass.",)),
    (marked("People and places"), ("identity.", "citizen.")),
    (marked("System"), ("gateway.", "system.")),
)
# What everybody has, every resident, and another node alone.
_NOT_OFFERED = frozenset({"identity.self", "citizen.self", "archive.pack.read"})
FIELDS = {
    "role.code": "code",
    "role.exists": "code",
    "role.title": "title",
}


def setup(app: web.Application) -> None:
    """Add the pages."""
    one = "/roles/{role:[a-z0-9_]+}"
    app.router.add_get("/roles", roles_page)
    app.router.add_get("/roles/new", new_page)
    app.router.add_post("/roles/new", new_page)
    app.router.add_get(one + "/edit", edit_page)
    app.router.add_post(one + "/edit", edit_page)
    app.router.add_post(one + "/remove", removed)


@requires(GRANT)
async def roles_page(request: web.Request) -> web.Response:
    """GET /roles: what each role lets its holder do and pass on, and which exclude each other."""
    scope = await administered(request)
    async with database_of(request).session(scope) as session:
        rights = await load_rights(session)
    catalogue, system = rights.catalogue, built_in().roles
    holders: dict[str, int] = {}
    for some in rights.grants.values():
        for code in {one.role for one in some}:
            holders[code] = holders.get(code, 0) + 1
    roles = sorted(catalogue.roles.values(), key=lambda one: one.code in system)
    context = {
        "roles": [(one, one.code not in system, _areas(one.permissions)) for one in roles],
        "passed_on": {one.code: _areas(one.delegates - one.permissions) for one in roles},
        "holders": holders,
        "conflicts": catalogue.conflicts,
        "duties": catalogue.duties,
        "catalogue": catalogue,
        "permission_words": PERMISSIONS,
        "may_define": scope.owners is None,
    }
    return render(request, "console/roles.html", context)


@requires(GRANT)
async def new_page(request: web.Request) -> web.StreamResponse:
    """GET /roles/new: the form of a role of the installation's own; POST makes it."""
    form, chosen = await form_of(request), await _chosen(request)
    said: dict[str, Any] = {"errors": {}, "error": ""}
    if request.method == "POST":
        try:
            async with writing(request) as session:
                by = subject_of(scope_of(request))
                title = form.get("title", "")
                await define_role(session, form.get("code", ""), title, *chosen, by=by)
        except AppError as error:
            said = wrong(request, error, FIELDS)
        else:
            raise see_other("/roles", marked("The role was made. Grant it on a person's page."))
    return _form(request, said, form, None, chosen)


@requires(GRANT)
async def edit_page(request: web.Request) -> web.StreamResponse:
    """GET /roles/{role}/edit: change an own role; POST does it, at once for all who hold it."""
    form, chosen = await form_of(request), await _chosen(request)
    said: dict[str, Any] = {"errors": {}, "error": ""}
    async with database_of(request).session(scope_of(request)) as session:
        role = (await load_rights(session)).catalogue.roles.get(request.match_info["role"])
    if role is None or role.code in built_in().roles:
        raise NotFound("role.not_found", "There is no such role of this installation.")
    if request.method == "POST":
        try:
            async with writing(request) as session:
                by = subject_of(scope_of(request))
                await change_role(session, role.code, form.get("title", ""), *chosen, by=by)
        except AppError as error:
            said = wrong(request, error, FIELDS)
        else:
            raise see_other("/roles", marked("The change was saved."))
    else:
        chosen = (sorted(role.permissions), sorted(role.delegates))
    return _form(request, said, form, role, chosen)


@requires(GRANT)
async def removed(request: web.Request) -> web.StreamResponse:
    """POST /roles/{role}/remove: forget an own role that nobody holds."""
    async with writing(request) as session:
        await remove_role(session, request.match_info["role"], by=subject_of(scope_of(request)))
    raise see_other("/roles", marked("The role was removed."))


def _form(
    request: web.Request,
    said: dict[str, Any],
    form: dict[str, str],
    role: Role | None,
    chosen: tuple[Sequence[str], Sequence[str]],
) -> web.Response:
    context = said | {
        "form": form,
        "role": role,
        "areas": _areas(permissions() - _NOT_OFFERED),
        "chosen": chosen,
        "duties": built_in().duties,
        "permission_words": PERMISSIONS,
    }
    status = form_status(said)
    return render(request, "console/role_form.html", context, status=status)


async def _chosen(request: web.Request) -> tuple[Sequence[str], Sequence[str]]:
    """The ticked permissions: what the holder may do, what the holder may pass on."""
    if request.method != "POST":
        return (), ()
    posted = await request.post()
    do, pass_on = ([str(one) for one in posted.getall(name, [])] for name in ("do", "pass"))
    return do, pass_on


def _areas(some: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Permissions by area, those without any left out."""
    left, found = sorted(some), []
    for label, starts in AREAS:
        here = [one for one in left if one.startswith(starts)]
        left = [one for one in left if one not in here]
        if here:
            found.append((label, here))
    return found
