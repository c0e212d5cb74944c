"""Questions to the index and their answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Level = Literal["PATIENT", "STUDY", "SERIES", "IMAGE"]
LEVELS: tuple[Level, ...] = ("PATIENT", "STUDY", "SERIES", "IMAGE")


@dataclass(frozen=True, slots=True)
class Query:
    """What to find.

    `match` maps tags to decoded text in the syntax of PS3.4 C.2.2.2: wildcards ``*`` and ``?``,
    date and time ranges, several values joined by a backslash; '' matches everything. `text` is
    what a person typed into one search box: name, pinyin, initials, Patient ID or accession number.
    `include` are the tags wanted in the answers, None for all that are known. `after` continues
    behind the `Page.after` of an earlier answer; `offset` is for clients that know no better.
    """

    level: Level
    match: Mapping[int, str] = field(default_factory=dict)
    include: frozenset[int] | None = None
    limit: int = 100
    offset: int = 0
    after: str | None = None
    fuzzy: bool = False
    text: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """One entity found: its attributes as DICOM JSON keyed by ``GGGGEEEE``.

    `unsettled` counts instances that arrived and are not settled yet; `sensitivity` are the
    sensitive kinds of its study, joined by commas.
    """

    dataset: dict[str, Any]
    key: str
    received_at: datetime
    owner_id: int
    unsettled: int = 0
    sensitivity: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the answers; `more` says that there are others, `after` where they begin.

    `unsupported` are the tags of the question that the index does not match on.
    """

    matches: list[Match]
    more: bool
    after: str | None
    unsupported: frozenset[int]
