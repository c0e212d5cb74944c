"""Contradictions inside a study or series: kept, flagged and shown, never refused.

One decision table. Every instance of a study should name the same patient, every instance of a
series the same modality (PS3.3 A.1.2, C.7). The first values received stay on the rows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Rule:
    """`tag` must not change within its `level`; `kind` is what the flag is called."""

    kind: str
    tag: int
    level: Literal["study", "series"]


RULES = (
    Rule("patient_id_differs", 0x00100020, "study"),
    Rule("patient_name_differs", 0x00100010, "study"),
    Rule("birth_date_differs", 0x00100030, "study"),
    Rule("sex_differs", 0x00100040, "study"),
    Rule("modality_differs", 0x00080060, "series"),
)
SERIES_IN_TWO_STUDIES = "series_in_two_studies"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One contradiction: what the row says and what arrived, as DICOM JSON values."""

    kind: str
    stored: str
    received: str


def contradictions(study_attrs: str, series_attrs: str, arrived: dict[str, Any]) -> list[Mismatch]:
    """The rules that `arrived` (DICOM JSON) breaks against the stored first values."""
    stored = {"study": json.loads(study_attrs), "series": json.loads(series_attrs)}
    found = []
    for rule in RULES:
        tag = f"{rule.tag:08X}"
        old = stored[rule.level].get(tag, {}).get("Value")
        new = arrived.get(tag, {}).get("Value")
        if old != new:
            found.append(Mismatch(rule.kind, _words(old), _words(new)))
    return found


def _words(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
