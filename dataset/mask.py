"""Masks over what names a person, in words and in DICOM JSON (PS3.18 F). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STAR = "*"

# What identifies a person beside names (VR PN), from the Basic Application Confidentiality Profile
# (PS3.15 Table E.1-1): numbers keep their ends, the rest is left empty.
_NUMBERS = frozenset(
    {
        "00080050",  # Accession Number
        "00100020",  # Patient ID
        "00380010",  # Admission ID
        "00401001",  # Requested Procedure ID
        "00402017",  # Filler Order Number / Imaging Service Request
        "00402016",  # Placer Order Number / Imaging Service Request
        "00200010",  # Study ID
    }
)
_EMPTIED = frozenset(
    {
        "00100030",  # Patient's Birth Date
        "00100032",  # Patient's Birth Time
        "00100021",  # Issuer of Patient ID
        "00100050",  # Patient's Insurance Plan Code Sequence
        "00101000",  # Other Patient IDs
        "00101002",  # Other Patient IDs Sequence
        "00101005",  # Patient's Birth Name
        "00101040",  # Patient's Address
        "00101060",  # Patient's Mother's Birth Name
        "00101090",  # Medical Record Locator
        "00102154",  # Patient's Telephone Numbers
        "00102155",  # Patient's Telecom Information
        "001021B0",  # Additional Patient History
        "00104000",  # Patient Comments
        "00380300",  # Current Patient Location
        "00380400",  # Patient's Institution Residence
        "04000561",  # Original Attributes Sequence
    }
)
# A document can name anybody: Encapsulated Document, and text of structured reports.
_TEXTS = frozenset({"00420011", "0040A160"})
DEEPEST = 64


def mask_dataset(dataset: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """A data set in DICOM JSON in which nobody is named; pixel data and UIDs stay as they are."""
    return {tag: _element(tag, element, depth) for tag, element in dataset.items()}


def _element(tag: str, element: Any, depth: int) -> Any:
    vr = element.get("vr", "")
    if tag in _EMPTIED or tag in _TEXTS or depth >= DEEPEST:
        return {"vr": vr}
    values = element.get("Value")
    if not values:
        return element
    if vr == "PN":
        return {**element, "Value": [_name(value) for value in values]}
    if tag in _NUMBERS:
        return {**element, "Value": [mask_number(str(value or "")) for value in values]}
    if vr == "SQ":
        return {**element, "Value": [mask_dataset(item or {}, depth + 1) for item in values]}
    return element


def _name(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return None
    groups = {key: value[key] for key in ("Alphabetic", "Ideographic") if value.get(key)}
    return {key: mask_name(str(group)) for key, group in groups.items()}


def mask_name(value: str) -> str:
    """A name of which the first letter stays: 王小明 → 王**, Wang^Xiaoming → W***^***.

    Groups of a DICOM name (PS3.5 6.2.1.2) are masked one by one; the phonetic one is left out.
    """
    groups = value.split("=")[:2]
    return "=".join(_mask_group(group) for group in groups)


def _mask_group(group: str) -> str:
    family, *rest = group.split("^")
    masked = [_mask_part(family, 1), *(_mask_part(part, 0) for part in rest)]
    return "^".join(masked)


def _mask_part(part: str, kept: int) -> str:
    if not part:
        return ""
    stars = STAR * 3 if part.isascii() else STAR * max(len(part) - kept, 1)
    return part[:kept] + stars


def mask_number(value: str) -> str:
    """A number of which the first three and the last four letters stay: 138****5678."""
    if len(value) < 10:
        return STAR * len(value)
    return value[:3] + STAR * (len(value) - 7) + value[-4:]
