"""Routes of signing in at another provider: out, back, and its word that a session ended."""

from __future__ import annotations

import hmac

from aiohttp import web

from identity.pages.routes import (
    ELSEWHERE,
    IDENTITY,
    gate_page,
    lead_on,
    own_place,
    text_of,
    visitor_of,
)
from identity.upstream.service import CALLBACK, SIGNED_OUT, Upstream
from kernel.errors import AppError, Denied, NotFound
from kernel.web.guard import PUBLIC, requires

COOKIE = "yunying_elsewhere"
ENDED = "/login/ended"


def setup(app: web.Application) -> None:
    """Add the routes; they answer 404 where people sign in here."""
    app.router.add_get(ELSEWHERE, begin)
    app.router.add_get(CALLBACK, come_back)
    app.router.add_get(SIGNED_OUT, signed_out)
    app.router.add_post(ENDED, ended)


@requires(PUBLIC)
async def begin(request: web.Request) -> web.StreamResponse:
    """GET /login/elsewhere: go and sign in there."""
    upstream = _upstream(request)
    wanted = own_place(request.query.get("next", ""))
    try:
        place, kept = await upstream.begin(
            upstream.here(request), wanted, again="again" in request.query
        )
    except AppError as error:
        return _failed(request, error, wanted)
    response = web.HTTPSeeOther(place)
    response.set_cookie(
        COOKIE,
        kept,
        max_age=600,
        path="/login",
        httponly=True,
        samesite="Lax",
        secure=request.secure,
    )
    raise response


@requires(PUBLIC)
async def come_back(request: web.Request) -> web.StreamResponse:
    """GET /login/callback: back from there, with a code or with why not."""
    upstream = _upstream(request)
    wanted = "/"
    try:
        begun = upstream.resume(request.cookies.get(COOKIE, ""), request.query.get("state", ""))
        wanted = begun.next
        issuer = request.query.get("iss", "")
        if issuer and not hmac.compare_digest(issuer.encode(), upstream.issuer.encode()):
            raise Denied("upstream.token", "What the sign-in service says cannot be believed.")
        if "code" not in request.query:
            raise Denied("upstream.refused", "The sign-in service did not accept the sign-in.")
        arrived = await upstream.arrive(upstream.here(request), request.query["code"], begun)
        signed_in = await upstream.sign_in(arrived, visitor_of(request))
    except AppError as error:
        return _failed(request, error, wanted)
    return lead_on(request, signed_in, wanted)


@requires(PUBLIC)
async def signed_out(request: web.Request) -> web.Response:
    """GET /login/out: the page after signing out there."""
    _upstream(request)
    return gate_page(request, "signed_out.html", "")


@requires(PUBLIC)
async def ended(request: web.Request) -> web.Response:
    """POST /login/ended: its word that a session has ended (Back-Channel Logout 1.0)."""
    headers = {"Cache-Control": "no-store"}
    upstream = _upstream(request)
    try:
        await upstream.ended(text_of(await request.post(), "logout_token"))
    except Denied as error:
        body = {"error": "invalid_request", "error_description": str(error)}
        return web.json_response(body, status=400, headers=headers)
    return web.Response(headers=headers)


def _upstream(request: web.Request) -> Upstream:
    found = request.app[IDENTITY].upstream
    if found is None:
        raise NotFound("web.not_found", "There is nothing at this address.")
    return found


def _failed(request: web.Request, error: AppError, wanted: str) -> web.Response:
    upstream = _upstream(request)
    more = {
        "next": wanted,
        "issuer": upstream.issuer,
        "local": upstream.settings.local_sign_in,
    }
    return gate_page(request, "elsewhere.html", "", error=error, more=more)
