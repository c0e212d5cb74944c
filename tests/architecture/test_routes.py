"""Every route of the real application names its permission."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from kernel.settings import Settings
from kernel.web.guard import PERMISSIONS, PUBLIC, permission_of
from server.web_process import build

# Open to everybody: nothing about a patient can be learnt there.
OPEN_ROUTES = {
    "/healthz",
    "/static/{path}",
    "/login",
    "/login/code",
    "/logout",
    # Signing in elsewhere
    "/login/elsewhere",
    "/login/callback",
    "/login/out",
    "/login/ended",
    # Single sign-on: programs show who they are, people their cookie
    "/.well-known/openid-configuration",
    "/sso/authorize",
    "/sso/consent",
    "/sso/introspect",
    "/sso/jwks",
    "/sso/logout",
    "/sso/revoke",
    "/sso/token",
    "/sso/userinfo",
    # Residents
    "/my/authorize",
    "/my/consent",
    "/my/leave",
    "/my/login",
    "/my/login/code",
    "/sms/reports/{provider}/{token}",
}


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[web.Application]:
    async with AsyncExitStack() as stack:
        yield await build(settings, stack)


async def test_every_route_has_a_permission_that_exists(app: web.Application) -> None:
    for route in app.router.routes():
        assert permission_of(route.handler) in PERMISSIONS, f"{route.method} {route.resource}"


async def test_only_health_signing_in_and_built_files_are_public(app: web.Application) -> None:
    public = {
        route.resource.canonical
        for route in app.router.routes()
        if permission_of(route.handler) == PUBLIC and route.resource is not None
    }
    assert public <= OPEN_ROUTES


async def test_no_route_names_a_person_in_its_address(app: web.Application) -> None:
    words = ("name", "patient", "phone", "birth")
    for resource in app.router.resources():
        assert not any(word in resource.canonical for word in words), resource.canonical
