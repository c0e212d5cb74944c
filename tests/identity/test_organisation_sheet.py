"""Organisations from a workbook: all in one go, or nothing and every bad cell named."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from typing import Any

import pytest
from openpyxl import Workbook, load_workbook

from identity.organisations.domain import divisions, uscc_check_character
from identity.organisations.service import load_tree
from identity.organisations.sheet import Report, import_sheet
from identity.organisations.workbook import export, template
from kernel.db.database import Database
from kernel.errors import Invalid
from kernel.scope import Actor, Scope
from tests.identity.places import SYSTEM, Places

HEADINGS = ("级别", "编码", "上级编码", "名称", "简称", "统一社会信用代码", "机构类别", "启用日期")
Row = Sequence[Any]


def workbook(rows: Sequence[Row], headings: Row = HEADINGS) -> bytes:
    made = Workbook()
    sheet = made.worksheets[0]
    sheet.append(list(headings))
    for row in rows:
        sheet.append(list(row))
    written = io.BytesIO()
    made.save(written)
    return written.getvalue()


def prefecture_rows() -> list[Row]:
    """The prefecture, its 16 counties and 230 institutions; children first, codes as numbers."""
    top, counties = divisions()
    rows: list[Row] = []
    for number in range(230):
        first = f"12522600{number:09d}"
        county = counties[number % 16]
        uscc = first + uscc_check_character(first)
        row = ("机构", f"H{number:04d}", int(county.code), f"{county.name}第{number}医院", "", uscc)
        rows.append((*row, "C" if number % 3 else "医院", "2001-02-03"))
    rows += [("县市", int(one.code), int(top.code), one.name) for one in counties]
    rows.append(("地州", int(top.code), "", top.name))
    return rows


async def take(database: Database, content: bytes, scope: Scope = SYSTEM, **how: bool) -> Report:
    async with database.session(SYSTEM, write=True) as session:
        return await import_sheet(session, scope, content, **how)


async def count(database: Database) -> int:
    async with database.session(SYSTEM) as session:
        return len((await load_tree(session)).by_id)


@pytest.mark.backend
async def test_the_whole_prefecture_comes_in_one_go(database: Database) -> None:
    content = workbook(prefecture_rows())
    tried = await take(database, content, dry_run=True)
    assert tried.good and len(tried.created) == 247 and await count(database) == 1
    done = await take(database, content)
    assert done.good and len(done.created) == 247
    async with database.session(SYSTEM) as session:
        tree = await load_tree(session)
    hospital = tree.by_path["/52/5226/522632/H0011"]
    assert (hospital.name, hospital.state, hospital.institution_class) == (
        "榕江县第11医院",
        "active",
        "C",
    )
    assert str(hospital.valid_from) == "2001-02-03"
    again = await take(database, content)
    assert again.good and len(again.unchanged) == 247 and not again.created


@pytest.mark.backend
async def test_bad_rows_are_named_and_nothing_is_half_imported(database: Database) -> None:
    rows = prefecture_rows()
    wrong = str(rows[5][5])[:17] + ("0" if str(rows[5][5])[17] != "0" else "1")
    rows[5] = (*rows[5][:5], wrong, *rows[5][6:])
    rows[6] = ("机构", "H0006", "520199", "别处医院")
    rows[7] = ("医院", "H0007", "522601", "", "", "", "Z", "昨天")
    rows[9] = rows[8]
    report = await take(database, workbook(rows))
    assert await count(database) == 1
    named = {(one.row, one.column): one.words("zh-CN") for one in report.errors}
    assert set(named) == {
        (7, "uscc"),
        (8, "parent"),
        (9, "kind"),
        (9, "name"),
        (9, "institution_class"),
        (9, "valid_from"),
        (11, "code"),
    }
    assert "校验" in named[7, "uscc"]
    assert named[8, "parent"] == "没有编码为 520199 的机构，系统中和工作簿中都没有。"
    assert named[11, "code"] == "与第 10 行重复。"
    assert all("{" not in words and words.isascii() is False for words in named.values())


async def test_a_bad_parent_is_named_once_not_for_each_child(database: Database) -> None:
    rows = [
        ("地州", "5226", "", "州"),
        ("县市", "522601", "5226", ""),
        *(("机构", f"H{n:03d}", "522601", f"医院{n}") for n in range(20)),
    ]
    report = await take(database, workbook(rows))
    assert [(one.row, one.column) for one in report.errors] == [(3, "name")]


@pytest.mark.backend
async def test_a_known_code_is_corrected_but_not_moved(database: Database, places: Places) -> None:
    rows = [("机构", "H0001", "522601", "改名医院"), ("科室", "d02", "H0001", "放射科")]
    done = await take(database, workbook(rows))
    assert (done.changed, done.created) == (["H0001"], ["D02"])
    moved = await take(database, workbook([("机构", "H0001", "522632", "改名医院")]))
    assert moved.errors[0].error.code == "sheet.elsewhere"
    async with database.session(SYSTEM) as session:
        assert (await load_tree(session)).by_id[places.hospital_a1].name == "改名医院"


async def test_a_county_imports_only_below_itself(database: Database, places: Places) -> None:
    scope = Scope(frozenset({places.county_a, places.hospital_a1}), Actor("session", "7"), "x")
    rows = [("机构", "H0801", "522601", "本县"), ("机构", "H0802", "522632", "别县")]
    report = await take(database, workbook(rows), scope)
    assert [(one.row, one.error.code) for one in report.errors] == [(3, "sheet.scope")]


async def test_what_is_exported_can_be_imported(database: Database, places: Places) -> None:
    async with database.session(SYSTEM) as session:
        tree = await load_tree(session)
    content = export(list(tree.subtree(places.prefecture)), tree)
    again = await take(database, content)
    assert again.good and len(again.unchanged) == 7


def test_the_template_names_the_columns_and_the_counties() -> None:
    sheet = load_workbook(io.BytesIO(template())).worksheets[0]
    rows = list(sheet.iter_rows(values_only=True))
    assert rows[0] == HEADINGS
    assert rows[1][:4] == ("地州", "5226", None, "黔东南苗族侗族自治州")
    assert len(rows) == 18


def _bomb() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("xl/worksheets/sheet1.xml", b"0" * (101 * 1024 * 1024))
    return made.getvalue()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "sheet.format"),
        ("级别,编码".encode(), "sheet.format"),
        (_bomb(), "sheet.size"),
        (workbook([], ("级别", "名称")), "sheet.columns"),
    ],
)
async def test_what_is_no_such_workbook_is_refused(
    database: Database, content: bytes, code: str
) -> None:
    with pytest.raises(Invalid) as caught:
        await take(database, content)
    assert caught.value.code == code


async def test_a_name_that_looks_like_a_formula_stays_a_name(
    database: Database, places: Places
) -> None:
    await take(database, workbook([("机构", "H0900", "522601", "'=cmd")]))
    async with database.session(SYSTEM) as session:
        tree = await load_tree(session)
    sheet = load_workbook(io.BytesIO(export(tree.subtree(places.county_a), tree))).worksheets[0]
    assert all(cell.data_type != "f" for row in sheet for cell in row)
