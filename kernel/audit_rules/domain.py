"""Rules of abnormal use, read from TOML, and what one row means to them."""

import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kernel.errors import Invalid

BUILT_IN = Path(__file__).parent / "rules.toml"
DAY_S = 86400

Match = Literal["", "own_name", "own_surname", "vip"]
_MATCHES = ("", "own_name", "own_surname", "vip")
_DEFAULTS: Mapping[str, Any] = {"outcomes": [], "distinct": "", "hours": [], "match": ""}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, as rules.toml describes it."""

    code: str
    title: str
    actions: tuple[str, ...]
    actors: tuple[str, ...]
    outcomes: tuple[str, ...]
    distinct: str
    hours: tuple[int, int] | None
    match: Match
    within_s: int
    most: int

    def wants(self, actor_kind: str, action: str, outcome: str, local_hour: int) -> bool:
        """Whether a row counts for this rule."""
        return (
            actor_kind in self.actors
            and (not self.actions or any(_is_action(action, one) for one in self.actions))
            and (not self.outcomes or outcome in self.outcomes)
            and (self.hours is None or is_within_hours(local_hour, self.hours))
        )


@dataclass(frozen=True, slots=True)
class Person:
    """Whose study it is, as far as it is known: names, and whether the person is protected."""

    names: tuple[str, ...] = ()
    is_vip: bool = False


def read_rules(file: Path | None = None) -> list[Rule]:
    """The rules of a file, or those of every installation. Raises Invalid `audit.rules`."""
    place = file or BUILT_IN
    try:
        tables = tomllib.loads(place.read_text(encoding="utf-8"))["rule"]
        rules = [_rule(table) for table in tables]
        if len({rule.code for rule in rules}) != len(rules):
            raise ValueError("two rules have the same code")  # noqa: TRY301 - one way out
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise Invalid(
            "audit.rules",
            "The rules in {file} cannot be used: {why}.",
            file=place.name,
            why=str(error),
        ) from error
    return rules


def is_within_hours(hour: int, hours: tuple[int, int]) -> bool:
    """Whether an hour of the day is from the first up to, not including, the second."""
    first, last = hours
    return first <= hour < last if first <= last else hour >= first or hour < last


def matches(match: Match, own_name: str, person: Person) -> bool:
    """Whether the person of a study is of the kind that a rule looks for."""
    if match == "vip":
        return person.is_vip
    own = _plain(own_name)
    names = [_plain(name) for name in person.names if name]
    if not own or not match:
        return not match
    if match == "own_name":
        return own in names
    surname = _surname(own_name)
    return own not in names and any(_surname(name) == surname for name in person.names)


def _rule(table: Mapping[str, Any]) -> Rule:
    values = {**_DEFAULTS, **table}
    if set(values) != set(Rule.__dataclass_fields__):
        raise ValueError(f"rule {values.get('code')}: fields are missing or too many")
    if values["match"] not in _MATCHES or values["distinct"] not in ("", "study"):
        raise ValueError(f"rule {values['code']}: unknown match or distinct")
    hours = tuple(int(one) for one in values["hours"])
    if len(hours) not in (0, 2) or not all(0 <= one <= 24 for one in hours):
        raise ValueError(f"rule {values['code']}: hours are two numbers from 0 to 24")
    if int(values["within_s"]) <= 0 or int(values["most"]) < 0:
        raise ValueError(f"rule {values['code']}: within_s and most cannot be so small")
    return Rule(
        str(values["code"]),
        str(values["title"]),
        tuple(values["actions"]),
        tuple(values["actors"]),
        tuple(values["outcomes"]),
        values["distinct"],
        (hours[0], hours[1]) if hours else None,
        values["match"],
        int(values["within_s"]),
        int(values["most"]),
    )


def _is_action(action: str, wanted: str) -> bool:
    return action.startswith(wanted) if wanted.endswith(".") else action == wanted


def _plain(name: str) -> str:
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(one for one in folded if one.isalnum())


def _surname(name: str) -> str:
    """The first character of a Chinese name, the first word of another."""
    words = unicodedata.normalize("NFKC", name).casefold().replace("^", " ").split()
    if not words:
        return ""
    return words[0][0] if words[0][0] >= "\u3400" else words[0]
