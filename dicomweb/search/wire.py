"""Presenting search results as DICOM JSON with retrieve URLs (PS3.18 10.6.3.3, Annex F)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dicomweb.search.domain import (
    INSTANCE_AVAILABILITY,
    RETRIEVE_URL,
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    Level,
)


def present(dataset: Mapping[str, Any], level: Level, service_url: str) -> dict[str, Any]:
    """A match with its RetrieveURL and availability, keys in tag order."""
    answer = dict(dataset)
    url = f"{service_url}/studies/{_uid(dataset, STUDY_INSTANCE_UID)}"
    if level != "STUDY":
        url += f"/series/{_uid(dataset, SERIES_INSTANCE_UID)}"
    if level == "IMAGE":
        url += f"/instances/{_uid(dataset, SOP_INSTANCE_UID)}"
    answer[f"{RETRIEVE_URL:08X}"] = {"vr": "UR", "Value": [url]}
    answer.setdefault(f"{INSTANCE_AVAILABILITY:08X}", {"vr": "CS", "Value": ["ONLINE"]})
    return dict(sorted(answer.items()))


def _uid(dataset: Mapping[str, Any], tag: int) -> str:
    values = dataset.get(f"{tag:08X}", {}).get("Value") or [""]
    return str(values[0])
