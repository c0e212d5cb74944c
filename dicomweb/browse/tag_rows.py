"""The elements of an instance as rows that a person can read, from its DICOM JSON (PS3.18 F)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import dictionary_description
from pydicom.uid import UID

LONGEST = 240
MOST = 5000


@dataclass(frozen=True, slots=True)
class TagRow:
    """One element, or the start of an item (no VR); `depth` counts the sequences around it."""

    tag: str
    vr: str
    name: str
    value: str
    depth: int


def tag_rows(dataset: Mapping[str, Any]) -> list[TagRow]:
    """The rows of a data set in tag order, sequences opened, at most `MOST` of them."""
    rows: list[TagRow] = []
    waiting: list[Iterator[TagRow | tuple[Mapping[str, Any], int]]] = [_elements(dataset, 0)]
    while waiting and len(rows) < MOST:
        entry = next(waiting[-1], None)
        if entry is None:
            waiting.pop()
        elif isinstance(entry, TagRow):
            rows.append(entry)
        else:
            waiting.append(_elements(*entry))
    return rows


def _elements(
    dataset: Mapping[str, Any], depth: int
) -> Iterator[TagRow | tuple[Mapping[str, Any], int]]:
    for key in sorted(dataset):
        element = dataset[key]
        vr = str(element.get("vr", ""))
        found = element.get("Value") or []
        tag = f"({key[:4]},{key[4:]})"
        if vr != "SQ":
            yield TagRow(tag, vr, element_name(key), _shown(element, found, vr), depth)
            continue
        yield TagRow(tag, vr, element_name(key), f"× {len(found)}", depth)
        for position, item in enumerate(found, start=1):
            yield TagRow(f"#{position}", "", "", "", depth + 1)
            yield item or {}, depth + 1


def element_name(key: str) -> str:
    """The name of an element in PS3.6, '' where the dictionary does not know it."""
    try:
        return dictionary_description(int(key, 16))
    except (KeyError, ValueError):
        return ""


def _shown(element: Mapping[str, Any], found: list[Any], vr: str) -> str:
    if "BulkDataURI" in element or "InlineBinary" in element:
        return "…"
    shown = "\\".join(_value(value, vr) for value in found[:32])
    if len(found) > 32 or len(shown) > LONGEST:
        shown = shown[:LONGEST] + " …"
    return shown


def _value(value: Any, vr: str) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        groups = [str(value.get(name, "")) for name in ("Alphabetic", "Ideographic", "Phonetic")]
        return "=".join(groups).rstrip("=")
    if vr == "UI":
        known = UID(str(value)).name
        return f"{value} ({known})" if known != str(value) else str(value)
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
