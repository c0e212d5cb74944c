"""Importing organisations from an xlsx workbook: all of it or nothing."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any

from openpyxl import load_workbook
from openpyxl.utils.exceptions import InvalidFileException
from sqlalchemy.ext.asyncio import AsyncSession

from identity.organisations.domain import (
    CLASSES,
    KINDS,
    Organisation,
    Tree,
    check_class,
    check_code,
    check_kind,
    check_name,
    check_uscc,
    path_of,
)
from identity.organisations.service import (
    Draft,
    insert_organisations,
    load_tree,
    note_changes,
    write_facts,
)
from identity.organisations.workbook import COLUMNS, in_chinese
from kernel.errors import AppError, Invalid
from kernel.i18n.catalog import translate
from kernel.scope import Scope

NEEDED = ("kind", "code", "name")
MOST_ROWS = 20_000
NOTE_EVERY = 100
MOST_BYTES = 8 * 1024 * 1024
MOST_UNPACKED_BYTES = 100 * 1024 * 1024
_FACTS = ("name", "short_name", "uscc", "institution_class", "valid_from")


@dataclass(frozen=True, slots=True)
class RowError:
    """What is wrong in one cell: `row` counts as the spreadsheet does, `column` is of COLUMNS."""

    row: int
    column: str
    error: AppError

    def words(self, lang: str) -> str:
        """The reason in the reader's language."""
        return translate(self.error.message, lang, **self.error.fields)


@dataclass(slots=True)
class Report:
    """What an import did, or would do: codes by outcome, and the errors that stopped it all."""

    created: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    errors: list[RowError] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.errors


@dataclass(slots=True)
class Line:
    """One row of the sheet: its number, its cells by column, and what was made of them."""

    row: int
    cells: Mapping[str, Any]
    draft: Draft | None = None
    parent_code: str = ""


async def import_sheet(
    session: AsyncSession, scope: Scope, content: bytes, *, dry_run: bool = False
) -> Report:
    """Create and correct what the first sheet lists; parents may follow their children.

    With one bad row nothing is written. A known code is corrected, not moved. New organisations
    are active. Raises Invalid `sheet.*` when the file is not such a sheet.
    """
    return await import_lines(session, scope, read_lines(content), dry_run=dry_run)


async def import_lines(
    session: AsyncSession,
    scope: Scope,
    lines: Sequence[Line],
    *,
    dry_run: bool = False,
    note: Callable[[int], None] = lambda _: None,
) -> Report:
    """The same for rows that were read already; `note` is told how many are checked."""
    tree = await load_tree(session)
    report = Report()
    plan = _Plan(tree, scope, report)
    await asyncio.to_thread(plan.read, lines, note)
    if report.errors or dry_run:
        report.errors.sort(key=lambda one: (one.row, list(COLUMNS).index(one.column)))
        return report
    made: dict[str, Organisation] = {}
    for kind in KINDS:
        wanted = [
            (draft, made.get(parent) or tree.by_path.get(parent), "active")
            for draft, parent in plan.new.values()
            if draft.kind == kind
        ]
        made |= {one.path: one for one in await insert_organisations(session, wanted)}
    for one in plan.corrected:
        await write_facts(session, one)
    await note_changes(session, scope, list(made.values()), "imported")
    await note_changes(session, scope, plan.corrected, "corrected")
    return report


def read_lines(content: bytes) -> list[Line]:
    """The rows below the headings. Raises Invalid `sheet.format`, `sheet.size`, `sheet.columns`."""
    _check_size(content)
    try:
        workbook = load_workbook(io.BytesIO(content), read_only=True, data_only=True)
        rows = list(workbook.worksheets[0].iter_rows(values_only=True, max_row=MOST_ROWS + 2))
        workbook.close()
    except (InvalidFileException, KeyError, ValueError, IndexError, SyntaxError, OSError) as error:
        raise _no_sheet() from error
    names = _headings(rows[0] if rows else ())
    lines = []
    for number, values in enumerate(rows[1:], start=2):
        cells = {names[i]: value for i, value in enumerate(values) if i in names}
        if any(value not in (None, "") for value in cells.values()):
            lines.append(Line(number, cells))
    if len(lines) > MOST_ROWS:
        raise Invalid("sheet.size", "The workbook is too large.")
    return lines


