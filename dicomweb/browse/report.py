"""The content tree of a structured report as lines that a person reads (PS3.3 C.17.3, C.18)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dicomweb.browse.facts import person_names, text, values

MOST = 2000
_CONTENT, _CONCEPT, _UNITS = "0040A730", "0040A043", "004008EA"
_MEASURED, _NUMERIC, _CODE = "0040A300", "0040A30A", "0040A168"
_MEANING = "00080104"
_PLAIN = {
    "TEXT": "0040A160",
    "DATE": "0040A121",
    "TIME": "0040A122",
    "DATETIME": "0040A120",
    "UIDREF": "0040A124",
}


@dataclass(frozen=True, slots=True)
class ReportLine:
    """One content item: what is said about which concept, `depth` levels below the title."""

    name: str
    value: str
    depth: int
    is_part: bool


def report_lines(dataset: Mapping[str, Any]) -> list[ReportLine]:
    """The title and every content item in reading order, at most `MOST` of them."""
    lines: list[ReportLine] = []
    waiting: list[tuple[int, Iterator[Mapping[str, Any]]]] = [(0, iter([dataset]))]
    while waiting and len(lines) < MOST:
        depth, items = waiting[-1]
        item = next(items, None)
        if item is None:
            waiting.pop()
            continue
        name, value = _meaning(item, _CONCEPT), _value(item)
        is_part = text(item, "0040A040") == "CONTAINER"
        if name or value:
            lines.append(ReportLine(name, value, min(depth, 4), is_part))
        waiting.append((depth + 1, iter(values(item, _CONTENT))))
    return lines


def _value(item: Mapping[str, Any]) -> str:
    """What a content item says, by its Value Type (PS3.3 Table C.17.3-7)."""
    kind = text(item, "0040A040")
    if kind in _PLAIN:
        return text(item, _PLAIN[kind])
    if kind == "CODE":
        return _meaning(item, _CODE)
    if kind == "PNAME":
        return " ".join(part for part in person_names(item, "0040A123") if part)
    if kind == "NUM":
        measured = values(item, _MEASURED)
        first = measured[0] if measured else {}
        return f"{text(first, _NUMERIC)} {_meaning(first, _UNITS)}".strip()
    return ""


def _meaning(item: Mapping[str, Any], tag: str) -> str:
    codes = values(item, tag)
    return text(codes[0], _MEANING) if codes else ""
