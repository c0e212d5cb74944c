"""Signed in once: a county portal, a second server and a resident's phone, in headless Chromium.

Row A1.7. Who signs in at the prefecture opens the laboratory's server without a second sign-in,
allows an application of others what it asks for, and is out of all of them within five seconds of
signing out at one. A resident signs in by phone.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from identity.applications.service import Facts, register
from identity.grants.domain import Subject
from identity.grants.service import NewGrant, grant
from kernel.db.database import Database
from kernel.notify.routes import OUTBOX
from kernel.settings import Settings, SmsSettings, SsoSettings
from server.migrations.run import upgrade
from tests.identity.people import PASSWORD, make_account
from tests.identity.places import SYSTEM
from tests.identity.sso import SsoSite, begin, serve_rp, serve_sso
from tests.identity.test_browser import shot
from tests.servers import free_port
from tests.waiting import eventually

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture
async def prefecture(settings: Settings) -> AsyncIterator[SsoSite]:
    shown = replace(settings, sms=SmsSettings(show_texts=True))
    async with serve_sso(shown) as served:
        for login, role in (("yang", "radiologist"), ("chief", "platform_admin")):
            await make_person(served, login, role)
        yield served


async def make_person(site: SsoSite, login: str, role: str) -> None:
    account = await make_account(site.database, login, display_name="杨秀英")
    async with site.database.session(SYSTEM, write=True) as session:
        await grant(session, None, NewGrant(Subject("account", account.id), role, None))
    await site.keeper.look()


async def lab_settings(site: SsoSite, data: Path, port: int) -> Settings:
    base = f"http://localhost:{port}"
    facts = Facts(
        "检验云",
        "Lab cloud",
        [f"{base}/login/callback"],
        [f"{base}/login/out"],
        f"{base}/login/ended",
        first_party=True,
    )
    async with site.database.session(SYSTEM, write=True) as session:
        _, secret = await register(session, SYSTEM, "lab-cloud", facts)
    sso = SsoSettings(
        upstream_issuer=site.base,
        upstream_client_id="lab-cloud",
        upstream_client_secret=secret,
        upstream_match="login",
    )
    return Settings(data=data, sso=sso)


async def test_one_sign_in_opens_everything_and_one_sign_out_closes_it(
    browser: Browser, prefecture: SsoSite, database: Database, tmp_path: Path
) -> None:
    port = free_port()
    other = await lab_settings(prefecture, tmp_path / "lab", port)
    await upgrade(other)
    async with serve_sso(other, port=port, name="localhost") as lab, serve_rp() as portal:
        await make_person(lab, "yang", "radiologist")
        await portal.register(database, "county-portal", first_party=False, name_zh="榕江县门户")
        page = await browser.new_page(locale="zh-CN", viewport={"width": 1440, "height": 900})
        # From the laboratory's server to the prefecture, and back signed in.
        await page.goto(f"{lab.base}/studies")
        await expect(page).to_have_url(re.compile(re.escape(f"{prefecture.base}/login")))
        await page.get_by_label("登录名").fill("yang")
        await page.get_by_label("密码").fill(PASSWORD)
        await page.get_by_role("button", name="登录").click()
        await expect(page).to_have_url(f"{lab.base}/studies")
        # The prefecture's own pages: no second sign-in.
        await page.goto(f"{prefecture.base}/account")
        await expect(page.get_by_role("heading", name="杨秀英")).to_be_visible()
        # An application of others asks first, once.
        begun = begin("county-portal", portal.callback, "openid profile org")
        await page.goto(prefecture.base + begun.path)
        await expect(page.get_by_role("heading", name="榕江县门户")).to_be_visible()
        await expect(page.get_by_text("查看您的工作单位")).to_be_visible()
        await shot(page, tmp_path, "sso-1-consent")
        await page.get_by_role("button", name="同意", exact=True).click()
        await expect(page).to_have_url(re.compile(re.escape(portal.callback) + ".*code="))
        # Out here is out there.
        await page.goto(f"{prefecture.base}/account")
        await page.get_by_label("我的账号").first.click()
        left = time.monotonic()
        await page.get_by_role("button", name="退出登录").click()
        await expect(page).to_have_url(re.compile("/login"))

        async def out() -> bool:
            return (await page.request.get(f"{lab.base}/dicom-web/studies")).status == 401

        await eventually(out, 5)
        assert time.monotonic() - left < 5
        await page.goto(f"{lab.base}/studies")
        await expect(page).to_have_url(re.compile(re.escape(f"{prefecture.base}/login")))


async def test_an_administrator_registers_an_application_and_renews_a_key(
    browser: Browser, prefecture: SsoSite, tmp_path: Path
) -> None:
    for size, (width, height) in {"desk": (1440, 900), "phone": (390, 844)}.items():
        page = await browser.new_page(
            locale="zh-CN",
            viewport={"width": width, "height": height},
            base_url=prefecture.base,
        )
        await sign_in(page, "chief")
        await page.goto("/applications/new")
        await page.get_by_label("客户端标识").fill(f"portal-{size}")
        await page.get_by_label("中文名称").fill("榕江县居民健康门户")
        await page.get_by_label("英文名称").fill("Rongjiang county portal")
        await page.get_by_label("登录后的返回地址").fill("http://portal.example/callback")
        await page.get_by_label("查看您的工作单位").check()
        await page.get_by_role("button", name="登记").click()
        await expect(page.get_by_text("需要完整的 https 地址")).to_be_visible()
        await shot(page, tmp_path, f"sso-{size}-2-form")
        await page.get_by_label("登录后的返回地址").fill("https://portal.example/callback")
        await page.get_by_role("button", name="登记").click()
        await expect(page.get_by_text("密钥只显示这一次")).to_be_visible()
        await shot(page, tmp_path, f"sso-{size}-3-secret")
        await page.locator(".card-actions a").first.click()
        await page.get_by_role("button", name="更换签名密钥").click()
        await page.locator("[data-confirm-yes]").click()
        await expect(page.get_by_text("已生成新密钥")).to_be_visible()
        await shot(page, tmp_path, f"sso-{size}-4-applications")
        await page.goto("/messages")
        await shot(page, tmp_path, f"sso-{size}-5-messages")
        await page.close()


async def test_a_resident_signs_in_by_phone(
    browser: Browser, prefecture: SsoSite, tmp_path: Path
) -> None:
    page = await browser.new_page(
        locale="zh-CN", viewport={"width": 390, "height": 844}, base_url=prefecture.base
    )
    await page.goto("/my")
    await shot(page, tmp_path, "my-1-number")
    await page.get_by_label("手机号码").fill("+86 139 8551 2345")
    await page.get_by_role("button", name="获取验证码").click()
    await expect(page.get_by_text("139****2345")).to_be_visible()
    code = (await prefecture.app[OUTBOX].listed(limit=1))[0].text
    await page.get_by_label("六位验证码").fill(f"{(int(code) + 1) % 1_000_000:06d}")
    await page.get_by_role("button", name="登录").click()
    await expect(page.get_by_role("alert")).to_contain_text("验证码不正确")
    await shot(page, tmp_path, "my-2-code")
    await page.get_by_label("六位验证码").fill(code)
    await page.get_by_role("button", name="登录").click()
    await expect(page.get_by_role("heading", name="您好")).to_be_visible()
    await expect(page.get_by_text("暂未开放其他服务")).to_be_visible()
    size = await page.evaluate(
        "getComputedStyle(document.querySelector('.citizen-card p')).fontSize"
    )
    assert float(size.removesuffix("px")) >= 18
    await shot(page, tmp_path, "my-3-home")
    await page.get_by_role("button", name="退出登录").click()
    await expect(page.get_by_label("手机号码")).to_be_visible()


async def sign_in(page: Page, login: str) -> None:
    await page.goto("/login")
    await page.get_by_label("登录名").fill(login)
    await page.get_by_label("密码").fill(PASSWORD)
    await page.get_by_role("button", name="登录").click()
    await expect(page).to_have_url(re.compile("/$"))
