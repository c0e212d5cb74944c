"""The query string of a QIDO-RS search, and what each level has to answer (PS3.18 10.6)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

from pydicom.datadict import dictionary_VR, tag_for_keyword

from dataset.refs import parse_uid
from kernel.errors import Invalid

Level = Literal["STUDY", "SERIES", "IMAGE"]

STUDY_INSTANCE_UID = 0x0020000D
SERIES_INSTANCE_UID = 0x0020000E
SOP_INSTANCE_UID = 0x00080018
RETRIEVE_URL = 0x00081190
INSTANCE_AVAILABILITY = 0x00080056

# PS3.18 Table 10.6.3-3
STUDY_ATTRIBUTES = frozenset(
    {
        0x00080005,
        0x00080020,
        0x00080030,
        0x00080050,
        INSTANCE_AVAILABILITY,
        0x00080061,
        0x00080090,
        0x00080201,
        0x00100010,
        0x00100020,
        0x00100030,
        0x00100040,
        STUDY_INSTANCE_UID,
        0x00200010,
        0x00201206,
        0x00201208,
    }
)
# PS3.18 Table 10.6.3-4
SERIES_ATTRIBUTES = frozenset(
    {
        0x00080005,
        0x00080060,
        0x00080201,
        0x0008103E,
        STUDY_INSTANCE_UID,
        SERIES_INSTANCE_UID,
        0x00200011,
        0x00201209,
        0x00400244,
        0x00400245,
        0x00400275,
    }
)
# PS3.18 Table 10.6.3-5
INSTANCE_ATTRIBUTES = frozenset(
    {
        0x00080005,
        0x00080016,
        SOP_INSTANCE_UID,
        INSTANCE_AVAILABILITY,
        0x00080201,
        STUDY_INSTANCE_UID,
        SERIES_INSTANCE_UID,
        0x00200013,
        0x00280010,
        0x00280011,
        0x00280100,
        0x00280008,
    }
)

# Parameters that are not attributes (PS3.18 8.3.4, 8.3.3).
CONTROL_PARAMETERS = frozenset({"accept", "charset", "lang"})
UNSUPPORTED_CONTROLS = frozenset({"emptyvaluematching", "multiplevaluematching"})

MAX_RESULTS = 1_000
MAX_RESULTS_WITHIN_STUDY = 10_000
MAX_OFFSET = 10_000
MAX_VALUE_CHARACTERS = 4_096
MAX_LISTED_VALUES = 1_000

_HEX_TAG = re.compile(r"[0-9A-Fa-f]{8}\Z")
_KEYWORD = re.compile(r"[A-Za-z][A-Za-z0-9]*\Z")
_COUNT = re.compile(r"[0-9]{1,9}\Z")

_TIME = r"\d{2}(?::?\d{2}(?::?\d{2}(?:\.\d{1,6})?)?)?"
_DATETIME = r"\d{4}(?:\d{2}){0,5}(?:\.\d{1,6})?(?:[+-]\d{4})?"
_DAY = r"\d{8}"
_SHAPES: dict[str, re.Pattern[str]] = {
    "DA": re.compile(rf"(?:{_DAY})?(?:-(?:{_DAY})?)?\Z"),
    "TM": re.compile(rf"(?:{_TIME})?(?:-(?:{_TIME})?)?\Z"),
    "DT": re.compile(rf"(?:{_DATETIME})?(?:-(?:{_DATETIME})?)?\Z"),
    "IS": re.compile(r"\s*[+-]?\d{1,12}\s*\Z"),
    "DS": re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*\Z"),
    "US": re.compile(r"\d{1,5}\Z"),
    "UL": re.compile(r"\d{1,10}\Z"),
    "SS": re.compile(r"[+-]?\d{1,5}\Z"),
    "SL": re.compile(r"[+-]?\d{1,10}\Z"),
    "CS": re.compile(r"[A-Za-z0-9_ *?]*\Z"),
}
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")
_LISTS = frozenset({"UI", "CS"})  # a comma cannot be part of such a value


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """A parsed search. `include` None stands for includefield=all.

    `match` holds wire text by tag, lists joined by a backslash; `ignored` the parameters that have
    no effect on the answer and are named in its Warning header.
    """

    level: Level
    match: Mapping[int, str]
    include: frozenset[int] | None
    limit: int
    offset: int
    fuzzy: bool
    ignored: tuple[str, ...] = ()


def parse_search(
    level: Level,
    parameters: Iterable[tuple[str, str]],
    *,
    study: str | None = None,
    series: str | None = None,
) -> SearchRequest:
    """Parse the query parameters of a search below an optional study and series.

    Unknown parameters are ignored and named in `ignored` (PS3.18 8.3.4.1). Raises
    `Invalid('query.bad_value' | 'query.repeated')` for a value that cannot be meant.
    """
    match: dict[int, str] = {}
    included: set[int] = set()
    ignored: list[str] = []
    controls: dict[str, str] = {}
    everything = False
    for name, value in parameters:
        lowered = name.lower()
        if lowered in ("limit", "offset", "fuzzymatching"):
            if lowered in controls:
                raise _repeated(name)
            controls[lowered] = value
        elif lowered == "includefield":
            everything |= _take_include(value, included, ignored)
        elif lowered in UNSUPPORTED_CONTROLS:
            ignored.append(name)
        elif lowered not in CONTROL_PARAMETERS:
            _take_match(name, value, match, ignored)
    _bind(match, STUDY_INSTANCE_UID, study)
    _bind(match, SERIES_INSTANCE_UID, series)
    required = _required(level, within_study=study is not None)
    most = MAX_RESULTS if study is None else MAX_RESULTS_WITHIN_STUDY
    return SearchRequest(
        level=level,
        match=match,
        include=None if everything else frozenset(included | required | match.keys()),
        limit=min(most, _count(controls, "limit", most)),
        offset=_offset(controls),
        fuzzy=_flag(controls, "fuzzymatching"),
        ignored=tuple(dict.fromkeys(ignored)),
    )


def parse_tag(name: str) -> int | None:
    """A tag from a keyword or eight hexadecimal digits; None for anything else."""
    if _HEX_TAG.match(name):
        return int(name, 16)
    if _KEYWORD.match(name):
        return tag_for_keyword(name)
    return None


def vr_of(tag: int) -> str:
    """The dictionary's value representation; UN where the tag is not in it."""
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"


