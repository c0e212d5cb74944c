"""A prefecture begins: from the first start to a hospital whose doctors see what is theirs.

First start, password, organisations from a workbook with three bad rows, an administrator of a
county, a doctor and a DICOM node of a hospital, a grant that is refused, a role of one's own, an
emergency that is reviewed, an auditor who sees all of it, and one changed byte that is found; in
headless Chromium against the real server.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from openpyxl import Workbook
from playwright.sync_api import Browser, Page, expect
from pydicom import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind
from sqlalchemy import text

from identity.organisations.workbook import COLUMNS, in_chinese
from kernel.audit.seal import seal
from kernel.audit.verify import verify
from kernel.db.database import Database
from kernel.ledger.domain import Finding
from kernel.scope import Scope
from kernel.settings import Settings
from tests.chromium import chromium
from tests.dicomweb.conftest import multipart
from tests.dicomweb.material import dataset, file, uid
from tests.server.running import Running, serve

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

HEADINGS = [in_chinese(COLUMNS[one]) for one in ("kind", "code", "parent", "name", "uscc")]
GOOD = [
    ("地州", "5226", "", "黔东南苗族侗族自治州", ""),
    ("县市", "522601", "5226", "凯里市", ""),
    ("县市", "522632", "5226", "榕江县", ""),
    ("机构", "H0001", "522601", "凯里市人民医院", ""),
    ("机构", "H0002", "522632", "榕江县人民医院", ""),
]
BAD = [
    ("机构", "H0003", "522601", "凯里市中医医院", "91520000000000000X"),
    ("机构", "H0004", "522699", "无上级医院", ""),
    ("医院", "H0005", "522601", "级别有误医院", ""),
]
PASSWORDS = {"admin": "Lusheng-42-pipes", "kaili": "Shuihu-17-bridge", "rong": "Gulou-88-tower"}
KAILI, RONGJIANG = "凯里市人民医院", "榕江县人民医院"


def test_a_prefecture_begins(tmp_path: Path) -> None:
    with serve(tmp_path) as server, chromium() as browser:
        first = re.search(r"shown this once:\s+(\S+)", server.log())
        assert first is not None, server.log()
        admin = open_page(browser, server)
        sign_in_first(admin, "admin", first[1])
        import_organisations(admin)
        store_studies(admin, server)
        passwords = {
            "county": make_account(admin, "county", "吴县管", "榕江县", "县级管理员"),
            "kaili": make_account(admin, "kaili", "杨秀英", KAILI, "放射科医师"),
            "affairs": make_account(admin, "affairs", "欧阳明", "榕江县", "医务管理"),
        }
        passwords["auditor"] = make_account(
            admin, "auditor", "石阿妹", KAILI, "审计员", everywhere=True
        )
        doctor = open_page(browser, server)
        sign_in_first(doctor, "kaili", passwords["kaili"])
        sees_only_the_own_hospital(doctor)
        register_node(admin, "KAILI_CT", KAILI)
        assert found_by_dicom(server, "KAILI_CT") == [uid(1)]
        make_role(admin)
        county = open_page(browser, server)
        sign_in_first(county, "county", passwords["county"])
        is_refused_outside_the_county(county)
        opens_in_an_emergency(doctor)
        reviewer = open_page(browser, server)
        sign_in_first(reviewer, "affairs", passwords["affairs"])
        reviews(reviewer)
        auditor = open_page(browser, server)
        sign_in_first(auditor, "auditor", passwords["auditor"])
        number = sees_what_happened(auditor)
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, one_byte_is_found(server, number)).result()


def open_page(browser: Browser, server: Running) -> Page:
    return browser.new_context(
        locale="zh-CN", viewport={"width": 1440, "height": 900}, base_url=server.base
    ).new_page()


def sign_in_first(page: Page, login: str, password: str) -> None:
    """The first sign-in, which asks for a password of one's own."""
    page.goto("/login")
    page.get_by_label("登录名").fill(login)
    page.get_by_label("密码").fill(password)
    page.get_by_role("button", name="登录").click()
    fresh = PASSWORDS.get(login, "Fengyu-36-rain")
    page.get_by_label("当前密码").fill(password)
    page.get_by_label("新密码", exact=True).fill(fresh)
    page.get_by_label("再次输入新密码").fill(fresh)
    page.get_by_role("button", name="修改密码").click()
    expect(page.get_by_role("navigation", name="主菜单").or_(page.locator("#menu"))).to_be_visible()