class _Plan:
    """Decides about every line before anything is written."""

    def __init__(self, tree: Tree, scope: Scope, report: Report) -> None:
        self.new: dict[str, tuple[Draft, str]] = {}  # path → draft, path of the parent
        self.corrected: list[Organisation] = []
        self._tree = tree
        self._scope = scope
        self._report = report
        self._kinds: dict[str, str] = {one.path: one.kind for one in tree.by_id.values()}
        self._codes = {
            one.code: one.path for one in tree.by_id.values() if one.kind != "department"
        }
        self._uscc = {one.uscc: one.path for one in tree.by_id.values() if one.uscc}
        self._seen: dict[str, int] = {}
        self._refused: set[str] = set()  # codes of bad rows: what is below them is not named too

    def read(self, lines: Sequence[Line], note: Callable[[int], None]) -> None:
        """Check every line; those of a higher kind first, since others may stand below them."""
        for done, line in enumerate(lines):
            line.draft = self._draft(line)
            if done % NOTE_EVERY == 0:
                note(done)
        order = list(KINDS)
        good = [line for line in lines if line.draft is not None]
        for line in sorted(good, key=lambda one: order.index(one.draft.kind if one.draft else "")):
            try:
                self._place(line)
            except _BadCell as bad:
                self._report.errors.append(RowError(line.row, bad.column, bad.error))
                self._refused.add(line.draft.code if line.draft else "")

    def _draft(self, line: Line) -> Draft | None:
        """What the line says; each bad cell is reported, not only the first."""
        bad = len(self._report.errors)
        kind = self._cell(line, "kind", _kind)
        code = self._cell(line, "code", _text)
        name = self._cell(line, "name", lambda value: check_name(_text(value)))
        if kind and code:
            code = self._cell(line, "code", lambda value: check_code(kind, _text(value)))
        draft = Draft(
            kind=kind or "",
            code=code or "",
            name=name or "",
            short_name=self._cell(line, "short_name", _text) or "",
            uscc=self._cell(line, "uscc", _uscc) or "",
            institution_class=self._cell(
                line, "institution_class", lambda value: check_class(kind or "", _class(value))
            )
            or "",
            valid_from=self._cell(line, "valid_from", _date),
        )
        line.parent_code = (self._cell(line, "parent", _text) or "").upper()
        if len(self._report.errors) == bad:
            return draft
        self._refused.add(draft.code)
        return None

    def _cell(self, line: Line, column: str, read: Callable[[Any], Any]) -> Any:
        value = line.cells.get(column)
        if value in (None, "") and column not in NEEDED:
            return None
        try:
            if value in (None, ""):
                raise Invalid("sheet.empty", "This cell must not be empty.")
            return read(value)
        except AppError as error:
            known = any(one.row == line.row and one.column == column for one in self._report.errors)
            if not known:
                self._report.errors.append(RowError(line.row, column, error))
            return None

    def _place(self, line: Line) -> None:
        draft = line.draft
        if draft is None:
            return
        parent = self._parent_path(line, draft)
        if parent is None:
            return
        with _at("code"):
            check_code(draft.kind, draft.code, parent.rpartition("/")[2])
        path = path_of(draft.kind, draft.code, parent)
        with _at("code"):
            if path in self._seen:
                raise Invalid("sheet.twice", "Row {row} says the same.", row=self._seen[path])
            known = self._codes.get(draft.code, path) if draft.kind != "department" else path
            if known != path:
                raise Invalid(
                    "sheet.elsewhere",
                    "{code} stands at {path}: move it there instead of importing it.",
                    code=draft.code,
                    path=known,
                )
        self._seen[path] = line.row
        self._check_uscc(draft, path)
        self._decide(draft, path, parent)

    def _parent_path(self, line: Line, draft: Draft) -> str | None:
        """Path of the parent, '' for the top; None where the parent's own row is bad."""
        with _at("parent"):
            if not line.parent_code:
                check_kind(draft.kind, None)
                if self._scope.owners is not None:
                    raise Invalid("sheet.scope", "You do not manage the organisation above.")
                return ""
            path = self._codes.get(line.parent_code)
            if path is None:
                if line.parent_code in self._refused:
                    return None
                raise Invalid(
                    "sheet.parent",
                    "There is no organisation {code}, neither here nor in the workbook.",
                    code=line.parent_code,
                )
            check_kind(draft.kind, self._kinds[path])
            known = self._tree.by_path.get(path)
            if known is not None and not self._scope.covers(known.id):
                raise Invalid("sheet.scope", "You do not manage the organisation above.")
            if known is not None and known.state == "retired":
                raise Invalid("sheet.retired", "{code} is retired.", code=known.code)
        return path

    def _check_uscc(self, draft: Draft, path: str) -> None:
        if not draft.uscc:
            return
        with _at("uscc"):
            if self._uscc.setdefault(draft.uscc, path) != path:
                raise Invalid(
                    "sheet.uscc_twice", "Another organisation has the code {code}.", code=draft.uscc
                )

    def _decide(self, draft: Draft, path: str, parent: str) -> None:
        known = self._tree.by_path.get(path)
        if known is None:
            self.new[path] = (draft, parent)
            self._report.created.append(draft.code)
            self._kinds[path] = draft.kind
            if draft.kind != "department":
                self._codes[draft.code] = path
            return
        facts = {name: getattr(draft, name) for name in _FACTS}
        corrected = replace(known, **{name: value for name, value in facts.items() if value})
        if corrected == known:
            self._report.unchanged.append(draft.code)
        else:
            self.corrected.append(corrected)
            self._report.changed.append(draft.code)


