"""Where people come through on their way into an application and out of all of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from aiohttp import web
from multidict import MultiDict, MultiMapping

from identity.applications.domain import SCOPES, Application, origin_of
from identity.applications.service import by_client_id
from identity.authorisations.domain import OAuthError
from identity.authorisations.service import (
    Asked,
    SignedInAs,
    give_code,
    has_consented,
    keep_consent,
)
from identity.guard.keeper import KnownSession
from identity.guard.service import CITIZEN_COOKIE, CITIZEN_PATH, COOKIE, IdentityGuard
from identity.pages.routes import IDENTITY, gate_page, onward, own_form, text_of, with_hint
from identity.provider.domain import (
    AUTHORIZE,
    CONSENT,
    LOGOUT,
    SINCE,
    Wanted,
    back_to,
    must_sign_in,
    read_request,
    target_of,
)
from identity.provider.service import Provider
from identity.sessions.service import end_session
from identity.signing_keys.service import read_own
from identity.tokens.domain import fingerprint
from kernel.errors import AppError, Invalid, NotFound
from kernel.scope import Scope
from kernel.web.guard import PUBLIC, requires
from kernel.web.language import language_of

PROVIDER: web.AppKey[Provider] = web.AppKey("identity.provider", Provider)
# Residents are asked below their own cookie's path.
CITIZEN_AUTHORIZE = f"{CITIZEN_PATH}/authorize"
CITIZEN_CONSENT = f"{CITIZEN_PATH}/consent"
CITIZEN_LOGOUT = f"{CITIZEN_PATH}/leave"
_SCOPE = Scope.system("single sign-on")


def setup(app: web.Application) -> None:
    """Add the addresses."""
    for path in (AUTHORIZE, CITIZEN_AUTHORIZE):
        app.router.add_get(path, authorize)
    for path in (CONSENT, CITIZEN_CONSENT):
        app.router.add_post(path, answer_consent)
    for path in (LOGOUT, CITIZEN_LOGOUT):
        app.router.add_get(path, leave)
        app.router.add_post(path, leave)


def issuer_of(request: web.Request) -> str:
    """Our name for applications."""
    return issuer_at(request.app[PROVIDER].settings.issuer, request)


def issuer_at(configured: str, request: web.Request) -> str:
    """The address that was set, else the one that the request came to."""
    return configured.rstrip("/") or f"{request.scheme}://{request.host}"


@requires(PUBLIC)
async def authorize(request: web.Request) -> web.StreamResponse:
    """GET /sso/authorize: an application sends a person here to be told who it is.

    What is wrong with the application itself is shown to the person; all else is told to the
    application, where it is registered (RFC 6749 4.1.2.1).
    """
    return await _authorize(request, request.query, led=True)


@requires(PUBLIC)
async def answer_consent(request: web.Request) -> web.StreamResponse:
    """POST /sso/consent: the person allows an application what it asks for, or does not."""
    person = await _person(request)
    if person is None:
        raise web.HTTPSeeOther(_sign_in_place(request))
    form = await own_form(request, person[1])
    asked = MultiDict(parse_qsl(text_of(form, "query"), keep_blank_values=True))
    return await _authorize(request, asked, led=False, decision=text_of(form, "decision"))


async def _authorize(
    request: web.Request, parameters: MultiMapping[str], *, led: bool, decision: str = ""
) -> web.StreamResponse:
    try:
        client = await _client(request, parameters)
        target = target_of(client, parameters)
    except AppError as error:
        return gate_page(request, "provider/refused.html", "", error=error)
    if led and (client.audience == "citizen") != _is_citizens(request):
        place = CITIZEN_AUTHORIZE if client.audience == "citizen" else AUTHORIZE
        raise web.HTTPSeeOther(f"{place}?{request.query_string}")
    wanted: Wanted | None = None
    try:
        since = request.app[PROVIDER].read_since(str(parameters.get(SINCE, "")), time.time())
        wanted = read_request(client, target, parameters, since)
        return await _answer(request, client, wanted, parameters, led=led, decision=decision)
    except OAuthError as error:
        state = wanted.state if wanted else _state(parameters)
        told = {"error": error.error, "error_description": str(error)}
        place = back_to(target, issuer_of(request), state, **told)
    return _lead_back(request, place, led=led)


async def _answer(
    request: web.Request,
    client: Application,
    wanted: Wanted,
    parameters: MultiMapping[str],
    *,
    led: bool,
    decision: str,
) -> web.StreamResponse:
    quiet = "none" in wanted.prompts
    person = await _person(request)
    if person is None or must_sign_in(wanted, person[0].created_at, time.time()):
        if quiet:
            raise OAuthError("login_required", "The person must sign in.")
        place = _sign_in_place(request, parameters, wanted, again=person is not None)
        raise with_hint(web.HTTPSeeOther(place), wanted.login_hint)
    if decision == "deny":
        raise OAuthError("access_denied", "The person did not allow it.")
    known, token = person
    provider = request.app[PROVIDER]
    async with provider.database.session(_SCOPE, write=True) as session:
        given = client.first_party or decision == "allow"
        if not given and "consent" not in wanted.prompts:
            given = await has_consented(session, known.account_id, client.id, wanted.scopes)
        if not given:
            if quiet:
                raise OAuthError("consent_required", "The person must allow it first.")
            return _consent_page(request, client, wanted, parameters, token, known.display_name)
        if decision == "allow":
            await keep_consent(session, known.account_id, client.id, wanted.scopes)
        code = await give_code(session, _asked(request, client, wanted), _as(provider, known))
    return _lead_back(
        request, back_to(wanted.redirect_uri, issuer_of(request), wanted.state, code=code), led=led
    )


@requires(PUBLIC)
async def leave(request: web.Request) -> web.StreamResponse:
    """GET or POST /sso/logout: an application sends a person here to sign out everywhere.

    With an `id_token_hint` of this very session that is done; else the person is asked first.
    """
    given = request.query if request.method == "GET" else await request.post()
    person = await _person(request)
    hint = await read_own(request.app[PROVIDER].database, str(given.get("id_token_hint", "")))
    target = await _logout_target(request, given, hint)
    if person is not None:
        known, token = person
        if request.method == "POST" and "csrf" in given:
            await own_form(request, token)
        elif not hint or hint.get("sid") != request.app[PROVIDER].sid(known.id):
            fields = [(name, str(value)) for name, value in given.items() if name in _LOGOUT_FIELDS]
            more = {"fields": fields, "place": request.path, "person_name": known.display_name}
            return gate_page(request, "provider/leave.html", token, more=more)
        await _end(request, known, token)
    if target:
        response: web.StreamResponse = _lead_back(request, target, led=request.method == "GET")
    else:
        response = gate_page(request, "provider/left.html", "")
    citizens = _is_citizens(request)
    response.del_cookie(CITIZEN_COOKIE if citizens else COOKIE, path=_cookie_path(request))
    return response


_LOGOUT_FIELDS = ("id_token_hint", "client_id", "post_logout_redirect_uri", "state")


async def _logout_target(
    request: web.Request, given: Mapping[str, Any], hint: Mapping[str, Any] | None
) -> str:
    """Where to lead on to, when the application has registered that address; '' for nowhere."""
    wanted = str(given.get("post_logout_redirect_uri", ""))
    client_id = str(given.get("client_id", "")) or str((hint or {}).get("aud", ""))
    if not wanted or not client_id or (hint and hint.get("aud") != client_id):
        return ""
    try:
        async with request.app[PROVIDER].database.session(_SCOPE) as session:
            client = await by_client_id(session, client_id)
    except NotFound:
        return ""
    if wanted not in client.post_logout_uris:
        return ""
    state = str(given.get("state", ""))
    joint = "&" if "?" in wanted else "?"
    return f"{wanted}{joint}{urlencode({'state': state})}" if state else wanted


async def _end(request: web.Request, known: KnownSession, token: str) -> None:
    identity = request.app[IDENTITY]
    async with identity.database.session(_SCOPE, write=True) as session:
        await end_session(
            session,
            known.account_id,
            known.id,
            "signed out",
            kind="citizen" if known.kind == "citizen" else "session",
        )
    identity.guard.forget(fingerprint(token))


async def _client(request: web.Request, parameters: MultiMapping[str]) -> Application:
    named = parameters.getall("client_id", [])
    if len(named) != 1:
        raise Invalid("sso.client", "The application does not say who it is.")
    try:
        async with request.app[PROVIDER].database.session(_SCOPE) as session:
            return await by_client_id(session, str(named[0]))
    except NotFound as error:
        raise Invalid("sso.client", "This application is not registered here.") from error


async def _person(request: web.Request) -> tuple[KnownSession, str] | None:
    """Who is signed in to the end; residents below their own path."""
    guard: IdentityGuard = request.app[IDENTITY].guard
    found = await guard.known_session(request, "citizen" if _is_citizens(request) else "staff")
    return found if found is not None and found[0].stage == "full" else None


def _sign_in_place(
    request: web.Request,
    parameters: MultiMapping[str] | None = None,
    wanted: Wanted | None = None,
    *,
    again: bool = False,
) -> str:
    """The page of signing in, and from there back into the same request."""
    page = f"{CITIZEN_PATH}/login" if _is_citizens(request) else "/login"
    if parameters is None or wanted is None:
        return page
    # The hint fills the page of signing in; it need not stand in a second address.
    kept = [(name, value) for name, value in parameters.items() if name not in _ONCE]
    if again:
        kept.append((SINCE, request.app[PROVIDER].since(time.time())))
    place = CITIZEN_AUTHORIZE if _is_citizens(request) else AUTHORIZE
    following = quote(f"{place}?{urlencode(kept)}", safe="/")
    return f"{page}?{'again=1&' if again else ''}next={following}"


_ONCE = frozenset({"login_hint", SINCE})


def _consent_page(
    request: web.Request,
    client: Application,
    wanted: Wanted,
    parameters: MultiMapping[str],
    token: str,
    person_name: str,
) -> web.Response:
    more = {
        "application": client.name(language_of(request)),
        "origin": origin_of(wanted.redirect_uri),
        "scopes": [SCOPES[one] for one in SCOPES if one in wanted.scopes],
        "query": urlencode(list(parameters.items())),
        "place": CITIZEN_CONSENT if _is_citizens(request) else CONSENT,
        "person_name": person_name,
    }
    return gate_page(request, "provider/consent.html", token, more=more)


def _lead_back(request: web.Request, place: str, *, led: bool) -> web.StreamResponse:
    """Lead to another site: by a page after a form, since CSP keeps forms at home (form-action)."""
    if not led:
        return onward(request, place)
    response = web.Response(status=303, headers={"Location": place})
    response.headers["Cache-Control"] = "no-store"
    return response


def _asked(request: web.Request, client: Application, wanted: Wanted) -> Asked:
    return Asked(
        client,
        wanted.redirect_uri,
        wanted.scopes,
        wanted.challenge,
        wanted.nonce,
        issuer_of(request),
    )


def _as(provider: Provider, known: KnownSession) -> SignedInAs:
    return SignedInAs(
        known.id,
        known.account_id,
        known.created_at,
        tuple(known.amr.split()),
        provider.sid(known.id),
        "citizen" if known.kind == "citizen" else "session",
    )


def _state(parameters: MultiMapping[str]) -> str:
    """The state of a request that cannot be understood, when it names one."""
    states = parameters.getall("state", [])
    return str(states[0])[:2000] if len(states) == 1 else ""


def _is_citizens(request: web.Request) -> bool:
    return request.path.startswith(f"{CITIZEN_PATH}/")


def _cookie_path(request: web.Request) -> str:
    return CITIZEN_PATH if _is_citizens(request) else "/"
