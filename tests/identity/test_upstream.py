"""Two servers: people sign in at one of them, and are known at the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from identity.grants.domain import Subject
from identity.grants.service import NewGrant, grant
from identity.pages.routes import IDENTITY
from identity.sessions.service import end_sessions, live_sessions
from identity.upstream.domain import check_id_token, check_logout, check_metadata
from identity.upstream.service import link
from kernel.db.database import Database
from kernel.errors import Denied
from kernel.settings import Settings, SsoSettings
from server.migrations.run import upgrade
from tests.identity.people import PASSWORD, make_account
from tests.identity.places import SYSTEM
from tests.identity.site import Client
from tests.identity.sso import ENGLISH, Rp, SsoSite, led_to, onward_place, serve_sso
from tests.servers import free_port
from tests.waiting import eventually


@dataclass(slots=True)
class Two:
    """A: where people sign in. B: where they come from. The same person has an account on each."""

    a: SsoSite
    b: SsoSite
    a_id: int
    b_id: int

    @asynccontextmanager
    async def browser(self) -> AsyncIterator[tuple[Client, Client]]:
        """One browser, seen from each server."""
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar, headers=ENGLISH) as session:
            yield Client(self.a.base, session), Client(self.b.base, session)


@pytest.fixture
async def two(settings: Settings, database: Database, tmp_path: Path) -> AsyncIterator[Two]:
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(serve_sso(settings))
        port = free_port()
        rp = Rp(f"http://localhost:{port}")
        _, secret = await rp.register(
            database,
            "lab-cloud",
            redirect_uris=[f"{rp.base}/login/callback"],
            post_logout_uris=[f"{rp.base}/login/out"],
            backchannel_uri=f"http://localhost:{port}/login/ended",
        )
        other = replace(
            settings,
            data=tmp_path / "other",
            sso=SsoSettings(
                upstream_issuer=a.base,
                upstream_client_id="lab-cloud",
                upstream_client_secret=secret,
            ),
        )
        await upgrade(other)
        b = await stack.enter_async_context(serve_sso(other, port=port, name="localhost"))
        ids = []
        for site, login in ((a, "yang"), (b, "yangxy")):
            account = await make_account(site.database, login, display_name="杨秀英")
            async with site.database.session(SYSTEM, write=True) as session:
                await grant(
                    session, None, NewGrant(Subject("account", account.id), "radiologist", None)
                )
            await site.keeper.look()
            ids.append(account.id)
        yield Two(a, b, *ids)


async def known_at_b(two: Two) -> None:
    async with two.b.database.session(SYSTEM, write=True) as session:
        await link(session, SYSTEM, two.a.base, f"s{two.a_id}", two.b_id)


async def follow(a: Client, b: Client, path: str) -> Any:
    """From a page of B to where a browser comes to rest, through A."""
    place = b.base + path
    for _ in range(8):
        client = a if place.startswith(a.base) else b
        answer = await client.page(place.removeprefix(client.base))
        if answer.status != 303:
            return place, answer
        place = answer.headers["Location"]
        place = place if place.startswith("http") else client.base + place
    raise AssertionError("led in a circle")


async def test_one_sign_in_opens_both_and_one_sign_out_ends_both(two: Two) -> None:
    await known_at_b(two)
    async with two.browser() as (a, b):
        assert (await a.sign_in("yang", PASSWORD)).status == 303
        place, page = await follow(a, b, "/studies")
        assert place == f"{b.base}/studies" and page.status == 200 and "杨秀英" in page.text
        began = time.monotonic()
        await a.fill("/account", to="/logout")

        async def gone() -> bool:
            return (await b.get("/studies")).status == 401

        await eventually(gone, 5)
        assert time.monotonic() - began < 5
        place, _ = await follow(a, b, "/studies")
        assert place.startswith(f"{a.base}/login?next=/sso/authorize")


async def test_who_is_kicked_at_one_is_out_at_the_other(two: Two) -> None:
    await known_at_b(two)
    async with two.browser() as (a, b):
        place, shown = await follow(a, b, "/studies")
        done = await a.fill(
            place.removeprefix(a.base),
            to="/login",
            login="yang",
            password=PASSWORD,
            next=led_to(place)["next"],
        )
        back = await a.page(onward_place(done.text))
        place, page = await follow(a, b, back.headers["Location"].removeprefix(b.base))
        assert shown.status == page.status == 200 and place == f"{b.base}/studies"
        assert (await b.get("/studies")).status == 200
        async with two.a.database.session(SYSTEM, write=True) as session:
            await end_sessions(session, two.a_id, "kicked")

        async def gone() -> bool:
            return (await b.get("/studies")).status == 401

        await eventually(gone, 5)


async def test_signing_out_at_the_second_signs_out_at_the_first(two: Two) -> None:
    await known_at_b(two)
    async with two.browser() as (a, b):
        await a.sign_in("yang", PASSWORD)
        await follow(a, b, "/studies")
        left = await b.fill("/account", to="/logout")
        place = onward_place(left.text)
        assert place.startswith(f"{a.base}/sso/logout?id_token_hint=")
        led = await a.page(place.removeprefix(a.base))
        place, page = await follow(a, b, led.headers["Location"].removeprefix(b.base))
        assert place == f"{b.base}/login/out" and "You are signed out" in page.text
        async with two.a.database.session(SYSTEM) as session:
            assert await live_sessions(session, two.a_id) == []


async def test_somebody_without_an_account_is_told_so_and_nobody_is_let_in(two: Two) -> None:
    async with two.browser() as (a, b):
        await a.sign_in("yang", PASSWORD)
        place, page = await follow(a, b, "/studies")
        assert place.startswith(f"{b.base}/login/callback") and page.status == 403
        assert f"s{two.a_id}" in page.text and "no account here" in page.text
        assert (await b.get("/studies")).status == 401
        # An account of this server may still sign in here.
        local = await b.fill("/login?local=1", to="/login", login="yangxy", password=PASSWORD)
        assert local.status == 303 and (await b.get("/studies")).status == 200


async def test_accounts_are_matched_by_name_only_where_that_was_set(two: Two) -> None:
    upstream = two.b.app[IDENTITY].upstream
    assert upstream is not None
    upstream.settings = replace(upstream.settings, upstream_match="login")
    await make_account(two.b.database, "yang", display_name="yang of b")
    async with two.browser() as (a, b):
        await a.sign_in("yang", PASSWORD)
        _, page = await follow(a, b, "/account")
        assert "yang of b" in page.text
    await make_account(two.a.database, "admin")
    await make_account(two.b.database, "admin")
    async with two.browser() as (a, b):
        await a.sign_in("admin", PASSWORD)
        _, page = await follow(a, b, "/account")
        assert page.status == 403  # each server has an admin, who are different people


async def test_what_comes_back_from_elsewhere_is_bound_to_this_browser(two: Two) -> None:
    await known_at_b(two)
    async with two.browser() as (a, b):
        await a.sign_in("yang", PASSWORD)
        led = await b.page("/login/elsewhere")
        back = (await a.page(led.headers["Location"].removeprefix(a.base))).headers["Location"]
    async with two.browser() as (_, other):  # a victim is led to the attacker's code
        page = await other.page(back.removeprefix(two.b.base))
        assert page.status == 403 and "in another browser" in page.text
        forged = await other.post("/login/ended", {"logout_token": "x.y.z"})
        assert forged.status == 400 and forged.json["error"] == "invalid_request"


GOOD = {
    "iss": "https://a.example",
    "aud": "b",
    "exp": 2000,
    "iat": 1000,
    "nonce": "n",
    "sub": "s1",
}


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://evil.example"},
        {"aud": "c"},
        {"aud": ["b", "c"]},
        {"exp": 900},
        {"exp": None},
        {"nonce": "other"},
        {"nonce": None},
        {"sub": ""},
        {"sub": 7},
    ],
)
def test_an_id_token_that_is_not_for_us_is_not_believed(change: dict[str, Any]) -> None:
    check_id_token(GOOD, "https://a.example", "b", "n", 1000, "t")
    with pytest.raises(Denied, match="cannot be believed"):
        check_id_token({**GOOD, **change}, "https://a.example", "b", "n", 1000, "t")


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://evil.example"},
        {"aud": "c"},
        {"iat": 1},
        {"events": {}},
        {"events": None},
        {"nonce": "n"},
        {"sub": "", "sid": ""},
    ],
)
def test_a_logout_token_that_is_none_ends_nothing(change: dict[str, Any]) -> None:
    event = "http://schemas.openid.net/event/backchannel-logout"
    good = {k: v for k, v in GOOD.items() if k != "nonce"} | {"sid": "x", "events": {event: {}}}
    assert check_logout(good, "https://a.example", "b", 1000) == ("s1", "x", 1000.0)
    with pytest.raises(Denied):
        check_logout({**good, **change}, "https://a.example", "b", 1000)


def test_a_provider_that_says_it_is_another_one_is_not_asked() -> None:
    with pytest.raises(Denied):
        check_metadata({"issuer": "https://evil.example"}, "https://a.example")


async def test_a_provider_that_is_away_is_said_in_words(two: Two) -> None:
    upstream = two.b.app[IDENTITY].upstream
    assert upstream is not None
    upstream.settings = replace(
        upstream.settings, upstream_issuer=f"http://127.0.0.1:{free_port()}"
    )
    async with two.browser() as (_, b), asyncio.timeout(10):
        page = await b.page("/login/elsewhere")
        assert page.status == 503 and "does not answer" in page.text
