"""Every page of the console in headless Chromium: nothing too wide, nothing that axe-core minds."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from kernel.db.database import Database
from kernel.settings import Settings
from tests.chromium import SIZES
from tests.conftest import ROOT
from tests.identity.people import PASSWORD
from tests.server.console_site import ConsoleSite, serve_console
from tests.server.test_console import PAGES, fill

pytestmark = pytest.mark.browser

AXE = ROOT / "kernel/web/frontend/node_modules/axe-core/axe.min.js"
MORE_PAGES = (
    "/search",
    "/organisations/new",
    "/organisations/import",
    "/organisations/2",
    "/organisations/3/edit",
    "/organisations/3/move",
    "/accounts/new",
    "/accounts/3",
    "/accounts/3/edit",
    "/clients/new",
    "/applications/new",
    "/roles/new",
    "/aes/new",
)


@pytest.fixture
async def site(settings: Settings, database: Database) -> AsyncIterator[ConsoleSite]:
    async with serve_console(settings, database) as served:
        await fill(served)
        yield served


async def enter(page: Page, login: str) -> None:
    await page.goto("/login")
    await page.locator("[name=login]").fill(login)
    await page.locator("[name=password]").fill(PASSWORD)
    await page.locator("button[type=submit]").click()
    await page.wait_for_url("**/")


async def minded(page: Page) -> list[str]:
    """What axe-core minds: rule and place."""
    # As an inline evaluation, since the page's own policy lets no foreign script in.
    await page.evaluate(AXE.read_text())
    found: Any = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {node['target']} {node.get('failureSummary', '')}"
        for one in found["violations"]
        for node in one["nodes"]
    ]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("size", SIZES)
async def test_every_page_fits_and_is_accessible(
    browser: Browser, site: ConsoleSite, size: str, tmp_path: Path
) -> None:
    width, height = SIZES[size]
    page = await browser.new_page(
        locale="zh-CN", viewport={"width": width, "height": height}, base_url=site.base
    )
    errors: list[str] = []
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    paths = [("chief", one) for one in (*PAGES, *MORE_PAGES) if one != "/audit"]
    here, wrong = "", []
    for login, path in [*paths, ("auditor", "/audit")]:
        if login != here:
            await page.context.clear_cookies()
            await enter(page, login)
            here = login
        answer = await page.goto(path)
        assert answer is not None and answer.status == 200, path
        await page.wait_for_load_state("networkidle")
        overflow = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if overflow > 0:
            wrong.append(f"{path}: {overflow} px too wide")
        wrong += [f"{path}: {one}" for one in await minded(page)]
        name = f"{size}{path.replace('/', '-')}.png"
        await page.screenshot(path=Path(os.environ.get("YUNYING_SHOTS", tmp_path)) / name)
    assert wrong == []
    assert errors == []


async def test_keys_find_help_and_close(browser: Browser, site: ConsoleSite) -> None:
    page = await browser.new_page(
        locale="zh-CN", viewport={"width": 1440, "height": 900}, base_url=site.base
    )
    await enter(page, "chief")
    await page.keyboard.press("/")
    await page.keyboard.type("zzjg")
    row = page.locator("#found a", has_text="组织机构").first
    await expect(row).to_be_visible()
    await page.keyboard.press("ArrowDown")
    await expect(row).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="组织机构", level=1)).to_be_visible()
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="快捷键")).to_be_visible()
    await page.keyboard.press("Escape")
    await page.keyboard.press("/")
    await page.keyboard.type("H0101")
    await expect(page.locator("#rows .lead a")).to_have_count(1)
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="institution H0101", level=1)).to_be_visible()


async def test_a_question_is_asked_before_what_cannot_be_undone(
    browser: Browser, site: ConsoleSite
) -> None:
    page = await browser.new_page(locale="zh-CN", base_url=site.base)
    await enter(page, "chief")
    await page.goto(f"/organisations/{site.places.hospital_a2}")
    await page.get_by_role("button", name="注销").click()
    await page.get_by_role("button", name="取消").click()
    await expect(page.get_by_role("dialog")).to_be_hidden()
    await page.get_by_role("button", name="注销").click()
    await page.get_by_role("dialog").get_by_role("button", name="注销").click()
    await expect(page.locator("[data-toast]")).to_contain_text("已保存")
    await expect(page.get_by_role("button", name="注销")).to_have_count(0)