def import_organisations(page: Page) -> None:
    page.goto("/organisations/import")
    bring(page, workbook([*GOOD, *BAD]))
    expect(page.get_by_role("alert")).to_contain_text("未导入任何内容", timeout=15_000)
    rows = page.locator(".data tbody tr")
    expect(rows).to_have_count(3)
    for row, number in zip(rows.all(), ("7", "8", "9"), strict=True):
        expect(row.locator("td").first).to_have_text(number)
    bring(page, workbook(GOOD))
    expect(page.locator(".import-result")).to_contain_text("新增 5 个", timeout=15_000)
    page.get_by_role("link", name="查看组织机构").click()
    page.get_by_role("searchbox", name="名称、代码、拼音或首字母").fill("rjxrmyy")
    expect(page.locator("#rows .lead a")).to_have_text(RONGJIANG)


def workbook(rows: Sequence[Sequence[str]]) -> bytes:
    book = Workbook()
    sheet = book.worksheets[0]
    for row in (HEADINGS, *rows):
        sheet.append(list(row))
    written = io.BytesIO()
    book.save(written)
    return written.getvalue()


def bring(page: Page, content: bytes) -> None:
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    page.get_by_label("工作簿").set_input_files(
        {"name": "机构.xlsx", "mimeType": kind, "buffer": content}
    )
    page.get_by_role("button", name="正式导入").click()


def store_studies(page: Page, server: Running) -> None:
    """A client for each hospital, whose token is shown once, sends one study."""
    for study, place in ((1, KAILI), (2, RONGJIANG)):
        page.goto("/clients/new")
        page.locator("#f-name").fill(f"{place}前置机")
        page.locator("#f-role").select_option("sender")
        page.locator("#f-place").select_option(label=option(page, place))
        page.get_by_role("button", name="创建").click()
        token = page.locator(".secret code").inner_text()
        body = multipart([file(dataset(study, StudyDescription=place))], "zz")
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": 'multipart/related; type="application/dicom"; boundary="zz"',
            "Accept": "application/dicom+json",
        }
        url = f"{server.base}/dicom-web/studies"
        with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
            assert answer.status == 200


def option(page: Page, place: str) -> str:
    """The choice of a place as it is written, with its depth."""
    return page.locator("option", has_text=place).first.inner_text()


def make_account(
    page: Page, login: str, name: str, place: str, role: str, *, everywhere: bool = False
) -> str:
    """An account with a role at its place, or everywhere; the password that is shown once."""
    page.goto("/accounts/new")
    page.get_by_label("登录名").fill(login)
    page.get_by_label("姓名").fill(name)
    page.locator("#f-organisation_id").select_option(label=option(page, place))
    page.get_by_role("button", name="创建").click()
    password = page.locator(".secret code").nth(1).inner_text()
    page.get_by_role("link", name="授予角色").click()
    page.locator("summary", has_text="授予角色").click()
    page.locator("#f-role").select_option(label=role)
    if everywhere:
        page.locator("#f-place").select_option("")
    page.get_by_role("button", name="授予", exact=True).click()
    expect(page.locator("[data-toast]")).to_contain_text("角色已授予")
    return password


def sees_only_the_own_hospital(page: Page) -> None:
    page.goto("/studies")
    expect(page.locator(".study-row")).to_have_count(1)
    expect(page.locator(".study-row")).to_contain_text(KAILI)
    assert found(page) == [uid(1)]
    answer = page.goto(f"/studies/{uid(2)}")
    assert answer is not None and answer.status == 404
    expect(page.locator("#menu a", has_text="账号与人员")).to_have_count(0)


def found(page: Page, resource: str = "studies") -> list[str]:
    """The studies that QIDO-RS answers with in the person's session."""
    answer = page.request.get(
        f"/dicom-web/{resource}", headers={"Accept": "application/dicom+json"}
    )
    return (
        []
        if answer.status == 204
        else sorted(one["0020000D"]["Value"][0] for one in json.loads(answer.body()))
    )


def register_node(page: Page, title: str, place: str) -> None:
    page.goto("/aes/new")
    page.get_by_label("AE 标题").fill(title)
    page.locator("#f-host").fill("127.0.0.1")
    page.locator("#f-port").fill("104")
    page.locator("#f-owner").select_option(label=option(page, place))
    page.get_by_role("button", name="登记").click()
    expect(page.locator("[data-toast]")).to_be_visible()


def found_by_dicom(server: Running, title: str) -> list[str]:
    """The studies that a C-FIND of a node answers with."""
    node = AE(ae_title=title)
    node.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
    association = node.associate("127.0.0.1", server.dicom_port, ae_title="YUNYING")
    assert association.is_established
    asked = Dataset()
    asked.QueryRetrieveLevel, asked.StudyInstanceUID = "STUDY", ""
    answers = association.send_c_find(asked, StudyRootQueryRetrieveInformationModelFind)
    studies = [str(answer.StudyInstanceUID) for _, answer in answers if answer is not None]
    association.release()
    return sorted(studies)


