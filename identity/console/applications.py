"""Pages of applications: other programs that sign people in here, and the keys that sign."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from identity.applications.domain import OPENID, SCOPES, Application
from identity.applications.service import (
    MANAGE,
    Facts,
    edit,
    get_application,
    list_applications,
    register,
    rotate_secret,
    set_state,
)
from identity.console.forms import (
    Form,
    administered,
    database_of,
    form_of,
    form_status,
    writing,
    wrong,
)
from identity.provider.doors import PROVIDER, issuer_of
from identity.signing_keys.domain import signing
from identity.signing_keys.service import load_keys, rotate
from kernel.errors import AppError
from kernel.i18n.catalog import marked
from kernel.web.guard import requires
from kernel.web.pages import render, see_other

FIELDS = {
    "application.client_id": "client_id",
    "application.exists": "client_id",
    "application.redirect_uri": "redirect_uris",
    "application.post_logout_uri": "post_logout_uris",
    "application.backchannel": "backchannel_uri",
    "application.scope": "scopes",
}
KINDS = {
    "confidential": marked("With a server of its own, which keeps a secret"),
    "public": marked("On a phone or in a browser, without a secret"),
}
AUDIENCES = {"staff": marked("Staff"), "citizen": marked("Residents")}


def setup(app: web.Application) -> None:
    """Add the pages."""
    app.router.add_get("/applications", applications_page)
    app.router.add_get("/applications/new", new_page)
    app.router.add_post("/applications/new", new_page)
    app.router.add_post("/applications/keys/rotate", keys_rotated)
    app.router.add_get("/applications/{application:\\d{1,18}}", edit_page)
    app.router.add_post("/applications/{application:\\d{1,18}}", edit_page)
    app.router.add_post("/applications/{application:\\d{1,18}}/secret", secret_rotated)
    app.router.add_post("/applications/{application:\\d{1,18}}/state", state_set)


@requires(MANAGE)
async def applications_page(request: web.Request) -> web.Response:
    """GET /applications: the programs that sign people in here, and the keys that sign."""
    scope, now = await administered(request), time.time()
    async with database_of(request).session(scope) as session:
        found = await list_applications(session)
        keys = await load_keys(session)
    current = signing(keys, now)
    context = {
        "applications": found,
        "audiences": AUDIENCES,
        "issuer": issuer_of(request),
        "keys": [
            {
                "id": one.id[:12],
                "days": int((now - one.created_at) // 86400),
                "state": _key_state(one.signs_from, one is current, now),
            }
            for one in reversed(keys)
        ],
        "key_days": request.app[PROVIDER].settings.key_days,
    }
    return render(request, "console/applications.html", context)


@requires(MANAGE)
async def new_page(request: web.Request) -> web.StreamResponse:
    """GET /applications/new: the form of a new application; POST registers it."""
    scope, form = await administered(request), await form_of(request)
    said: dict[str, Any] = {"errors": {}, "error": ""}
    if request.method == "POST":
        try:
            async with writing(request) as session:
                made, secret = await register(
                    session,
                    scope,
                    form.get("client_id", ""),
                    _facts(form),
                    kind=form.get("kind", ""),
                    audience=form.get("audience", ""),
                )
        except AppError as error:
            said = wrong(request, error, FIELDS)
        else:
            if not secret:
                raise see_other("/applications", marked("The application was registered."))
            return _secret(request, made.client_id, secret)
    chosen = {f"scope.{one}" for one in (OPENID, "profile")} if not form else set(form)
    return _form(request, form, chosen, said, None)


@requires(MANAGE)
async def edit_page(request: web.Request) -> web.StreamResponse:
    """GET /applications/{application}: the form of one application; POST changes it."""
    scope, form = await administered(request), await form_of(request)
    number = int(request.match_info["application"])
    said: dict[str, Any] = {"errors": {}, "error": ""}
    if request.method == "POST":
        try:
            async with writing(request) as session:
                await edit(session, scope, number, _facts(form))
        except AppError as error:
            said = wrong(request, error, FIELDS)
        else:
            raise see_other("/applications", marked("The application was changed."))
    async with database_of(request).session(scope) as session:
        one = await get_application(session, number)
    if not form:
        form = {
            "name_zh": one.name_zh,
            "name_en": one.name_en,
            "redirect_uris": "\n".join(one.redirect_uris),
            "post_logout_uris": "\n".join(one.post_logout_uris),
            "backchannel_uri": one.backchannel_uri,
            **({"first_party": "on"} if one.first_party else {}),
            **{f"scope.{name}": "on" for name in one.scopes},
        }
    return _form(request, form, set(form), said, one)


@requires(MANAGE)
async def secret_rotated(request: web.Request) -> web.Response:
    """POST /applications/{application}/secret: a new secret, shown once; the old one a day more."""
    scope, number = await administered(request), int(request.match_info["application"])
    async with writing(request) as session:
        one = await get_application(session, number)
        secret = await rotate_secret(session, scope, number)
    return _secret(request, one.client_id, secret)


@requires(MANAGE)
async def state_set(request: web.Request) -> web.StreamResponse:
    """POST /applications/{application}/state: disable it, with all that it holds, or enable it."""
    scope, form = await administered(request), await form_of(request)
    async with writing(request) as session:
        number = int(request.match_info["application"])
        await set_state(session, scope, number, form.get("state", ""))
    raise see_other("/applications", marked("The application was changed."))


@requires(MANAGE)
async def keys_rotated(request: web.Request) -> web.StreamResponse:
    """POST /applications/keys/rotate: a new key, which signs once everybody can know it."""
    scope = await administered(request)
    async with writing(request) as session:
        await rotate(session, request.app[PROVIDER].sealer, scope)
    raise see_other("/applications", marked("A new key was made; it signs in ten minutes."))


def _facts(form: Form) -> Facts:
    return Facts(
        form.get("name_zh", ""),
        form.get("name_en", ""),
        form.get("redirect_uris", "").splitlines(),
        form.get("post_logout_uris", "").splitlines(),
        form.get("backchannel_uri", ""),
        [one for one in SCOPES if f"scope.{one}" in form],
        "first_party" in form,
    )


def _form(
    request: web.Request,
    form: Form,
    chosen: set[str],
    said: dict[str, Any],
    one: Application | None,
) -> web.Response:
    context = said | {
        "form": form,
        "one": one,
        "scopes": [
            (name, text, name == OPENID or f"scope.{name}" in chosen)
            for name, text in SCOPES.items()
        ],
        "kinds": KINDS,
        "audiences": AUDIENCES,
    }
    return render(request, "console/application_form.html", context, status=form_status(said))


def _secret(request: web.Request, client_id: str, secret: str) -> web.Response:
    context = {"client_id": client_id, "secret": secret, "issuer": issuer_of(request)}
    return render(request, "console/application_secret.html", context)


def _key_state(signs_from: float, is_current: bool, now: float) -> tuple[str, str]:
    if is_current:
        return marked("Signs"), "good"
    return (marked("Signs soon"), "info") if signs_from > now else (marked("Followed"), "calm")
