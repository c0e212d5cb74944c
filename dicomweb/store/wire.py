"""The Store Instances Response Module as DICOM JSON (PS3.18 Annex I)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dicomweb.store.domain import PartResult

MAX_COMMENT_CHARACTERS = 1024


def response_module(
    results: Sequence[PartResult], service_url: str, study_instance_uid: str | None
) -> dict[str, Any]:
    """The module for all parts of one request (PS3.18 Table I.1-1).

    The study's Retrieve URL is given when every instance stored is of one study.
    """
    stored = [result for result in results if result.failure is None]
    refused = [result for result in results if result.failure is not None]
    studies = {result.study_instance_uid for result in stored}
    if study_instance_uid is not None and not stored:
        studies = {study_instance_uid}
    module: dict[str, Any] = {"00081190": {"vr": "UR"}}
    if len(studies) == 1:
        module["00081190"]["Value"] = [f"{service_url}/studies/{studies.pop()}"]
    if refused:
        module["00081198"] = {"vr": "SQ", "Value": [_failed(result) for result in refused]}
    if stored:
        items = [_referenced(result, service_url) for result in stored]
        module["00081199"] = {"vr": "SQ", "Value": items}
    return module


def _failed(result: PartResult) -> dict[str, Any]:
    item = _reference(result)
    item["00081197"] = {"vr": "US", "Value": [result.failure]}
    if result.comment:
        # Error Comment (PS3.7 E.1): the words that the code cannot say, with our reason code.
        item["00000902"] = {"vr": "LO", "Value": [result.comment[:MAX_COMMENT_CHARACTERS]]}
    return item


def _referenced(result: PartResult, service_url: str) -> dict[str, Any]:
    item = _reference(result)
    url = (
        f"{service_url}/studies/{result.study_instance_uid}"
        f"/series/{result.series_instance_uid}/instances/{result.sop_instance_uid}"
    )
    item["00081190"] = {"vr": "UR", "Value": [url]}
    return item


def _reference(result: PartResult) -> dict[str, Any]:
    """SOP Instance Reference Macro (PS3.3 Table 10-11); empty where the part told nothing."""
    return {
        "00081150": _uid(result.sop_class_uid),
        "00081155": _uid(result.sop_instance_uid),
    }


def _uid(value: str) -> dict[str, Any]:
    return {"vr": "UI", "Value": [value]} if value else {"vr": "UI"}
