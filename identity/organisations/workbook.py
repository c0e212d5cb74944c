"""Organisations as an xlsx workbook: the columns, a template to fill in, and the export."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from openpyxl import Workbook
from openpyxl.cell.cell import Cell
from openpyxl.styles import Font, PatternFill
from openpyxl.worksheet.datavalidation import DataValidation

from identity.organisations.domain import CLASSES, KINDS, Organisation, Tree, divisions
from kernel.i18n.catalog import marked, translate

# What a column means, and its heading; headings are found in Chinese and in English.
COLUMNS: Mapping[str, str] = {
    "kind": marked("Level"),
    "code": marked("Code"),
    "parent": marked("Code of the parent"),
    "name": marked("Name"),
    "short_name": marked("Short name"),
    "uscc": marked("Unified social credit code"),
    "institution_class": marked("Class (WS 218)"),
    "valid_from": marked("In force from"),
}
LIST_ROWS = 20_000


def template() -> bytes:
    """An empty workbook to fill in, with the 16 counties as an example and lists to choose from."""
    prefecture, counties = divisions()
    rows: list[list[Any]] = [
        [in_chinese(KINDS["prefecture"]), prefecture.code, "", prefecture.name]
    ]
    rows += [[in_chinese(KINDS["county"]), one.code, prefecture.code, one.name] for one in counties]
    return _workbook(rows)


def export(organisations: Iterable[Organisation], tree: Tree) -> bytes:
    """The organisations as a workbook that an import takes back."""
    rows = []
    for one in organisations:
        above = tree.by_id.get(one.parent_id) if one.parent_id is not None else None
        rows.append(
            [
                in_chinese(KINDS[one.kind]),
                one.code,
                above.code if above else "",
                one.name,
                one.short_name,
                one.uscc,
                one.institution_class,
                one.valid_from,
            ]
        )
    return _workbook(rows)


def _workbook(rows: Iterable[Sequence[Any]]) -> bytes:
    workbook = Workbook()
    sheet = workbook.worksheets[0]
    sheet.title = "机构"
    sheet.append([in_chinese(heading) for heading in COLUMNS.values()])
    for cell in sheet[1]:
        cell.font = Font(bold=True)
        cell.fill = PatternFill("solid", fgColor="E9EFFB")
    for row in rows:
        sheet.append(list(row))
    for column in sheet.columns:
        for cell in column:
            if isinstance(cell, Cell) and isinstance(cell.value, str):
                cell.number_format = "@"
                cell.data_type = "s"  # a name that begins with = is a name
    widths = (10, 12, 14, 36, 18, 24, 14, 14)
    for letter, width in zip("ABCDEFGH", widths, strict=True):
        sheet.column_dimensions[letter].width = width
    sheet.freeze_panes = "A2"
    kinds = ",".join(in_chinese(word) for word in KINDS.values())
    choice = DataValidation(type="list", formula1=f'"{kinds}"', allow_blank=True)
    sheet.add_data_validation(choice)
    choice.add(f"A2:A{LIST_ROWS}")
    help_sheet = workbook.create_sheet("机构类别")
    for letter, words in CLASSES.items():
        help_sheet.append([letter, in_chinese(words)])
    written = io.BytesIO()
    workbook.save(written)
    return written.getvalue()


def in_chinese(msgid: str) -> str:
    """A word of the workbook, which is in Chinese for everybody."""
    return translate(msgid, "zh-CN")
