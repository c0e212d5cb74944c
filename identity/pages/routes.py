"""Routes of signing in and of one's own account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import segno
from aiohttp import web
from markupsafe import Markup

from identity.accounts import totp
from identity.accounts.service import get_account
from identity.guard.keeper import KnownSession
from identity.guard.service import COOKIE, SELF, IdentityGuard, csrf_of, is_csrf_of
from identity.pages.devices import device_name
from identity.sessions.service import end_session, live_sessions
from identity.sign_in.service import SignedIn, SignIn, Visitor
from identity.tokens.domain import fingerprint, new_secret
from identity.upstream.service import Upstream
from kernel.db.database import Database
from kernel.errors import AppError, Denied, Invalid
from kernel.i18n.catalog import translate
from kernel.scope import Scope
from kernel.web.guard import PUBLIC, requires
from kernel.web.handler import Handler
from kernel.web.language import language_of
from kernel.web.pages import add_templates, render
from kernel.web.problems import prefers_html, status_of

TEMPLATES = Path(__file__).parent / "templates"
# Ties the form of signing in to this browser, while there is no session yet.
FORM_COOKIE = "yunying_form"
# Where a person is led who signs in at another provider.
ELSEWHERE = "/login/elsewhere"
# The login name that an application thinks it will be.
HINT_COOKIE = "yunying_hint"
# Addresses that lead to other sites.
FURTHER = ("/sso/", "/my/authorize")
# Where a person is led who has not signed in, or not to the end.
LEADS: Mapping[str, str] = {
    "access.unknown": "/login",
    "access.citizen": "/my/login",
    "access.code": "/login/code",
    "access.password_change": "/account/password",
}
_OWN = Scope.system("own account")


@dataclass(frozen=True, slots=True)
class Identity:
    """What the pages work with; `upstream` where people sign in elsewhere."""

    database: Database
    sign_in: SignIn
    guard: IdentityGuard
    upstream: Upstream | None = None


IDENTITY: web.AppKey[Identity] = web.AppKey("identity", Identity)


def setup(app: web.Application, identity: Identity) -> None:
    """Add the pages, and lead people without a session to them."""
    app[IDENTITY] = identity
    add_templates(app, TEMPLATES)
    app.middlewares.append(lead_to_sign_in)
    app.router.add_get("/login", sign_in_page)
    app.router.add_post("/login", sign_in)
    app.router.add_get("/login/code", code_page)
    app.router.add_post("/login/code", give_code)
    app.router.add_post("/logout", sign_out)
    app.router.add_get("/account", account_page)
    app.router.add_post("/account/sessions/{session:\\d+}/end", end_other_session)
    app.router.add_get("/account/password", password_page)
    app.router.add_post("/account/password", change_password)
    app.router.add_get("/account/totp", totp_page)
    app.router.add_post("/account/totp", change_totp)


@web.middleware
async def lead_to_sign_in(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Instead of a refusal, lead a person to the page of signing in; programs get the refusal."""
    try:
        return await handler(request)
    except Denied as error:
        place = LEADS.get(error.code)
        if place is None or request.path == place or "Authorization" in request.headers:
            raise
        if "HX-Request" in request.headers:
            return web.Response(status=401, headers={"HX-Redirect": place})
        if request.method != "GET" or not prefers_html(request.headers.get("Accept", "")):
            raise
    # Only the path: what was searched for must not stand in an address.
    raise web.HTTPSeeOther(f"{place}?next={quote(request.path)}")


@requires(PUBLIC)
async def sign_in_page(request: web.Request) -> web.Response:
    """GET /login: the page of signing in; whoever is signed in goes on."""
    found = await request.app[IDENTITY].guard.known_session(request)
    if found is not None and "again" not in request.query:
        raise web.HTTPSeeOther(_place(found[0].stage, own_place(request.query.get("next", ""))))
    if _signs_in_elsewhere(request):
        wanted = quote(own_place(request.query.get("next", "")))
        again = "again=1&" if "again" in request.query else ""
        raise web.HTTPSeeOther(f"{ELSEWHERE}?{again}next={wanted}")
    return _sign_in_form(request, login=unquote(request.cookies.get(HINT_COOKIE, "")))


