"""Decisions as JSON: what is asked for, and what is told about a study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archive.decisions.domain import (
    CHOOSE,
    CLASSIFY,
    CORRECT,
    REJECT,
    Decision,
    PatientKey,
    Ref,
    StudyState,
)
from dataset.correction import attribute_of, tag_of
from dataset.refs import InstanceRef, SeriesRef, StudyRef
from kernel.errors import Invalid


def text_in(body: Mapping[str, Any], name: str, *, required: bool = False) -> str:
    """A text of a JSON body; raises `Invalid('decision.body')`."""
    value = body.get(name, "")
    if not isinstance(value, str) or (required and not value.strip()):
        raise Invalid("decision.body", "“{name}” must be a text", name=name)
    return value.strip()


def ref_in(study: str, body: Mapping[str, Any]) -> Ref:
    """The study, or the series and instance of it that a body names."""
    series, instance = text_in(body, "series"), text_in(body, "instance")
    if instance:
        return InstanceRef.parse(study, series, instance)
    return SeriesRef.parse(study, series) if series else StudyRef.parse(study)


def detail_in(kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """What a kind of decision needs beside reference and reason; raises `Invalid`."""
    if kind == REJECT:
        return {"code": text_in(body, "code", required=True)}
    if kind == CORRECT:
        named = body.get("attributes")
        if not isinstance(named, dict):
            raise Invalid("decision.body", "“{name}” must be an object", name="attributes")
        return {"attributes": attributes_in(named)}
    if kind == CLASSIFY:
        kinds = body.get("kinds")
        if not isinstance(kinds, list) or not all(isinstance(one, str) for one in kinds):
            raise Invalid("decision.body", "“{name}” must be a list of texts", name="kinds")
        return {"kinds": sorted({*kinds})}
    if kind == CHOOSE:
        version = body.get("version")
        if version is None:
            return {"version": None}
        numbers = isinstance(version, list) and [type(one) for one in version] == [int, int]
        if not numbers:
            raise Invalid("decision.body", "“{name}” must be two numbers", name="version")
        return {"version": version}
    return {}


def attributes_in(named: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes by keyword or tag with their new text, None as they were received."""
    found: dict[str, Any] = {}
    for name, text in named.items():
        tag = tag_of(name)
        if text is not None and not isinstance(text, str):
            raise Invalid("decision.body", "“{name}” must be a text", name=name[:64])
        found[f"{tag:08X}"] = None if text is None else attribute_of(tag, text)
    return found


def patient_in(body: Mapping[str, Any], name: str) -> PatientKey:
    """A patient of a body: ``{"id": …, "issuer": …}``."""
    value = body.get(name)
    if not isinstance(value, dict):
        raise Invalid("decision.body", "“{name}” must be an object", name=name)
    return PatientKey(text_in(value, "id", required=True), text_in(value, "issuer"))


def state_json(state: StudyState) -> dict[str, Any]:
    """What was decided about a study, for a program."""
    return {
        "owner": state.owner_id,
        "present": state.present,
        "held": state.held is not None,
        "own_patient_id": state.own_patient_id or None,
        "rejected": [
            {"series": place[0], "instance": place[1], "code": made.detail["code"]}
            for place, made in sorted(state.rejected.items())
        ],
        "corrections": [
            {"series": place[0], "instance": place[1], "attributes": attributes}
            for place, attributes in sorted(state.corrections.items())
        ],
        "versions": [
            {
                "series": one.series_instance_uid,
                "instance": one.sop_instance_uid,
                "relation": one.relation,
                "source": one.source,
                "version": [one.received_ms, one.byte_length],
                "chosen": one.chosen,
            }
            for one in state.versions
        ],
        "contradictions": [
            {
                "kind": one.kind,
                "series": one.series_instance_uid,
                "instance": one.sop_instance_uid,
                "stored": one.stored,
                "received": one.received,
            }
            for one in state.contradictions
        ],
        "decisions": [_decision_json(made) for made in state.decisions],
    }


def _decision_json(made: Decision) -> dict[str, Any]:
    return {
        "kind": made.kind,
        "series": made.series_instance_uid,
        "instance": made.sop_instance_uid,
        "actor": made.actor,
        "reason": made.reason,
        "decided_ms": made.decided_ms,
        "done": made.closed,
    }
