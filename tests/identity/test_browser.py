"""Signing in with headless Chromium, on a desk and on a phone."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pyotp
import pytest
from playwright.async_api import Browser, Page, expect

from identity.grants.domain import Subject
from identity.grants.service import NewGrant, grant
from kernel.db.database import Database
from tests.chromium import SIZES
from tests.identity.people import PASSWORD, make_account
from tests.identity.places import SYSTEM
from tests.identity.site import Site, serve_site

pytestmark = pytest.mark.browser

NEW = "Lusheng-42-pipes"


@pytest.fixture
async def site(database: Database) -> AsyncIterator[Site]:
    async with serve_site(database) as served:
        account = await make_account(
            database, "yang", must_change=True, display_name="杨秀英", title="主治医师"
        )
        async with database.session(SYSTEM, write=True) as session:
            new = NewGrant(Subject("account", account.id), "radiologist", None)
            await grant(session, None, new)
        await served.keeper.look()
        yield served


@pytest.mark.parametrize("size", SIZES)
async def test_from_the_first_sign_in_to_the_second_factor_and_out(
    browser: Browser, site: Site, size: str, tmp_path: Path
) -> None:
    width, height = SIZES[size]
    page = await browser.new_page(
        locale="zh-CN", viewport={"width": width, "height": height}, base_url=site.base
    )
    errors: list[str] = []
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))

    await page.goto("/studies/1.2.3")
    await expect(page.get_by_role("heading", name="登录")).to_be_visible()
    await shot(page, tmp_path, f"{size}-1-sign-in")
    await page.get_by_label("登录名").fill("yang")
    await page.get_by_label("密码").fill(PASSWORD)
    await page.get_by_role("button", name="登录").click()

    await expect(page.get_by_role("heading", name="修改密码")).to_be_visible()
    await page.get_by_label("当前密码").fill(PASSWORD)
    await page.get_by_label("新密码", exact=True).fill(NEW)
    await page.get_by_label("再次输入新密码").fill(NEW + "x")
    await page.get_by_role("button", name="修改密码").click()
    await expect(page.get_by_role("alert")).to_contain_text("两次输入的新密码不一致")
    await shot(page, tmp_path, f"{size}-2-password")
    await page.get_by_label("当前密码").fill(PASSWORD)
    await page.get_by_label("新密码", exact=True).fill(NEW)
    await page.get_by_label("再次输入新密码").fill(NEW)
    await page.get_by_role("button", name="修改密码").click()
    await expect(page).to_have_url(re.compile("/(studies/1.2.3)?$"))

    await page.goto("/account")
    await expect(page.get_by_role("heading", name="杨秀英")).to_be_visible()
    await shot(page, tmp_path, f"{size}-3-account")
    await page.get_by_role("link", name="设置").click()
    await page.get_by_role("button", name="设置").click()
    secret = await page.locator(".copyable code").inner_text()
    await shot(page, tmp_path, f"{size}-4-totp")
    await page.get_by_label("验证码").fill(pyotp.TOTP(secret).now())
    await page.get_by_role("button", name="启用").click()
    code = await page.locator(".recovery-codes code").first.inner_text()
    await shot(page, tmp_path, f"{size}-5-recovery")
    await page.get_by_role("link", name="我已抄写保存").click()

    await page.get_by_label("我的账号").first.click()
    await shot(page, tmp_path, f"{size}-6-menu")
    await page.get_by_role("button", name="退出登录").click()
    await page.get_by_label("登录名").fill("yang")
    await page.get_by_label("密码").fill(NEW)
    await page.get_by_role("button", name="登录").click()
    await expect(page.get_by_role("heading", name="第二步验证")).to_be_visible()
    await shot(page, tmp_path, f"{size}-7-code")
    await page.get_by_label("验证码").fill(code)
    await page.get_by_role("button", name="继续").click()
    await expect(page).to_have_url(f"{site.base}/")
    assert [one for one in errors if "status of 40" not in one] == []
    assert await page.evaluate("document.documentElement.scrollWidth") <= width


async def shot(page: Page, folder: Path, name: str) -> None:
    """Nothing is wider than the window; a picture for whoever looks (YUNYING_SHOTS names where)."""
    overflow = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert overflow <= 0, f"{name} is {overflow} px too wide"
    await page.screenshot(path=Path(os.environ.get("YUNYING_SHOTS", folder)) / f"{name}.png")
