"""The search of everything that a person may see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from archive.query.domain import Query
from archive.query.service import Catalog
from dataset.names import fold
from identity.accounts.service import list_accounts
from identity.console.domain import matches, within
from identity.organisations.domain import KINDS
from identity.organisations.service import load_tree
from kernel.db.database import Database
from kernel.errors import Invalid
from kernel.i18n.catalog import marked, translate
from kernel.web.pages import NavigationGroup, Person
from server.console.modules import STATES, matching

MOST = 6
_INCLUDE = frozenset({0x00080020, 0x00080061, 0x00081030, 0x00100010, 0x00100020, 0x0020000D})


@dataclass(frozen=True, slots=True)
class Row:
    """One thing found: where it is, what it is called, small print."""

    href: str
    title: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Things of one kind; `label` is a msgid."""

    label: str
    icon: str
    rows: Sequence[Row]


class Finder:
    """Looks everywhere for what was typed. Costs the same few queries for every text."""

    def __init__(self, database: Database, catalog: Catalog, lang: str) -> None:
        self._database = database
        self._catalog = catalog
        self._lang = lang

    async def find(
        self, person: Person, navigation: Sequence[NavigationGroup], text: str
    ) -> list[Group]:
        """What `person` may see of what holds `text`; kinds without anything are left out."""
        groups = [
            Group(marked("Pages"), "layout-dashboard", list(self._pages(navigation, text))[:MOST]),
            Group(marked("Studies and patients"), "photo", await self._studies(person, text)),
            Group(marked("Organisations"), "sitemap", await self._organisations(person, text)),
            Group(marked("Accounts and staff"), "users", await self._accounts(person, text)),
            Group(marked("Modules"), "apps", self._modules(person, text)),
        ]
        return [group for group in groups if group.rows]

    def _pages(self, navigation: Sequence[NavigationGroup], text: str) -> Iterator[Row]:
        for group in navigation:
            for item in group.items:
                words = (translate(item.label, lang) for lang in ("zh-CN", "en"))
                if matches(text, *words):
                    yield Row(item.href, translate(item.label, self._lang))

    async def _studies(self, person: Person, text: str) -> list[Row]:
        scope = person.scope_for("archive.study.search")
        if scope is None:
            return []
        query = Query("STUDY", include=_INCLUDE, limit=MOST, text=text)
        try:
            page = await self._catalog.search(scope, query)
        except Invalid:
            return []
        return [_study(one.dataset, self._lang) for one in page.matches]

    async def _organisations(self, person: Person, text: str) -> list[Row]:
        scope = person.scope_for("identity.organisation.read")
        if scope is None:
            return []
        async with self._database.session(scope) as session:
            tree = await load_tree(session)
        found = (
            one
            for one in within(tree, scope)
            if matches(text, one.name, one.short_name, one.code, one.uscc)
        )
        return [
            Row(
                f"/organisations/{one.id}",
                one.name,
                f"{translate(KINDS[one.kind], self._lang)} {one.code}",
            )
            for one, _ in zip(found, range(MOST), strict=False)
        ]

    async def _accounts(self, person: Person, text: str) -> list[Row]:
        scope = person.scope_for("identity.account.manage")
        if scope is None:
            return []
        async with self._database.session(scope) as session:
            found = await list_accounts(session, scope, text=text, limit=MOST)
        return [
            Row(f"/accounts/{one.id}", one.display_name, f"{one.login} {one.title}".strip())
            for one in found
        ]

    def _modules(self, person: Person, text: str) -> list[Row]:
        if not person.may("system.status.read") or len(fold(text)) < 2:
            return []
        return [
            Row(
                one.href or "/modules",
                one.seed if self._lang == "zh-CN" else one.english,
                f"{one.id} {translate(STATES[one.state], self._lang)}",
            )
            for one in matching(text)[:MOST]
        ]


def _study(dataset: dict[str, dict[str, object]], lang: str) -> Row:
    def first(tag: str) -> object:
        values = dataset.get(tag, {}).get("Value")
        return values[0] if isinstance(values, list) and values else ""

    name = first("00100010")
    if isinstance(name, dict):
        name = name.get("Ideographic") or name.get("Alphabetic") or ""
    day = str(first("00080020"))
    day = f"{day[:4]}-{day[4:6]}-{day[6:]}" if len(day) == 8 else day
    kinds = dataset.get("00080061", {}).get("Value", [])
    shown = "/".join(str(one) for one in kinds) if isinstance(kinds, list) else ""
    note = " · ".join(str(one) for one in (day, shown, first("00081030"), first("00100020")) if one)
    title = str(name).replace("^", "") or translate("No name", lang)
    return Row(f"/studies/{first('0020000D')}", title, note)