class _BadCell(Exception):
    def __init__(self, column: str, error: AppError) -> None:
        super().__init__(column, error)
        self.column = column
        self.error = error


class _at:  # noqa: N801 - reads as a preposition
    def __init__(self, column: str) -> None:
        self._column = column

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, AppError):
            raise _BadCell(self._column, error) from error


def _check_size(content: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            unpacked = sum(entry.file_size for entry in packed.infolist())
    except zipfile.BadZipFile as error:
        raise _no_sheet() from error
    if len(content) > MOST_BYTES or unpacked > MOST_UNPACKED_BYTES:
        raise Invalid("sheet.size", "The workbook is too large.")


def _headings(row: Sequence[Any]) -> dict[int, str]:
    words = {text: name for name, msgid in COLUMNS.items() for text in (msgid, in_chinese(msgid))}
    found = {
        i: words[str(cell).strip()] for i, cell in enumerate(row) if str(cell).strip() in words
    }
    missing = [in_chinese(COLUMNS[name]) for name in NEEDED if name not in found.values()]
    if missing:
        raise Invalid(
            "sheet.columns",
            "The first row lacks the headings {missing}.",
            missing="、".join(missing),
        )
    return found


def _no_sheet() -> Invalid:
    return Invalid("sheet.format", "The file is not a workbook of Excel (.xlsx).")


def _text(value: Any) -> str:
    """A cell as text; a spreadsheet keeps a code of digits as a number."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _kind(value: Any) -> str:
    text = _text(value)
    words = {
        word: kind for kind, msgid in KINDS.items() for word in (kind, msgid, in_chinese(msgid))
    }
    if text not in words:
        raise Invalid(
            "sheet.kind",
            "{value} is not a level: {expected}.",
            value=text,
            expected="、".join(in_chinese(msgid) for msgid in KINDS.values()),
        )
    return words[text]


def _class(value: Any) -> str:
    text = _text(value)
    words = {
        word: letter for letter, msgid in CLASSES.items() for word in (msgid, in_chinese(msgid))
    }
    return words.get(text, text)


def _uscc(value: Any) -> str:
    return check_uscc(_text(value))


def _date(value: Any) -> date:
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(_text(value).replace("/", "-").replace(".", "-"))
    except ValueError as error:
        raise Invalid(
            "sheet.date", "{value} is not a day such as 2026-01-31.", value=_text(value)
        ) from error