def _required(level: Level, *, within_study: bool) -> frozenset[int]:
    """PS3.18 10.6.3.3: an answer across studies repeats what identifies the study."""
    if level == "STUDY":
        return STUDY_ATTRIBUTES
    own = SERIES_ATTRIBUTES if level == "SERIES" else INSTANCE_ATTRIBUTES
    if within_study:
        return own
    return own | STUDY_ATTRIBUTES | (SERIES_ATTRIBUTES if level == "IMAGE" else frozenset())


def _take_include(value: str, included: set[int], ignored: list[str]) -> bool:
    """Add the tags of one includefield; True for `all`."""
    everything = False
    for raw in value.split(","):
        name = raw.strip()
        if name.lower() == "all":
            everything = True
            continue
        # An item of a sequence comes with its sequence.
        tag = parse_tag(name.partition(".")[0])
        if tag is None:
            ignored.append(f"includefield={name}")
        else:
            included.add(tag)
    return everything


def _take_match(name: str, value: str, match: dict[int, str], ignored: list[str]) -> None:
    tag = parse_tag(name)
    if tag is None:
        ignored.append(name)
        return
    if tag in match:
        raise _repeated(name)
    match[tag] = _checked(name, vr_of(tag), value)


def _checked(name: str, vr: str, value: str) -> str:
    """The value in the syntax of PS3.4 C.2.2.2, or an error that names it."""
    if len(value) > MAX_VALUE_CHARACTERS and vr != "UI":
        raise bad_value(name, value)
    if _CONTROL_CHARACTERS.search(value):
        raise bad_value(name, value)
    values = re.split(r"[,\\]", value) if vr in _LISTS else [value]
    if len(values) > MAX_LISTED_VALUES:
        raise bad_value(name, value)
    for single in values:
        _check_shape(name, vr, single)
    return "\\".join(values)


def _check_shape(name: str, vr: str, value: str) -> None:
    if value == "":
        return
    if vr == "UI":
        parse_uid(value)
        return
    shape = _SHAPES.get(vr)
    if shape is not None and not shape.match(value):
        raise bad_value(name, value)
    if vr == "DA" and not all(_is_day(day) for day in value.split("-") if day):
        raise bad_value(name, value)


def _is_day(text: str) -> bool:
    try:
        date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return False
    return True


def _bind(match: dict[int, str], tag: int, uid: str | None) -> None:
    """The resource of the path narrows the search, whatever the query string says."""
    if uid is None:
        return
    asked = match.get(tag, "")
    if asked and uid not in asked.split("\\"):
        raise Invalid(
            "query.contradiction",
            "The UID in the query contradicts the one in the path: {value}.",
            value=asked,
        )
    match[tag] = uid


def _count(controls: Mapping[str, str], name: str, default: int) -> int:
    value = controls.get(name, "")
    if value == "":
        return default
    if not _COUNT.match(value):
        raise bad_value(name, value)
    return int(value)


def _offset(controls: Mapping[str, str]) -> int:
    offset = _count(controls, "offset", 0)
    if offset > MAX_OFFSET:
        raise Invalid(
            "query.offset",
            "The offset {offset} is larger than {most}: narrow the search.",
            offset=offset,
            most=MAX_OFFSET,
        )
    return offset


def _flag(controls: Mapping[str, str], name: str) -> bool:
    value = controls.get(name, "").lower()
    if value not in ("", "true", "false"):
        raise bad_value(name, value)
    return value == "true"


def bad_value(name: str, value: str) -> Invalid:
    """The error for a parameter whose value cannot be understood."""
    return Invalid(
        "query.bad_value",
        "The value {value} of parameter {name} cannot be understood.",
        name=name[:64],
        value=value[:200],
    )


def _repeated(name: str) -> Invalid:
    return Invalid("query.repeated", "The parameter {name} is given twice.", name=name[:64])
