"""The addresses of single sign-on that programs use; those that people see are in `doors`."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from identity.applications.domain import SCOPES, Application
from identity.authorisations.domain import OAuthError
from identity.authorisations.service import Known, Tokens, look_up, refresh, revoke, take_code
from identity.guard.service import IdentityGuard
from identity.pages.routes import IDENTITY
from identity.provider import doors
from identity.provider.domain import (
    INTROSPECT,
    JWKS,
    REVOKE,
    TOKEN,
    USERINFO,
    asks_openid,
    discovery,
)
from identity.provider.doors import PROVIDER, issuer_of
from identity.provider.service import Provider
from identity.provider.wire import (
    NO_STORE,
    Shown,
    bearer_refusal,
    client_of,
    read_shown,
    refusal,
)
from identity.signing_keys.domain import CACHED_S
from identity.signing_keys.service import published
from kernel.scope import Scope
from kernel.web.guard import PUBLIC, requires
from kernel.web.pages import add_templates

TEMPLATES = Path(__file__).parent / "templates"
_SCOPE = Scope.system("single sign-on")
_READABLE = {"Cache-Control": f"public, max-age={CACHED_S:.0f}"}


def setup(app: web.Application, provider: Provider) -> None:
    """Add the addresses; `identity.pages.routes.setup` has given the resources."""
    app[PROVIDER] = provider
    add_templates(app, TEMPLATES)
    app.router.add_get("/.well-known/openid-configuration", configuration)
    app.router.add_get(JWKS, keys)
    app.router.add_post(TOKEN, token)
    app.router.add_get(USERINFO, userinfo)
    app.router.add_post(USERINFO, userinfo)
    app.router.add_post(REVOKE, revocation)
    app.router.add_post(INTROSPECT, introspection)
    doors.setup(app)


@requires(PUBLIC)
async def configuration(request: web.Request) -> web.Response:
    """GET /.well-known/openid-configuration: what applications read first."""
    body = discovery(issuer_of(request), list(SCOPES))
    return web.json_response(body, headers=_READABLE)


@requires(PUBLIC)
async def keys(request: web.Request) -> web.Response:
    """GET /sso/jwks: the keys that our tokens are checked by."""
    body = await published(request.app[PROVIDER].database)
    return web.json_response(body, headers=_READABLE)


@requires(PUBLIC)
async def token(request: web.Request) -> web.Response:
    """POST /sso/token: tokens for a code, or for a refresh token."""
    provider, shown = request.app[PROVIDER], None
    try:
        shown = await read_shown(request)
        async with provider.database.session(_SCOPE) as session:
            client = await client_of(session, shown)
        given = await _given(provider, client, shown)
        body = {
            "access_token": given.access,
            "token_type": "Bearer",
            "expires_in": int(provider.settings.access_token_s),
            "refresh_token": given.refresh,
            "scope": " ".join(sorted(given.scopes)),
        }
        if asks_openid(given.scopes):
            body["id_token"] = await _id_token(request, client, given, first="code" in shown.form)
    except OAuthError as error:
        await provider.refused(shown.client_id if shown else "", error.error)
        return refusal(error, by_header=shown is None or shown.by_header)
    return web.json_response(body, headers=NO_STORE)


@requires(PUBLIC)
async def userinfo(request: web.Request) -> web.Response:
    """GET or POST /sso/userinfo: who the person is that an access token stands for."""
    if "Authorization" not in request.headers:
        return bearer_refusal("", 401)
    guard: IdentityGuard = request.app[IDENTITY].guard
    known = await guard.access_token(request)
    if known is None:
        return bearer_refusal("invalid_token", 401)
    if not asks_openid(known.scopes):
        return bearer_refusal("insufficient_scope", 403)
    provider = request.app[PROVIDER]
    claims = await provider.claims(await guard.rights(), known.account_id, known.scopes)
    return web.json_response(claims, headers=NO_STORE)


@requires(PUBLIC)
async def revocation(request: web.Request) -> web.Response:
    """POST /sso/revoke: an application gives a token back (RFC 7009)."""
    provider, shown = request.app[PROVIDER], None
    try:
        shown = await read_shown(request)
        async with provider.database.session(_SCOPE, write=True) as session:
            client = await client_of(session, shown)
            await revoke(session, client, _needed(shown, "token"))
    except OAuthError as error:
        await provider.refused(shown.client_id if shown else "", error.error)
        return refusal(error, by_header=shown is None or shown.by_header)
    return web.Response(headers=NO_STORE)


@requires(PUBLIC)
async def introspection(request: web.Request) -> web.Response:
    """POST /sso/introspect: what a token stands for (RFC 7662).

    An application hears of its own tokens, one of the house of all.
    """
    provider, shown = request.app[PROVIDER], None
    try:
        shown = await read_shown(request)
        async with provider.database.session(_SCOPE) as session:
            client = await client_of(session, shown, public=False)
            known = await look_up(session, _needed(shown, "token"))
    except OAuthError as error:
        await provider.refused(shown.client_id if shown else "", error.error)
        return refusal(error, by_header=shown is None or shown.by_header)
    if known is None or not (
        client.first_party or hmac.compare_digest(client.client_id, known.client_id)
    ):
        return web.json_response({"active": False}, headers=NO_STORE)
    return web.json_response(await _told(request, known), headers=NO_STORE)


async def _given(provider: Provider, client: Application, shown: Shown) -> Tokens:
    """What the grant gives; raises OAuthError."""
    database, lasts_s = provider.database, provider.settings.access_token_s
    kind = shown.form.get("grant_type", "")
    if kind == "authorization_code":
        code, target = _needed(shown, "code"), _needed(shown, "redirect_uri")
        verifier = _needed(shown, "code_verifier")
        return await take_code(database, client, code, target, verifier, lasts_s)
    if kind == "refresh_token":
        scope = shown.form.get("scope")
        scopes = frozenset(scope.split()) if scope else None
        return await refresh(database, client, _needed(shown, "refresh_token"), scopes, lasts_s)
    if kind:
        raise OAuthError("unsupported_grant_type", "This grant_type is not supported.")
    raise OAuthError("invalid_request", "grant_type is missing.")


async def _told(request: web.Request, known: Known) -> Mapping[str, Any]:
    guard: IdentityGuard = request.app[IDENTITY].guard
    found = known.authorisation
    about = known.scopes | {"profile"}
    claims = await request.app[PROVIDER].claims(await guard.rights(), found.account_id, about)
    name = claims.pop("preferred_username", None)
    return {
        "active": True,
        "iss": found.issuer,
        "client_id": known.client_id,
        "scope": " ".join(sorted(known.scopes)),
        "token_type": "Bearer" if known.kind == "access" else "refresh_token",
        "iat": int(known.created_at),
        "exp": int(known.expires_at),
        "sid": found.sid,
        **claims,
        **({"username": name} if name else {}),
    }


async def _id_token(
    request: web.Request, client: Application, given: Tokens, *, first: bool
) -> str:
    guard: IdentityGuard = request.app[IDENTITY].guard
    provider, found = request.app[PROVIDER], given.authorisation
    claims = await provider.claims(await guard.rights(), found.account_id, given.scopes)
    return await provider.id_token(client, found, claims, first=first)


def _needed(shown: Shown, name: str) -> str:
    value = shown.form.get(name, "")
    if not value:
        raise OAuthError("invalid_request", "{name} is missing.", name=name)
    return value