@requires(PUBLIC)
async def sign_in(request: web.Request) -> web.StreamResponse:
    """POST /login: the first step of signing in."""
    if _only_elsewhere(request):
        raise Denied("sign_in.elsewhere", "People of this server sign in elsewhere.")
    form = await request.post()
    login, password = text_of(form, "login"), text_of(form, "password")
    cookie = request.cookies.get(FORM_COOKIE, "")
    try:
        if not cookie or not is_csrf_of(text_of(form, "csrf"), cookie):
            raise Denied("access.form", "This page was too old. Please try again.")
        begun = await request.app[IDENTITY].sign_in.with_password(
            login, password, visitor_of(request)
        )
    except AppError as error:
        return _sign_in_form(request, login=login, error=error)
    await _forget(request)
    return lead_on(request, begun, text_of(form, "next"))


@requires(PUBLIC)
async def code_page(request: web.Request) -> web.Response:
    """GET /login/code: the page of the second step."""
    _, token = await _at_stage(request, "code")
    return gate_page(request, "code.html", token)


@requires(PUBLIC)
async def give_code(request: web.Request) -> web.StreamResponse:
    """POST /login/code: the second step of signing in."""
    known, token = await _at_stage(request, "code")
    form = await own_form(request, token)
    identity = request.app[IDENTITY]
    try:
        begun = await identity.sign_in.with_code(
            known.id, known.account_id, text_of(form, "code"), visitor_of(request)
        )
    except AppError as error:
        return gate_page(request, "code.html", token, error=error)
    return lead_on(request, begun, text_of(form, "next"))


@requires(PUBLIC)
async def sign_out(request: web.Request) -> web.StreamResponse:
    """POST /logout: end this session."""
    identity = request.app[IDENTITY]
    found, place = await identity.guard.known_session(request), ""
    if found is not None:
        await own_form(request, found[1])
        await _forget(request)
        if identity.upstream is not None:
            place = await identity.upstream.way_out(found[0].id, identity.upstream.here(request))
    response = onward(request, place) if place else web.HTTPSeeOther("/login")
    response.del_cookie(COOKIE, path="/")
    response.headers["Clear-Site-Data"] = '"cache"'
    if isinstance(response, web.HTTPException):
        raise response
    return response


@requires(SELF)
async def account_page(request: web.Request) -> web.Response:
    """GET /account: one's own account and where one is signed in."""
    known, token = await _at_stage(request, "full")
    async with request.app[IDENTITY].database.session(_OWN) as session:
        account = await get_account(session, _OWN, known.account_id)
        live = await live_sessions(session, known.account_id)
        totp_on = await totp.is_on(session, known.account_id)
    sessions = [
        {
            "id": one.id,
            "device": device_name(one.agent),
            "peer": one.peer,
            "seen": one.seen_at.astimezone().strftime("%Y-%m-%d %H:%M"),
            "here": one.id == known.id,
        }
        for one in live
    ]
    more = {"account": account, "sessions": sessions, "totp_on": totp_on}
    return gate_page(request, "account.html", token, more=more)


@requires(SELF)
async def end_other_session(request: web.Request) -> web.StreamResponse:
    """POST /account/sessions/…/end: sign out somewhere else."""
    known, token = await _at_stage(request, "full")
    await own_form(request, token)
    number = int(request.match_info["session"])
    async with request.app[IDENTITY].database.session(_OWN, write=True) as session:
        await end_session(session, known.account_id, number, "ended by its owner")
    raise web.HTTPSeeOther("/account")


