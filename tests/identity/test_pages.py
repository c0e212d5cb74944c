"""The pages of signing in and of one's own account, over a real socket."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pyotp
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from identity.accounts import totp
from identity.grants.domain import Subject
from identity.grants.service import NewGrant, grant
from identity.guard.service import COOKIE
from identity.pages.devices import device_name
from identity.sessions.service import live_sessions
from kernel.db.database import Database
from kernel.web.assets import DIST
from tests.identity.people import PASSWORD, make_account
from tests.identity.places import SYSTEM
from tests.identity.site import Site, serve_site

NEW = "Lusheng-42-pipes"


@pytest.fixture
async def site(database: Database) -> AsyncIterator[Site]:
    assert (DIST / "manifest.json").is_file(), "the front end is not built: run make setup"
    async with serve_site(database) as served:
        yield served


async def make_person(site: Site, login: str = "yang", *, must_change: bool = False) -> int:
    account = await make_account(
        site.database, login, must_change=must_change, display_name="杨秀英"
    )
    async with site.database.session(SYSTEM, write=True) as session:
        new = NewGrant(Subject("account", account.id), "radiologist", None)
        await grant(session, None, new)
    await site.keeper.look()
    return account.id


async def count_live(session: AsyncSession, account_id: int) -> int:
    return len(await live_sessions(session, account_id))


async def test_a_visitor_is_led_to_sign_in_and_back(site: Site) -> None:
    await make_person(site)
    async with site.client() as yang:
        led = await yang.page("/studies/1.2.3?PatientName=杨")
        assert led.status == 303 and led.headers["Location"] == "/login?next=/studies/1.2.3"
        shown = await yang.page(led.headers["Location"])
        assert "登录" in shown.text and 'name="next" value="/studies/1.2.3"' in shown.text
        done = await yang.fill("/login", login="Yang", password=PASSWORD, next="/studies/1.2.3")
        assert done.status == 303 and done.headers["Location"] == "/studies/1.2.3"
        cookie = done.headers["Set-Cookie"]
        assert cookie.startswith(COOKIE) and "HttpOnly" in cookie and "SameSite=Lax" in cookie
        home = await yang.page("/")
        assert home.status == 200 and "杨秀英" in home.text
        again = await yang.page("/login")
        assert again.status == 303 and again.headers["Location"] == "/"
        fragment = await yang.get("/account", **{"HX-Request": "true"})
        assert fragment.status == 200
    async with site.client() as program:
        assert (await program.get("/studies/1.2.3")).status == 401
        htmx = await program.get("/search", **{"HX-Request": "true"})
        assert (htmx.status, htmx.headers["HX-Redirect"]) == (401, "/login")


@pytest.mark.parametrize("place", ["//evil.example", "https://evil.example", "/\\evil", "x", ""])
async def test_signing_in_leads_to_no_other_site(site: Site, place: str) -> None:
    await make_person(site)
    async with site.client() as yang:
        done = await yang.fill("/login", login="yang", password=PASSWORD, next=place)
        assert done.headers["Location"] == "/"


async def test_a_wrong_password_is_told_in_words_and_not_what_was_wrong(site: Site) -> None:
    await make_person(site)
    async with site.client() as yang:
        wrong = await yang.sign_in("yang", "wrong")
        unknown = await yang.sign_in("nobody", PASSWORD)
        assert wrong.status == unknown.status == 403
        assert "登录名或密码不正确。" in wrong.text and "登录名或密码不正确。" in unknown.text
        assert 'value="yang"' in wrong.text and "wrong" not in wrong.text
        english = await yang.fill("/login?lang=en", login="yang", password="x")
        assert "Login name or password is not right." in english.text
        old = await yang.post(
            "/login", {"csrf": "x", "login": "yang", "password": PASSWORD}, Accept="text/html"
        )
        assert old.status == 403 and "Set-Cookie" not in str(old.headers.get("Set-Cookie", ""))
        assert (await yang.get("/search")).status == 401


async def test_the_first_sign_in_changes_the_password_before_anything_else(site: Site) -> None:
    account_id = await make_person(site, must_change=True)
    async with site.client() as yang:
        done = await yang.fill("/login", login="yang", password=PASSWORD, next="/search")
        assert done.headers["Location"] == "/account/password?next=/search"
        assert (await yang.get("/search")).code == "access.password_change"
        led = await yang.page("/studies/1.2")
        assert led.headers["Location"].startswith("/account/password")
        assert (await yang.page("/account")).headers["Location"] == "/account/password"
        page = "/account/password"
        bad = await yang.fill(page, old=PASSWORD, new="short", again="short")
        assert bad.status == 400 and "密码至少 10 个字符。" in bad.text
        differs = await yang.fill(page, old=PASSWORD, new=NEW, again=NEW + "x")
        assert "两次输入的新密码不一致。" in differs.text
        good = await yang.fill(page, old=PASSWORD, new=NEW, again=NEW, next="/search")
        assert good.headers["Location"] == "/search"
        assert (await yang.get("/search")).status == 200
        async with site.database.session(SYSTEM) as session:
            assert await count_live(session, account_id) == 1


async def test_the_second_factor_from_setting_up_to_signing_in(site: Site) -> None:
    account_id = await make_person(site)
    async with site.client() as yang:
        await yang.sign_in("yang", PASSWORD)
        shown = await yang.fill("/account/totp", do="begin")
        secret = re.search(r"<code>([A-Z2-7]{32})</code>", shown.text)
        assert secret is not None and "<svg" in shown.text
        wrong = await yang.fill("/account/totp", do="confirm", code="000000")
        assert wrong.status == 400 and secret[1] in wrong.text
        code = pyotp.TOTP(secret[1]).now()
        done = await yang.fill("/account/totp", do="confirm", code=code)
        codes = re.findall(r"<li><code>([A-Z2-7-]{19})</code>", done.text)
        assert len(codes) == 10
        assert "停用" in (await yang.page("/account/totp")).text
        refused = await yang.fill("/account/totp", do="off", password="wrong")
        assert refused.status == 403

    async with site.client() as yang:
        first = await yang.fill("/login", login="yang", password=PASSWORD, next="/search")
        assert first.headers["Location"] == "/login/code?next=/search"
        assert (await yang.get("/search")).code == "access.code"
        for path in ("/account", "/account/password", "/account/totp"):
            assert (await yang.page(path)).headers["Location"].startswith("/login/code")
        wrong = await yang.fill("/login/code?next=/search", to="/login/code", code="123456")
        assert wrong.status == 403 and "验证码不正确" in wrong.text
        done = await yang.fill("/login/code", code=codes[0], next="/search")
        assert done.headers["Location"] == "/search"
        assert (await yang.get("/search")).status == 200
        await yang.fill("/account/totp", do="off", password=PASSWORD)
    async with site.database.session(SYSTEM) as session:
        assert not await totp.is_on(session, account_id)


async def test_other_sessions_are_seen_and_ended(site: Site) -> None:
    await make_person(site)
    phone = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Safari/604.1"
    async with site.client() as here, site.client(**{"User-Agent": phone}) as there:
        await here.sign_in("yang", PASSWORD)
        await there.sign_in("yang", PASSWORD)
        shown = await here.page("/account")
        assert "Safari · iPhone" in shown.text and "本设备" in shown.text
        place = re.search(r'action="(/account/sessions/\d+/end)"', shown.text)
        assert place is not None
        forged = await here.post(place[1], {"csrf": "x"})
        assert forged.code == "access.csrf"
        assert (await here.fill("/account", to=place[1])).headers["Location"] == "/account"
        await site.keeper.look()
        assert (await there.get("/search")).status == 401
        assert (await here.get("/search")).status == 200


async def test_signing_out_ends_the_session_and_not_only_the_cookie(site: Site) -> None:
    await make_person(site)
    async with site.client() as yang:
        await yang.sign_in("yang", PASSWORD)
        token = next(one.value for one in yang.session.cookie_jar if one.key == COOKIE)
        forged = await yang.post("/logout", {"csrf": "错"})
        assert forged.code == "access.csrf"
        done = await yang.fill("/", to="/logout")
        assert done.headers["Location"] == "/login"
        assert (await yang.get("/search")).status == 401
    async with site.client(Cookie=f"{COOKIE}={token}") as thief:
        assert (await thief.get("/search")).status == 401


async def test_a_sign_in_never_goes_on_in_an_old_session(site: Site) -> None:
    account_id = await make_person(site)
    async with site.client() as yang:
        await yang.sign_in("yang", PASSWORD)
        await yang.fill("/login?again=1", to="/login", login="yang", password=PASSWORD)
        async with site.database.session(SYSTEM) as session:
            assert await count_live(session, account_id) == 1


async def test_pages_are_complete_in_english(site: Site) -> None:
    await make_person(site)
    async with site.client(Cookie="lang=en") as client:
        assert "Every image, wherever the patient goes" in (await client.page("/login")).text


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/140.0 Safari/537.36 Edg/140.0", "Edge · Windows"),
        ("Mozilla/5.0 (Linux; Android 14) MicroMessenger/8.0", "WeChat · Android"),
        ("curl/8.5.0", "curl/8.5.0"),
        ("", "?"),
    ],
)
def test_devices_have_short_names(agent: str, name: str) -> None:
    assert device_name(agent) == name
