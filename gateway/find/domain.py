"""What a C-FIND identifier asks for, and the shape of an answer (PS3.4 C.4.1, C.6.1, C.6.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archive.query.domain import Level
from dataset.encode import Identifier, vr_of
from gateway.upper_layer.sop_classes import Root
from kernel.errors import Invalid

CHARACTER_SET = 0x00080005
LEVEL = 0x00080052
RETRIEVE_AE_TITLE = 0x00080054
INSTANCE_AVAILABILITY = 0x00080056
TIMEZONE = 0x00080201
NOT_KEYS = frozenset({CHARACTER_SET, LEVEL, RETRIEVE_AE_TITLE, INSTANCE_AVAILABILITY, TIMEZONE})

# PS3.4 C.6.1.1, C.6.2.1 and the retired C.6.3.1: the levels of each information model.
LEVELS: dict[Root, tuple[Level, ...]] = {
    "PATIENT": ("PATIENT", "STUDY", "SERIES", "IMAGE"),
    "STUDY": ("STUDY", "SERIES", "IMAGE"),
    "PATIENT_STUDY_ONLY": ("PATIENT", "STUDY"),
}


@dataclass(frozen=True, slots=True)
class Question:
    """An identifier understood: level, matching keys, and every tag the answer must have.

    ``unmatched`` are keys with a value inside a sequence, which nothing is matched against.
    """

    level: Level
    match: dict[int, str]
    asked: frozenset[int]
    charset: str | None
    unmatched: bool


def level_of(identifier: Identifier, root: Root) -> Level:
    """The Query/Retrieve Level (0008,0052) where the model has it.

    Raises:
        Invalid: ``query.level``, which is answered by A900H.
    """
    stated = str(identifier.get(LEVEL, "")).strip().upper()
    for level in LEVELS[root]:
        if stated == level:
            return level
    known = "/".join(LEVELS[root])
    if not stated:
        raise Invalid("query.level", "(0008,0052) is missing, expected {known}", known=known)
    raise Invalid("query.level", "level {level}, expected {known}", level=stated[:16], known=known)


def understand(identifier: Identifier, root: Root) -> Question:
    """What is asked for. Relational questions are taken as they come (PS3.4 C.4.1.2.2.1)."""
    level = level_of(identifier, root)
    match: dict[int, str] = {}
    unmatched = False
    for tag, value in identifier.items():
        if tag in NOT_KEYS:
            continue
        if isinstance(value, str):
            match[tag] = value
        else:
            unmatched = unmatched or _has_value(value)
    charset = identifier.get(CHARACTER_SET)
    return Question(
        level,
        match,
        frozenset(identifier) - {CHARACTER_SET},
        charset if isinstance(charset, str) else None,
        unmatched,
    )


def answer(question: Question, found: Mapping[str, Any], ae_title: str) -> dict[str, Any]:
    """One answer as DICOM JSON: each tag that was asked for, empty where nothing is known.

    Level and Retrieve AE Title are always there (PS3.4 C.4.1.1.3.2); what is not asked for is not.
    """
    told: dict[str, Any] = {}
    for tag in question.asked:
        key = f"{tag:08X}"
        told[key] = found.get(key) or {"vr": vr_of(tag)}
    told["00080052"] = {"vr": "CS", "Value": [question.level]}
    told["00080054"] = {"vr": "AE", "Value": [ae_title]}
    told["00080056"] = {"vr": "CS", "Value": ["ONLINE"]}
    return told


def _has_value(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_value(inner) for inner in value.values())
    return bool(value)