def make_role(page: Page) -> None:
    """A role that joins duties which exclude each other is refused in words; a good one is made."""
    page.goto("/roles/new")
    page.locator("#f-title").fill("乡镇医生")
    page.locator("#f-code").fill("town_doctor")
    page.get_by_label("查看和下载检查: 可操作").check()
    page.get_by_label("紧急情况下调阅数据: 可操作").check()
    page.get_by_label("复核紧急调阅: 可操作").check()
    page.get_by_role("button", name="创建").click()
    expect(page.get_by_role("alert")).to_contain_text("一个角色不能同时包含")
    page.get_by_label("复核紧急调阅: 可操作").uncheck()
    page.get_by_role("button", name="创建").click()
    expect(page.locator("#town_doctor")).to_contain_text("乡镇医生")


def is_refused_outside_the_county(page: Page) -> None:
    page.goto("/accounts")
    expect(page.locator("#rows")).not_to_contain_text("杨秀英")
    page.get_by_role("searchbox", name="登录名或姓名").fill("欧阳")
    page.locator("#rows .lead a", has_text="欧阳明").click()
    page.locator("summary", has_text="授予角色").click()
    page.locator("#f-role").select_option(label="技师")
    page.locator("#f-place").select_option("")
    page.get_by_role("button", name="授予", exact=True).click()
    expect(page.get_by_role("alert").first).to_contain_text("您无权")


def opens_in_an_emergency(page: Page) -> None:
    page.goto("/break-glass")
    page.get_by_label("检查实例 UID").fill(uid(2))
    page.get_by_label("紧急理由").fill("急诊")
    page.get_by_role("button", name="打开数据").click()
    expect(page.locator("#h-reason")).to_contain_text("为何紧急")
    page.get_by_label("紧急理由").fill("患者昏迷送急诊，需立即查看外院头颅影像")
    page.get_by_role("button", name="打开数据").click()
    expect(page).to_have_url(re.compile(re.escape(uid(2))))
    expect(page.locator(".study-what")).to_contain_text(RONGJIANG)
    assert found(page, f"studies/{uid(2)}/series") == [uid(2)]
    # It opens the study that was named, and no list of the other hospital.
    assert found(page) == [uid(1)]


def reviews(page: Page) -> None:
    expect(page.locator("#live")).to_contain_text("待审核")
    page.goto("/reviews")
    expect(page.locator("#main")).to_contain_text("患者昏迷送急诊")
    page.get_by_role("button", name="不合理").click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_role("button", name="合理", exact=True).click()
    expect(page.locator("#main")).to_contain_text("没有待审核")


def sees_what_happened(page: Page) -> int:
    """The auditor finds the emergency, its review, the refused grant; the emergency's row."""
    page.goto("/audit")
    lines = page.locator(".audit-lines li")
    page.locator("[name=outcome]").select_option(label="已拒绝")
    page.locator("#audit-form").get_by_role("button", name="搜索").click()
    refused = lines.filter(has_text="授予和收回角色").filter(has_text="吴县管")
    expect(refused.first).to_be_visible()
    page.locator("[name=outcome]").select_option(label="全部")
    page.locator("[name=kind]").select_option(label="紧急访问")
    page.locator("#audit-form").get_by_role("button", name="搜索").click()
    expect(lines.filter(has_text="欧阳明").filter(has_text="复核紧急调阅").first).to_be_visible()
    opened = lines.filter(has_text="杨秀英").filter(has_text="opened")
    expect(opened).to_have_count(1)
    opened.locator("summary").click()
    row = re.match(r"\d+", opened.locator("dd").first.inner_text())
    assert row is not None
    return int(row[0])


async def one_byte_is_found(server: Running, number: int) -> None:
    """Once the row is sealed, a changed byte of it is found and the row is named."""
    database = await Database.open(Settings(data=server.data))
    try:
        assert await seal(database) >= 0  # what the worker does every second
        assert await wrong_rows(database) == []
        change = text("UPDATE audit SET peer = '127.0.0.2' WHERE id = :id")
        async with database.session(Scope.system("tampering"), write=True) as session:
            await session.execute(change, {"id": number})
        assert await wrong_rows(database) == [("row_changed", str(number), ("peer",))]
    finally:
        await database.close()


async def wrong_rows(database: Database) -> list[tuple[str, str, tuple[str, ...]]]:
    found = [one async for one in verify(database)]
    return [(one.kind, one.ref, one.fields) for one in found if isinstance(one, Finding)]