@requires(SELF)
async def password_page(request: web.Request) -> web.Response:
    """GET /account/password: the page where one changes one's password."""
    known, token = await _at_stage(request, "password", "full")
    return _password_form(request, known, token)


@requires(SELF)
async def change_password(request: web.Request) -> web.StreamResponse:
    """POST /account/password: change one's own password; every other session ends."""
    known, token = await _at_stage(request, "password", "full")
    form = await own_form(request, token)
    try:
        if text_of(form, "new") != text_of(form, "again"):
            raise Invalid("password.differs", "The two new passwords differ.")
        begun = await request.app[IDENTITY].sign_in.change_password(
            known.account_id,
            text_of(form, "old"),
            text_of(form, "new"),
            visitor_of(request),
            known.amr,
        )
    except AppError as error:
        return _password_form(request, known, token, error)
    return lead_on(request, begun, text_of(form, "next"))


@requires(SELF)
async def totp_page(request: web.Request) -> web.Response:
    """GET /account/totp: the page of the second factor."""
    known, token = await _at_stage(request, "full")
    async with request.app[IDENTITY].database.session(_OWN) as session:
        is_on = await totp.is_on(session, known.account_id)
    return _totp(request, token, on=is_on)


@requires(SELF)
async def change_totp(request: web.Request) -> web.StreamResponse:
    """POST /account/totp: begin, confirm or end the second factor, or get recovery codes."""
    known, token = await _at_stage(request, "full")
    form = await own_form(request, token)
    identity, wanted = request.app[IDENTITY], text_of(form, "do")
    try:
        if wanted in ("codes", "off"):
            password = text_of(form, "password")
            await identity.sign_in.check_password(known.account_id, password, visitor_of(request))
        async with identity.database.session(_OWN, write=True) as session:
            if wanted == "begin":
                secret, address = await totp.begin(session, known.account_id, known.login)
                return _totp(request, token, secret=secret, address=address)
            if wanted == "confirm":
                codes = await totp.confirm(session, known.account_id, text_of(form, "code"))
                return _totp(request, token, codes=codes)
            if wanted == "codes":
                codes = await totp.renew_recovery_codes(session, known.account_id)
                return _totp(request, token, codes=codes)
            if wanted == "off":
                await totp.switch_off(session, known.account_id)
    except AppError as error:
        async with identity.database.session(_OWN) as session:
            is_on = await totp.is_on(session, known.account_id)
            pending = await totp.pending(session, known.account_id, known.login)
        secret, address = pending or ("", "")
        return _totp(request, token, on=is_on, secret=secret, address=address, error=error)
    raise web.HTTPSeeOther("/account/totp")


def _signs_in_elsewhere(request: web.Request) -> bool:
    """Whether the page of signing in is at another provider; `local=1` asks for ours."""
    return request.app[IDENTITY].upstream is not None and (
        "local" not in request.query or _only_elsewhere(request)
    )


def _only_elsewhere(request: web.Request) -> bool:
    upstream = request.app[IDENTITY].upstream
    return upstream is not None and not upstream.settings.local_sign_in


async def _at_stage(request: web.Request, *stages: str) -> tuple[KnownSession, str]:
    """The session, which must be at one of the stages; else lead to where it is."""
    found = await request.app[IDENTITY].guard.known_session(request)
    if found is None:
        raise web.HTTPSeeOther("/login")
    if found[0].stage not in stages:
        raise web.HTTPSeeOther(_place(found[0].stage, "/"))
    return found


async def own_form(request: web.Request, token: str) -> Mapping[str, Any]:
    form = await request.post()
    if not is_csrf_of(text_of(form, "csrf"), token):
        raise Denied("access.csrf", "The request did not come from a page of ours.")
    return form


