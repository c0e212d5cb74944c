"""Residents sign in by phone, and nobody is bombed with codes."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from authlib.integrations.requests_client import OAuth2Session
from joserfc import jwt
from joserfc.jwk import KeySet
from sqlalchemy import text

from identity.citizens.domain import Counts, check_counts
from identity.citizens.routes import CITIZENS
from identity.citizens.service import Citizens
from identity.guard.service import CITIZEN_COOKIE
from identity.phones.domain import check_number, masked
from identity.sign_in.service import Visitor
from kernel.audit.service import recent
from kernel.db.database import Database
from kernel.db.statement import Statement
from kernel.errors import AppError, Denied, Invalid
from kernel.notify.service import open_outbox
from kernel.sealing.service import open_sealer
from kernel.settings import CitizenSettings, Settings, SmsSettings
from tests.identity.places import SYSTEM
from tests.identity.site import Client
from tests.identity.sso import SsoSite, begin, led_to, onward_place, serve_rp, serve_sso

NUMBER, OTHER = "13985512345", "13885512346"
HERE, THERE = Visitor("10.1.1.1", "x"), Visitor("10.2.2.2", "x")


@pytest.mark.parametrize(
    "typed", ["13985512345", "+86 139 8551 2345", "0086-13985512345", "８６１３９８５５１２３４５"]
)
def test_a_number_is_understood_as_people_type_it(typed: str) -> None:
    assert check_number(typed) == NUMBER
    assert masked(NUMBER) == "139****2345"


@pytest.mark.parametrize(
    "typed", ["", "1398551234", "12345678901", "+1 2025550100", "139855123456"]
)
def test_what_is_no_mobile_number_is_refused_without_repeating_it(typed: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_number(typed)
    assert refused.value.code == "sms.number" and not refused.value.fields


LIMITS = CitizenSettings(
    number_hour=2, number_day=3, address_hour=4, address_day=5, overall_minute=6
)


@pytest.mark.parametrize(
    ("counts", "code"),
    [
        (Counts(0, 1, 2, 3, 4, 5), ""),
        (Counts(1, 1, 1, 1, 1, 1), "citizen.wait"),
        (Counts(0, 2, 2, 2, 2, 0), "citizen.limit"),
        (Counts(0, 0, 3, 3, 3, 0), "citizen.limit"),
        (Counts(0, 0, 0, 4, 4, 0), "citizen.limit"),
        (Counts(0, 0, 0, 0, 5, 0), "citizen.limit"),
        (Counts(0, 0, 0, 0, 0, 6), "citizen.limit"),
    ],
)
def test_limits_hold_for_number_address_and_all_together(counts: Counts, code: str) -> None:
    try:
        check_counts(counts, LIMITS)
        found = ""
    except Denied as error:
        found = error.code
    assert found == code


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def citizens(settings: Settings, database: Database, clock: Clock) -> Citizens:
    sealer = open_sealer(settings)
    outbox = open_outbox(SmsSettings(show_texts=True), database, sealer)
    return Citizens(database, sealer, outbox, settings.citizens, clock)


async def code_of(citizens: Citizens) -> str:
    return (await citizens.outbox.listed(limit=1))[0].text


async def refusal(work: Any) -> str:
    try:
        await work
    except AppError as error:
        return error.code
    return ""


@pytest.mark.backend
async def test_a_resident_signs_in_and_is_the_same_person_next_time(
    citizens: Citizens, clock: Clock, database: Database
) -> None:
    request, shown = await citizens.send_code("+86 139 8551 2345", HERE)
    assert shown == "139****2345"
    first = await citizens.with_code(request, await code_of(citizens), HERE)
    clock.now += 61
    again, _ = await citizens.send_code(NUMBER, THERE)
    second = await citizens.with_code(again, await code_of(citizens), THERE)
    assert second.session.account_id == first.session.account_id
    assert await citizens.shown_number(first.session.account_id) == "139****2345"
    other, _ = await citizens.send_code(OTHER, HERE)
    third = await citizens.with_code(other, await code_of(citizens), HERE)
    assert third.session.account_id != first.session.account_id
    for table in ("account", "citizen_phone", "citizen_code", "sms_message", "audit"):
        rows = str(await database.fetch(Statement(text(f"SELECT * FROM {table}")), {}))
        assert NUMBER not in rows and NUMBER[2:] not in rows, table


@pytest.mark.backend
async def test_a_code_counts_once_for_five_minutes_and_five_attempts(
    citizens: Citizens, clock: Clock
) -> None:
    request, _ = await citizens.send_code(NUMBER, HERE)
    code = await code_of(citizens)
    wrong = f"{(int(code) + 1) % 1_000_000:06d}"
    assert await refusal(citizens.with_code(request, "12345", HERE)) == "citizen.code"
    for unknown in ("nothing", "\x00", ""):
        assert await refusal(citizens.with_code(unknown, code, HERE)) == "citizen.old"
    assert await refusal(citizens.with_code(request, wrong, HERE)) == "citizen.wrong"
    await citizens.with_code(request, code, HERE)
    assert await refusal(citizens.with_code(request, code, HERE)) == "citizen.old"

    clock.now += 61
    late, _ = await citizens.send_code(NUMBER, HERE)
    code = await code_of(citizens)
    clock.now += 301
    assert await refusal(citizens.with_code(late, code, HERE)) == "citizen.old"

    guessed, _ = await citizens.send_code(NUMBER, HERE)
    code = await code_of(citizens)
    wrong = f"{(int(code) + 1) % 1_000_000:06d}"
    for _ in range(5):
        assert await refusal(citizens.with_code(guessed, wrong, HERE)) == "citizen.wrong"
    assert await refusal(citizens.with_code(guessed, code, HERE)) == "citizen.locked"
    clock.now += 61
    assert await refusal(citizens.send_code(NUMBER, THERE)) == "citizen.locked"
    await citizens.send_code(OTHER, HERE)  # nobody else is locked out
    clock.now += 900
    await citizens.send_code(NUMBER, HERE)


@pytest.mark.backend
async def test_a_number_is_not_bombed_and_each_refusal_is_written_down(
    citizens: Citizens, clock: Clock, database: Database
) -> None:
    await citizens.send_code(NUMBER, HERE)
    assert await refusal(citizens.send_code("86 " + NUMBER, THERE)) == "citizen.wait"
    for _ in range(4):
        clock.now += 61
        await citizens.send_code(NUMBER, THERE)
    clock.now += 61
    assert await refusal(citizens.send_code(NUMBER, HERE)) == "citizen.limit"
    clock.now += 3600
    for _ in range(5):
        await citizens.send_code(NUMBER, HERE)
        clock.now += 61
    clock.now += 3600
    assert await refusal(citizens.send_code(NUMBER, HERE)) == "citizen.limit"
    await citizens.send_code(OTHER, HERE)
    citizens.settings = replace(citizens.settings, address_hour=1)
    clock.now += 61
    assert await refusal(citizens.send_code("13700000000", HERE)) == "citizen.limit"
    await citizens.send_code("13700000000", Visitor("10.3.3.3", "x"))
    async with database.session(SYSTEM) as session:
        lines = [o for o in await recent(session, SYSTEM) if o.action == "identity.citizen_code"]
    refused = [one.detail["code"] for one in lines if one.outcome == "denied"]
    assert refused.count("citizen.limit") == 3 and refused.count("citizen.wait") == 1
    assert {one.peer for one in lines} == {"10.1.1.1", "10.2.2.2", "10.3.3.3"}


@pytest.fixture
async def site(settings: Settings) -> AsyncIterator[SsoSite]:
    shown = replace(settings, sms=SmsSettings(show_texts=True, report_key="k" * 20))
    async with serve_sso(shown) as served:
        yield served


async def sign_in(
    site: SsoSite, browser: Client, number: str = NUMBER, start: str = "/my/login"
) -> Any:
    sent = await browser.fill(
        start, to="/my/login", number=number, next=led_to(start).get("next", "")
    )
    assert sent.status == 200, sent.text
    fields = dict(re.findall(r'name="(csrf|request|next)" value="([^"]*)"', sent.text))
    code = await code_of(site.app[CITIZENS])
    fields = {name: one.replace("&amp;", "&") for name, one in fields.items()}
    return await browser.post("/my/login/code", fields | {"code": code}, Accept="text/html")


async def test_a_resident_in_a_browser_sees_the_own_sign_in_and_nothing_else(
    site: SsoSite,
) -> None:
    async with site.browser() as browser, site.browser() as phone:
        led = await browser.page("/my")
        assert led.headers["Location"] == "/my/login?next=/my"
        wrong = await browser.fill("/my/login", number="123")
        assert wrong.status == 400 and "eleven digits" in wrong.text
        done = await sign_in(site, browser)
        assert onward_place(done.text) == "/my"
        cookie = done.headers["Set-Cookie"]
        assert cookie.startswith(CITIZEN_COOKIE) and "Path=/my" in cookie
        assert "HttpOnly" in cookie and "Max-Age=2592000" in cookie
        home = await browser.page("/my")
        assert "139****2345" in home.text and "Nothing is offered here yet" in home.text
        assert NUMBER not in home.text
        # The cookie of a resident opens nothing of the staff, wherever it is put.
        token = cookie.partition("=")[2].partition(";")[0]
        for path in ("/studies", "/account", "/dicom-web/studies"):
            answer = await browser.get(path, Cookie=f"yunying_session={token}")
            assert answer.status == 401, path
        site.app[CITIZENS].clock = lambda: time.time() + 61
        await sign_in(site, phone)
        both = await browser.page("/my")
        number = re.search(r'action="/my/sessions/(\d+)/end"', both.text)
        assert number is not None
        ended = await browser.fill("/my", to=f"/my/sessions/{number[1]}/end")
        assert ended.status == 303
        assert (await phone.page("/my")).status == 303
        assert (await browser.fill("/my", to="/my/logout")).headers["Location"] == "/my/login"
        assert (await browser.get("/my")).code == "access.citizen"


async def test_a_resident_is_known_in_the_app_of_residents(site: SsoSite) -> None:
    async with serve_rp() as rp, site.browser() as browser:
        scopes = ["openid", "profile", "phone"]
        await rp.register(site.database, "my-app", kind="public", audience="citizen", scopes=scopes)
        with pytest.raises(Invalid):
            await rp.register(site.database, "x", audience="citizen", scopes=["studies.read"])
        begun = begin("my-app", rp.callback, "openid profile phone")
        led = await browser.page(begun.path)
        assert led.headers["Location"].startswith("/my/authorize?")
        start = (await browser.page(led.headers["Location"])).headers["Location"]
        done = await sign_in(site, browser, start=start)
        back = led_to((await browser.page(onward_place(done.text))).headers["Location"])
        assert back["state"] == begun.state
        with OAuth2Session(
            "my-app",
            token_endpoint_auth_method="none",
            redirect_uri=rp.callback,
            default_timeout=20,
        ) as client:
            token = await ask(client, site, back["code"], begun.verifier)
        keys = KeySet.import_key_set((await browser.get("/sso/jwks")).json)
        claims = jwt.decode(token["id_token"], keys, algorithms=["ES256"]).claims
        assert (claims["acr"], claims["amr"]) == ("sms", ["sms"])
        assert claims["phone_number"] == f"+86{NUMBER}" and claims["name"] == "139****2345"
        bearer = {"Authorization": f"Bearer {token['access_token']}"}
        assert (await browser.get("/dicom-web/studies", **bearer)).status == 403


async def ask(client: Any, site: SsoSite, code: str, verifier: str) -> Any:
    return await asyncio.to_thread(
        client.fetch_token,
        f"{site.base}/sso/token",
        grant_type="authorization_code",
        code=code,
        code_verifier=verifier,
    )


async def test_delivery_reports_are_heard_from_who_knows_the_key_only(site: SsoSite) -> None:
    async with site.browser() as carrier:
        for path, body, status in (
            ("/sms/reports/aliyun/wrong", "[]", 404),
            ("/sms/reports/nobody/" + "k" * 20, "[]", 404),
            ("/sms/reports/aliyun/" + "k" * 20, "{", 400),
            ("/sms/reports/aliyun/" + "k" * 20, "{}", 400),
            ("/sms/reports/aliyun/" + "k" * 20, "[]", 200),
            ("/sms/reports/tencent/" + "k" * 20, "[]", 200),
        ):
            async with carrier.session.post(site.base + path, data=body) as answer:
                assert answer.status == status, (path, body)
                if status == 200:
                    said = await answer.json(content_type=None)
                    assert said in ({"result": 0, "errmsg": "OK"}, {"code": 0, "msg": "成功"})
