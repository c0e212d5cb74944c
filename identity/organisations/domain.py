"""What an organisation is, where it may stand in the tree, and how its life goes on."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Literal

from kernel.errors import Conflict, Invalid
from kernel.i18n.catalog import Word, marked

Kind = Literal["prefecture", "county", "institution", "department"]
State = Literal["draft", "active", "suspended", "retired"]
Step = Literal["activate", "suspend", "resume", "retire"]

KINDS: Mapping[str, str] = {
    "prefecture": marked("Prefecture"),
    "county": marked("County"),
    "institution": marked("Institution"),
    "department": marked("Department"),
}
# Below which kinds an organisation may stand; None is the top of the tree.
PARENTS: Mapping[str, frozenset[str | None]] = {
    "prefecture": frozenset({None}),
    "county": frozenset({"prefecture"}),
    "institution": frozenset({"prefecture", "county"}),
    "department": frozenset({"institution"}),
}
# (state, step) → state. What is not here is refused.
TRANSITIONS: Mapping[tuple[str, str], State] = {
    ("draft", "activate"): "active",
    ("draft", "retire"): "retired",
    ("active", "suspend"): "suspended",
    ("active", "retire"): "retired",
    ("suspended", "resume"): "active",
    ("suspended", "retire"): "retired",
}
STATES: Mapping[str, str] = {
    "draft": marked("Draft"),
    "active": marked("Active"),
    "suspended": marked("Suspended"),
    "retired": marked("Retired"),
}
STEPS: Mapping[str, str] = {
    "activate": marked("Activate"),
    "suspend": marked("Suspend"),
    "resume": marked("Resume"),
    "retire": marked("Retire"),
}
# WS 218-2002, table 1: the first letter of the class of a health institution.
CLASSES: Mapping[str, str] = {
    "A": marked("Hospital"),
    "B": marked("Community health centre"),
    "C": marked("Township health centre"),
    "D": marked("Clinic or village clinic"),
    "E": marked("Emergency centre"),
    "F": marked("Blood service"),
    "G": marked("Maternal and child health institution"),
    "H": marked("Specialised disease institute"),
    "J": marked("Centre for disease control"),
    "K": marked("Health inspection"),
    "L": marked("Health inspection laboratory"),
    "M": marked("Medical research institution"),
    "N": marked("Medical education institution"),
    "O": marked("Health education institution"),
    "P": marked("Other health institution"),
}

_CODES: Mapping[str, re.Pattern[str]] = {
    "prefecture": re.compile(r"[1-9]\d{3}"),
    "county": re.compile(r"[1-9]\d{5}"),
    "institution": re.compile(r"[A-Z][0-9A-Z]{1,11}"),
    "department": re.compile(r"[0-9A-Z]{1,12}"),
}
_EXPECTED: Mapping[str, str] = {
    "prefecture": marked("four digits of GB/T 2260, such as 5226"),
    "county": marked("six digits of GB/T 2260, such as 522632"),
    "institution": marked("a letter and up to 11 letters or digits, such as H0123"),
    "department": marked("up to 12 letters or digits, such as D07"),
}
# GB 32100-2015 4.2 and annex A: the alphabet without I, O, S, V, Z; weights are 3^i mod 31.
_USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC_WEIGHTS = tuple(pow(3, i, 31) for i in range(17))
NAME_LENGTH = 100


@dataclass(frozen=True, slots=True)
class Organisation:
    """One place of the tree; its `id` is the `owner_id` of what it owns.

    `merged_into_id` is set when it went up into another one, below which it then stands, retired.
    """

    id: int
    parent_id: int | None
    kind: str
    code: str
    name: str
    path: str
    state: str
    short_name: str = ""
    uscc: str = ""
    institution_class: str = ""
    merged_into_id: int | None = None
    valid_from: date | None = None
    valid_until: date | None = None


class Tree:
    """All organisations, and who stands below whom."""

    def __init__(self, organisations: Iterable[Organisation]) -> None:
        self.by_id: dict[int, Organisation] = {one.id: one for one in organisations}
        self.by_path: dict[str, Organisation] = {one.path: one for one in self.by_id.values()}
        self._children: dict[int | None, list[Organisation]] = {}
        for one in sorted(self.by_id.values(), key=lambda one: (one.code, one.id)):
            self._children.setdefault(one.parent_id, []).append(one)

    def children(self, parent_id: int | None) -> list[Organisation]:
        """Those directly below, by code."""
        return self._children.get(parent_id, [])

    def subtree(self, root_id: int | None) -> Iterator[Organisation]:
        """`root_id` and everything below it, parents first; None is the whole tree."""
        if root_id is not None:
            if root_id not in self.by_id:
                return
            yield self.by_id[root_id]
        waiting = list(reversed(self.children(root_id)))
        while waiting:
            one = waiting.pop()
            yield one
            waiting.extend(reversed(self.children(one.id)))

    def institution_of(self, organisation_id: int) -> int:
        """The institution that a department belongs to; any other organisation is its own."""
        one = self.by_id[organisation_id]
        while one.kind == "department" and one.parent_id is not None:
            one = self.by_id[one.parent_id]
        return one.id

    def by_code(self, code: str) -> Organisation | None:
        """The prefecture, county or institution with this code; departments have none alone."""
        found = (one for one in self.by_id.values() if one.code == code)
        return next((one for one in found if one.kind != "department"), None)


def covers(path: str, other: str) -> bool:
    """Whether `other` is at `path` or below it. The top of the tree is the empty path."""
    return path in ("", other) or other.startswith(f"{path}/")


def path_of(kind: str, code: str, parent_path: str | None) -> str:
    """The path of an organisation: a prefecture's begins with its province, `/52/5226`."""
    if kind == "prefecture":
        return f"/{code[:2]}/{code}"
    return f"{parent_path or ''}/{code}"


