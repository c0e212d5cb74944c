"""The rows of docs/modules.toml: what the tender asks for, and what of it is true today."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dataset.names import fold
from dataset.pinyin import initials, of_text
from kernel.i18n.catalog import marked

FILE = Path(__file__).parents[2] / "docs" / "modules.toml"
PARTS: Mapping[str, str] = {
    "A": marked("Health platform"),
    "B": marked("Imaging cloud"),
    "C": marked("Laboratory cloud"),
    "D": marked("Security and operation"),
}
STATES: Mapping[str, str] = {
    "works": marked("Works"),
    "partly": marked("Partly"),
    "not built": marked("Not built"),
}
TONES: Mapping[str, str] = {"works": "good", "partly": "warn", "not built": "calm"}


@dataclass(frozen=True, slots=True)
class Module:
    """One row; `seed` is the tender's text, `route` where it is reached."""

    id: str
    seed: str
    english: str
    feature: str
    route: str
    test: str
    state: str

    @property
    def part(self) -> str:
        """The letter of its part of the tender."""
        return self.id[0]

    @property
    def href(self) -> str:
        """Where a person opens it; empty for what has no page."""
        return self.route if self.route and "{" not in self.route else ""


@cache
def load_modules() -> tuple[Module, ...]:
    """All rows in their order; none where the documents were not shipped."""
    if not FILE.is_file():
        return ()
    with FILE.open("rb") as file:
        return tuple(Module(**row) for row in tomllib.load(file)["module"])


def matching(text: str, state: str = "", part: str = "") -> Sequence[Module]:
    """The rows whose number, text, pinyin or initials hold `text`."""
    typed = fold(text.strip())
    return [
        one
        for one in load_modules()
        if (not state or one.state == state)
        and (not part or one.part == part)
        and (not typed or any(typed in key for key in _keys(one)))
    ]


@cache
def _keys(one: Module) -> tuple[str, ...]:
    return (fold(one.id), fold(one.seed), fold(one.english), of_text(one.seed), initials(one.seed))