async def _forget(request: web.Request) -> None:
    """End the session that the browser had, so that a sign-in never goes on in an old one."""
    identity = request.app[IDENTITY]
    found = await identity.guard.known_session(request)
    if found is None:
        return
    async with identity.database.session(_OWN, write=True) as session:
        await end_session(session, found[0].account_id, found[0].id, "signed out")
    identity.guard.forget(fingerprint(found[1]))


def lead_on(request: web.Request, begun: SignedIn, wanted: str) -> web.StreamResponse:
    """Set the cookie and lead on to what is still to do."""
    stage = begun.session.stage
    place = _place(stage, own_place(wanted))
    # A form may lead to no other site (form-action), and signing in for an application does.
    further = place.startswith(FURTHER)
    response = onward(request, place) if further else web.HTTPSeeOther(place)
    response.set_cookie(
        COOKIE, begun.token, path="/", httponly=True, samesite="Lax", secure=request.secure
    )
    response.del_cookie(HINT_COOKIE, path="/login")
    if isinstance(response, web.HTTPException):
        raise response
    return response


def onward(request: web.Request, place: str) -> web.Response:
    """A page that leads on by itself, and by a link where that is not done."""
    return gate_page(request, "onward.html", "", more={"place": place})


def with_hint(response: web.HTTPSeeOther, login: str) -> web.HTTPSeeOther:
    """Fill the page of signing in with a login name, once and not by its address."""
    if login:
        response.set_cookie(
            HINT_COOKIE, quote(login), max_age=300, path="/login", httponly=True, samesite="Lax"
        )
    return response


def _place(stage: str, wanted: str) -> str:
    place = {"code": "/login/code", "password": "/account/password"}.get(stage)
    if place is None:
        return wanted
    return place if wanted == "/" else f"{place}?next={quote(wanted)}"


def own_place(wanted: str) -> str:
    """A path of ours; the start page for anything else."""
    ours = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable()
    return wanted if ours and "\\" not in wanted else "/"


def _sign_in_form(
    request: web.Request, *, login: str = "", error: AppError | None = None
) -> web.Response:
    cookie = request.cookies.get(FORM_COOKIE) or new_secret()
    response = gate_page(request, "sign_in.html", cookie, error=error, more={"login": login})
    response.set_cookie(
        FORM_COOKIE, cookie, path="/login", httponly=True, samesite="Strict", secure=request.secure
    )
    return response


def _password_form(
    request: web.Request, known: KnownSession, token: str, error: AppError | None = None
) -> web.Response:
    policy = request.app[IDENTITY].sign_in.policy
    more = {"due": known.stage == "password", "policy": policy, "login": known.login}
    return gate_page(request, "password.html", token, error=error, more=more)


def _totp(
    request: web.Request,
    token: str,
    *,
    on: bool = False,
    secret: str = "",
    address: str = "",
    codes: list[str] | None = None,
    error: AppError | None = None,
) -> web.Response:
    picture = segno.make(address).svg_inline(border=0, omitsize=True) if address else ""
    more = {"on": on, "secret": secret, "codes": codes, "picture": Markup(picture)}  # noqa: S704
    return gate_page(request, "totp.html", token, error=error, more=more)


def gate_page(
    request: web.Request,
    template: str,
    token: str,
    *,
    error: AppError | None = None,
    more: Mapping[str, Any] | None = None,
) -> web.Response:
    """A page with the form token of `token`, and an error in words."""
    words = translate(error.message, language_of(request), **error.fields) if error else ""
    context = {
        "csrf": csrf_of(token),
        "next": own_place(request.query.get("next", "")),
        "error": words,
        **(more or {}),
    }
    status = status_of(error) if error is not None else 200
    name = template if "/" in template else f"identity/{template}"
    return render(request, name, context, status=status)


def visitor_of(request: web.Request) -> Visitor:
    return Visitor(request.remote or "", request.headers.get("User-Agent", ""))


def text_of(form: Mapping[str, Any], name: str) -> str:
    value = form.get(name, "")
    return value if isinstance(value, str) else ""
