"""Who and what the demonstration shows, read from ``studies.toml`` beside this file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

JPEG_BASELINE, JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"


@dataclass(frozen=True, slots=True)
class Series:
    """One series: its texts, how it is drawn and how it is encoded."""

    number: int
    description: str
    recipe: str
    images: int
    transfer_syntax_uid: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Study:
    """One study of one patient; ``declared`` is what it claims where its character set is wrong."""

    key: str
    picture: str
    name: str
    patient_id: str
    birth_date: str
    sex: str
    charset: str | list[str]
    days_ago: int
    time: str
    accession_number: str
    description: str
    institution: str
    department: str
    physician: str
    station: str
    model: str
    modality: str
    body_part: str
    series: tuple[Series, ...]
    declared: str = ""


def studies() -> tuple[Study, ...]:
    """Every study of the demonstration."""
    text = resources.files("server.demo").joinpath("studies.toml").read_text(encoding="utf-8")
    return tuple(
        Study(**{**row, "series": tuple(Series(**series) for series in row["series"])})
        for row in tomllib.loads(text)["study"]
    )