def step(state: str, taken: str) -> State:
    """The state after a step; raises Conflict `organisation.step`."""
    after = TRANSITIONS.get((state, taken))
    if after is None:
        raise Conflict(
            "organisation.step",
            "An organisation in state {state} cannot take the step {step}.",
            state=Word(STATES.get(state, state)),
            step=Word(STEPS.get(taken, taken)),
        )
    return after


def check_kind(kind: str, parent_kind: str | None) -> None:
    """Raise Invalid `organisation.kind` or `organisation.parent`."""
    if kind not in KINDS:
        raise Invalid("organisation.kind", "There is no kind of organisation {kind}.", kind=kind)
    if parent_kind not in PARENTS[kind]:
        raise Invalid(
            "organisation.parent",
            "An organisation of kind {kind} cannot stand below {parent}.",
            kind=Word(KINDS[kind]),
            parent=Word(KINDS[parent_kind]) if parent_kind else "/",
        )


def check_code(kind: str, code: str, parent_code: str = "") -> str:
    """The code in its normal form; raises Invalid `organisation.code`.

    A county's code begins with its prefecture's.
    """
    plain = code.strip().upper()
    if not _CODES[kind].fullmatch(plain):
        raise Invalid(
            "organisation.code",
            "{code} is not a code of this kind: {expected}.",
            code=code,
            expected=Word(_EXPECTED[kind]),
        )
    if kind == "county" and not plain.startswith(parent_code):
        raise Invalid(
            "organisation.code_parent",
            "County {code} does not belong to prefecture {parent}.",
            code=plain,
            parent=parent_code,
        )
    return plain


def check_name(name: str) -> str:
    """The name without outer space; raises Invalid `organisation.name`."""
    plain = " ".join(name.split())
    if not 1 <= len(plain) <= NAME_LENGTH or not plain.isprintable():
        raise Invalid(
            "organisation.name", "A name has 1 to {length} characters.", length=NAME_LENGTH
        )
    return plain


def check_class(kind: str, letter: str) -> str:
    """The class letter of an institution; raises Invalid `organisation.class`."""
    plain = letter.strip().upper()
    if plain and (kind != "institution" or plain not in CLASSES):
        raise Invalid(
            "organisation.class",
            "{value} is not a class of institutions (WS 218: {expected}).",
            value=letter,
            expected=", ".join(CLASSES),
        )
    return plain


def check_uscc(code: str) -> str:
    """A unified social credit code with a right check character (GB 32100-2015).

    Raises Invalid `organisation.uscc` or `organisation.uscc_check`.
    """
    plain = code.strip().upper()
    if len(plain) != 18 or any(letter not in _USCC_ALPHABET for letter in plain):
        raise Invalid(
            "organisation.uscc",
            "{code} is not a unified social credit code: 18 digits or capitals without I, O, S,"
            " V, Z.",
            code=code,
        )
    expected = uscc_check_character(plain[:17])
    if plain[17] != expected:
        raise Invalid(
            "organisation.uscc_check",
            "The unified social credit code {code} was mistyped: its check character would be"
            " {expected}.",
            code=plain,
            expected=expected,
        )
    return plain


def uscc_check_character(first: str) -> str:
    """The 18th character for the first 17 (GB 32100-2015 annex A)."""
    values = (_USCC_ALPHABET.index(letter) for letter in first)
    total = sum(value * weight for value, weight in zip(values, _USCC_WEIGHTS, strict=True))
    return _USCC_ALPHABET[-total % 31]


@dataclass(frozen=True, slots=True)
class Division:
    """An administrative division of GB/T 2260."""

    code: str
    name: str
    english: str


@cache
def divisions() -> tuple[Division, tuple[Division, ...]]:
    """Qiandongnan and its 16 counties."""
    with (Path(__file__).parent / "divisions.toml").open("rb") as file:
        tree = tomllib.load(file)
    counties = tuple(Division(**one) for one in tree["county"])
    return Division(**tree["prefecture"]), counties
