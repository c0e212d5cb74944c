"""The page /audit: only for auditors, on a desk and on a phone."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import Browser, expect

from identity.grants.domain import Subject
from identity.grants.service import NewGrant, grant
from kernel.audit.domain import AuditRecord
from kernel.audit.seal import seal
from kernel.audit.service import append
from kernel.audit_rules.domain import Person, read_rules
from kernel.audit_rules.service import look
from kernel.db.database import Database
from kernel.scope import Actor, Scope
from kernel.settings import Settings
from server.web_process import build
from tests.chromium import SIZES
from tests.identity.people import PASSWORD, make_account

SYSTEM = Scope.system("test")


class Nobody:
    """Knows no names."""

    async def account_name(self, account_id: str) -> str:
        return ""

    async def person_of(self, study_instance_uid: str, owner_id: int | None) -> Person:
        return Person()


@pytest.fixture
async def base(settings: Settings, database: Database) -> AsyncIterator[str]:
    auditor = await make_account(database, "auditor", display_name="石阿妹")
    doctor = await make_account(database, "doctor", display_name="杨秀英")
    async with database.session(SYSTEM, write=True) as session:
        await grant(session, None, NewGrant(Subject("account", auditor.id), "auditor", None))
        await grant(session, None, NewGrant(Subject("account", doctor.id), "radiologist", None))
        now = datetime.now(UTC)
        for number in range(180):
            done = AuditRecord(
                Actor("session", str(doctor.id)) if number % 3 else Actor("ae", "CT1"),
                ("archive.study.read", "archive.study.search", "dimse.c-store")[number % 3],
                "denied" if number % 7 == 0 else "ok",
                1,
                f"1.2.156.{number}",
                peer="10.52.0.7",
                detail={"status": 403 if number % 7 == 0 else 200},
                at=now - timedelta(minutes=number * 37),
            )
            await append(session, done)
        for number in range(20):
            refused = AuditRecord(
                Actor("client", "4"), "archive.study.search", "denied", 1, at=now, count=1,
                detail={"code": "access.denied", "try": number},
            )  # fmt: skip
            await append(session, refused)
    await seal(database)
    await look(database, read_rules(), Nobody())
    async with AsyncExitStack() as stack:
        app = await build(settings, stack)
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"


@pytest.mark.browser
@pytest.mark.parametrize("size", SIZES)
async def test_an_auditor_finds_a_line_and_looks_into_a_finding(
    base: str, browser: Browser, size: str, tmp_path: Path
) -> None:
    shots = Path(os.environ.get("YUNYING_SHOTS", tmp_path))
    width, height = SIZES[size]
    page = await browser.new_page(
        locale="zh-CN", viewport={"width": width, "height": height}, base_url=base
    )
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    await page.goto("/audit")
    await page.get_by_label("登录名").fill("doctor")
    await page.get_by_label("密码").fill(PASSWORD)
    await page.get_by_role("button", name="登录").click()
    await page.wait_for_load_state()
    refused = await page.goto("/audit")
    assert refused is not None and refused.status == 403

    await page.context.clear_cookies()
    await page.goto("/audit")
    await page.get_by_label("登录名").fill("auditor")
    await page.get_by_label("密码").fill(PASSWORD)
    await page.get_by_role("button", name="登录").click()
    await expect(page.get_by_role("heading", name="审计", exact=True)).to_be_visible()
    await expect(page.get_by_text("多次访问被拒绝")).to_be_visible()
    await page.screenshot(path=shots / f"audit-{size}-1.png", full_page=True)
    wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0

    assert await page.locator(".audit-lines li").count() == 50
    await page.get_by_role("button", name="显示更多").click()
    await expect(page.locator(".audit-lines li")).to_have_count(100)
    await page.get_by_label("检查实例 UID").fill("1.2.156.22")
    for called, lines in (("石阿妹", 0), ("秀英", 1), ("DOCTOR", 1)):
        await page.get_by_label("操作者").fill(called)
        await page.get_by_role("button", name="搜索").click()
        await expect(page.locator(".audit-lines li")).to_have_count(lines)
    await page.get_by_label("检查实例 UID").fill("1.2.156.21")
    await page.get_by_label("操作者").fill("CT1")
    await page.get_by_role("button", name="搜索").click()
    await expect(page.locator(".audit-lines li")).to_have_count(1)
    await page.locator(".audit-lines summary").click()
    await expect(page.get_by_text("已封存，序号")).to_be_visible()
    await page.screenshot(path=shots / f"audit-{size}-2.png", full_page=True)
    await page.get_by_label("检查实例 UID").fill("9.9")
    await page.get_by_role("button", name="搜索").click()
    await expect(page.get_by_text("没有符合条件的审计记录")).to_be_visible()

    await page.get_by_label("处理结果").fill("脚本配置错误，已停用")
    await page.get_by_role("button", name="已核查").click()
    await expect(page.get_by_text("多次访问被拒绝")).to_have_count(0)
    assert errors == []
