"""The review of entitlements as a workbook or as CSV: who has which rights where."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from openpyxl import Workbook
from openpyxl.cell.cell import Cell
from openpyxl.styles import Font, PatternFill
from openpyxl.utils import get_column_letter

from identity.accounts.domain import STATES
from identity.entitlements.service import Entitlement
from identity.organisations.domain import Tree
from identity.roles.domain import Catalogue
from kernel.i18n.catalog import marked, translate
from kernel.sheets import BEGIN, csv_line
from kernel.web.guard import PERMISSIONS

COLUMNS: Sequence[tuple[str, int]] = (
    (marked("Who"), 18),
    (marked("Login name"), 16),
    (marked("State"), 10),
    (marked("Works at"), 26),
    (marked("Role"), 18),
    (marked("At, and below it"), 26),
    (marked("From"), 17),
    (marked("Until"), 17),
    (marked("Granted by"), 16),
    (marked("Granted at"), 17),
    (marked("Reason"), 24),
    (marked("Last used"), 17),
    (marked("What it lets do"), 60),
    (marked("What it may pass on"), 40),
    (marked("Verdict of the review"), 24),
)


def as_xlsx(rows: Iterable[Entitlement], tree: Tree, catalogue: Catalogue, lang: str) -> bytes:
    """A workbook with an empty column for the verdict."""
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.title = translate(marked("Access review"), lang)
    sheet.append(_headings(lang))
    for cell in sheet[1]:
        cell.font = Font(bold=True)
        cell.fill = PatternFill("solid", fgColor="E9EFFB")
    for values in _values(rows, tree, catalogue, lang):
        sheet.append(values)
    for number, (_, width) in enumerate(COLUMNS, start=1):
        sheet.column_dimensions[get_column_letter(number)].width = width
    for line in sheet.rows:
        for cell in line:
            if isinstance(cell, Cell) and isinstance(cell.value, str):
                cell.data_type = "s"  # a name that begins with = is a name
    sheet.freeze_panes = "B2"
    sheet.auto_filter.ref = sheet.dimensions
    written = io.BytesIO()
    book.save(written)
    return written.getvalue()


def as_csv(rows: Iterable[Entitlement], tree: Tree, catalogue: Catalogue, lang: str) -> bytes:
    """The same rows as CSV."""
    lines = [_headings(lang), *_values(rows, tree, catalogue, lang)]
    return BEGIN + b"".join(csv_line(one) for one in lines)


def _headings(lang: str) -> list[str]:
    return [translate(words, lang) for words, _ in COLUMNS]


def _values(
    rows: Iterable[Entitlement], tree: Tree, catalogue: Catalogue, lang: str
) -> Iterator[list[Any]]:
    def place(number: int | None) -> str:
        return tree.by_id[number].name if number in tree.by_id else ""

    def words(some: Iterable[str]) -> str:
        between = translate(", ", lang)
        return between.join(translate(PERMISSIONS[one], lang) for one in sorted(some))

    for one in rows:
        role = catalogue.roles.get(one.role)
        kind = STATES[one.state] if one.state else marked("API client")
        yield [
            one.name,
            one.login,
            translate(kind, lang),
            place(one.works_at),
            translate(role.title, lang) if role else one.role,
            place(one.organisation_id) or translate(marked("Everywhere"), lang),
            _moment(one.valid_from),
            _moment(one.valid_until),
            one.granted_by,
            _moment(one.granted_at),
            one.reason,
            _moment(one.last_used_at),
            words(role.permissions) if role else "",
            words(role.delegates - role.permissions) if role else "",
            "",
        ]


def _moment(at: datetime | None) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M}" if at else ""
