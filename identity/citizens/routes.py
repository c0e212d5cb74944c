"""Pages for residents: signing in by phone, and what belongs to the sign-in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from identity.citizens.service import Citizens
from identity.guard.keeper import KnownSession
from identity.guard.service import CITIZEN, CITIZEN_COOKIE, CITIZEN_PATH, csrf_of, is_csrf_of
from identity.pages.devices import device_name
from identity.pages.routes import IDENTITY, onward, own_form, own_place, text_of, visitor_of
from identity.sessions.service import end_session, live_sessions
from identity.sign_in.service import SignedIn
from identity.tokens.domain import fingerprint, new_secret
from kernel.errors import AppError, Denied
from kernel.scope import Scope
from kernel.web.guard import PUBLIC, requires
from kernel.web.pages import add_templates, render, words_of
from kernel.web.problems import status_of

TEMPLATES = Path(__file__).parent / "templates"
HOME, LOGIN, CODE = CITIZEN_PATH, f"{CITIZEN_PATH}/login", f"{CITIZEN_PATH}/login/code"
# Ties the forms of signing in to this browser, while there is no session yet.
FORM_COOKIE = "yunying_my_form"
CITIZENS: web.AppKey[Citizens] = web.AppKey("identity.citizens", Citizens)
_OWN = Scope.system("own sign-in")


def setup(app: web.Application, citizens: Citizens) -> None:
    """Add the pages; `identity.pages.routes.setup` has given the resources."""
    app[CITIZENS] = citizens
    add_templates(app, TEMPLATES)
    app.router.add_get(HOME, home)
    app.router.add_get(LOGIN, number_page)
    app.router.add_post(LOGIN, give_number)
    app.router.add_post(CODE, give_code)
    app.router.add_post(f"{HOME}/logout", sign_out)
    app.router.add_post(f"{HOME}/sessions/{{session:\\d{{1,18}}}}/end", end_other_session)


@requires(CITIZEN)
async def home(request: web.Request) -> web.Response:
    """GET /my: who is signed in, where else, and that nothing more is offered yet."""
    known, token = await _mine(request)
    async with request.app[IDENTITY].database.session(_OWN) as session:
        live = await live_sessions(session, known.account_id)
    sessions = [
        {
            "id": one.id,
            "device": device_name(one.agent),
            "seen_at": one.seen_at,
            "here": one.id == known.id,
        }
        for one in live
    ]
    number = await request.app[CITIZENS].shown_number(known.account_id)
    return await _page(request, "home.html", token, {"number": number, "sessions": sessions})


@requires(PUBLIC)
async def number_page(request: web.Request) -> web.Response:
    """GET /my/login: the page where a resident gives the phone number."""
    found = await request.app[IDENTITY].guard.known_session(request, "citizen")
    if found is not None and "again" not in request.query:
        raise web.HTTPSeeOther(_next(request.query.get("next", "")))
    return await _number_form(request)


@requires(PUBLIC)
async def give_number(request: web.Request) -> web.Response:
    """POST /my/login: send a code to the number; the answer is the same for every number."""
    form = await request.post()
    try:
        _check_form(request, form)
        request_id, shown = await request.app[CITIZENS].send_code(
            text_of(form, "number"), visitor_of(request)
        )
    except AppError as error:
        return await _number_form(request, error)
    return await _code_form(request, request_id, shown)


@requires(PUBLIC)
async def give_code(request: web.Request) -> web.StreamResponse:
    """POST /my/login/code: sign in with the code."""
    form = await request.post()
    request_id = text_of(form, "request")
    citizens = request.app[CITIZENS]
    try:
        _check_form(request, form)
        begun = await citizens.with_code(request_id, text_of(form, "code"), visitor_of(request))
    except AppError as error:
        shown = await citizens.shown_request(request_id)
        if not shown or error.code in ("citizen.old", "citizen.locked", "access.form"):
            return await _number_form(request, error)
        return await _code_form(request, request_id, shown, error)
    await _forget(request)
    return _lead_on(request, begun, _next(text_of(form, "next")))


@requires(CITIZEN)
async def sign_out(request: web.Request) -> web.StreamResponse:
    """POST /my/logout: end this session."""
    _, token = await _mine(request)
    await own_form(request, token)
    await _forget(request)
    response = web.HTTPSeeOther(LOGIN)
    response.del_cookie(CITIZEN_COOKIE, path=CITIZEN_PATH)
    raise response


@requires(CITIZEN)
async def end_other_session(request: web.Request) -> web.StreamResponse:
    """POST /my/sessions/…/end: sign out on another device."""
    known, token = await _mine(request)
    await own_form(request, token)
    number = int(request.match_info["session"])
    async with request.app[IDENTITY].database.session(_OWN, write=True) as session:
        await end_session(session, known.account_id, number, "ended by its owner", kind="citizen")
    raise web.HTTPSeeOther(HOME)


async def _mine(request: web.Request) -> tuple[KnownSession, str]:
    found = await request.app[IDENTITY].guard.known_session(request, "citizen")
    if found is None:
        raise Denied("access.citizen", "Please sign in with your phone number.")
    return found


async def _forget(request: web.Request) -> None:
    """End the session that the browser had."""
    identity = request.app[IDENTITY]
    found = await identity.guard.known_session(request, "citizen")
    if found is None:
        return
    async with identity.database.session(_OWN, write=True) as session:
        await end_session(session, found[0].account_id, found[0].id, "signed out", kind="citizen")
    identity.guard.forget(fingerprint(found[1]))


def _lead_on(request: web.Request, begun: SignedIn, place: str) -> web.StreamResponse:
    response: web.Response = onward(request, place)
    lasts_s = int(request.app[CITIZENS].settings.session_s)
    response.set_cookie(
        CITIZEN_COOKIE,
        begun.token,
        max_age=lasts_s,
        path=CITIZEN_PATH,
        httponly=True,
        samesite="Lax",
        secure=request.secure,
    )
    return response


def _next(wanted: str) -> str:
    """A place of residents, or their start page."""
    place = own_place(wanted)
    return place if place == HOME or place.startswith(f"{CITIZEN_PATH}/") else HOME


def _check_form(request: web.Request, form: Mapping[str, Any]) -> None:
    cookie = request.cookies.get(FORM_COOKIE, "")
    if not cookie or not is_csrf_of(text_of(form, "csrf"), cookie):
        raise Denied("access.form", "This page was too old. Please try again.")


async def _number_form(request: web.Request, error: AppError | None = None) -> web.Response:
    return await _form(request, "number.html", {}, error)


async def _code_form(
    request: web.Request, request_id: str, shown: str, error: AppError | None = None
) -> web.Response:
    return await _form(request, "code.html", {"request_id": request_id, "number": shown}, error)


async def _form(
    request: web.Request, template: str, more: Mapping[str, Any], error: AppError | None
) -> web.Response:
    cookie = request.cookies.get(FORM_COOKIE) or new_secret()
    response = await _page(request, template, cookie, more, error)
    response.set_cookie(
        FORM_COOKIE,
        cookie,
        path=CITIZEN_PATH,
        httponly=True,
        samesite="Strict",
        secure=request.secure,
    )
    return response


async def _page(
    request: web.Request,
    template: str,
    token: str,
    more: Mapping[str, Any],
    error: AppError | None = None,
) -> web.Response:
    posted = await request.post() if request.method == "POST" else {}
    wanted = text_of(posted, "next") or request.query.get("next", "")
    context = {
        "csrf": csrf_of(token),
        "next": _next(wanted),
        "error": words_of(request, error) if error else "",
        **more,
    }
    status = status_of(error) if error is not None else 200
    return render(request, f"citizens/{template}", context, status=status)
