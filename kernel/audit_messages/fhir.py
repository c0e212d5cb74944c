"""Audit rows as FHIR R4 AuditEvent resources, and the search that finds them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from kernel.audit.search import Place, Question
from kernel.audit_messages.domain import OUTCOMES, AuditRow, Code, kind_of, user_id
from kernel.audit_messages.xml import Reporter
from kernel.errors import Invalid

DCM = "http://dicom.nema.org/resources/ontology/DCM"
UID = "urn:dicom:uid"
ACTOR = "urn:yunying:actor"
_OBJECT_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_OBJECT_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
_SOURCE_TYPE = "http://terminology.hl7.org/CodeSystem/security-source-type"
MOST, USUAL = 200, 50

Json = dict[str, Any]


def audit_event(row: AuditRow, reporter: Reporter) -> Json:
    """AuditEvent (FHIR R4 6.5)."""
    kind = kind_of(row)
    found: Json = {
        "resourceType": "AuditEvent",
        "id": str(row.id),
        "type": _coding(kind.event),
        "action": kind.action,
        "recorded": row.at.isoformat(timespec="milliseconds"),
        "outcome": OUTCOMES[row.outcome],
        "purposeOfEvent": [{"text": row.purpose or row.action}],
        "agent": [_asker(row)],
        "source": {
            "observer": {"display": f"{reporter.system}@{reporter.node}"},
            "type": [{"system": _SOURCE_TYPE, "code": "4", "display": "Application Server"}],
        },
    }
    if kind.type is not None:
        found["subtype"] = [_coding(kind.type)]
    if row.why:
        found["outcomeDesc"] = row.why
    if reporter.site:
        found["source"]["site"] = reporter.site
    if row.study_instance_uid:
        found["entity"] = [_study(row)]
    return found


def _asker(row: AuditRow) -> Json:
    agent: Json = {
        "who": {"identifier": {"system": ACTOR, "value": user_id(row)}},
        "requestor": True,
    }
    if row.peer:
        agent["network"] = {"address": row.peer, "type": "2"}
    return agent


def _study(row: AuditRow) -> Json:
    told = {"action": row.action, "count": row.count, "instances": list(row.refs)}
    return {
        "what": {"identifier": {"system": UID, "value": f"urn:oid:{row.study_instance_uid}"}},
        "type": {"system": _OBJECT_TYPE, "code": "2", "display": "System Object"},
        "role": {"system": _OBJECT_ROLE, "code": "3", "display": "Report"},
        "detail": [{"type": "yunying", "valueString": json.dumps(told)}],
    }


def _coding(code: Code) -> Json:
    return {"system": DCM, "code": code.value, "display": code.meaning}


def bundle(events: Sequence[Json], base: str, query: str, more: str | None) -> Json:
    """A searchset; `base` is the address of the type, `more` the query of the next page."""
    links = [{"relation": "self", "url": f"{base}?{query}" if query else base}]
    if more is not None:
        links.append({"relation": "next", "url": f"{base}?{more}"})
    entries = [
        {"fullUrl": f"{base}/{one['id']}", "resource": one, "search": {"mode": "match"}}
        for one in events
    ]
    found: Json = {"resourceType": "Bundle", "type": "searchset", "link": links}
    return found | ({"entry": entries} if entries else {})


def read_query(pairs: Sequence[tuple[str, str]]) -> tuple[Question, Place | None, int]:
    """Question, place and page size of search parameters (FHIR R4 3.1.1).

    Understood: date (ge, gt, le, lt, eq; may be repeated), agent (`session:7`, or with its system
    before a bar), entity (Study Instance UID, plain or as urn:oid:), outcome, _count, page. Raises
    Invalid `audit.parameter` for any other: a filter that is passed over would give too much.
    """
    question, after, count = Question(), None, USUAL
    for name, value in pairs:
        if name == "date":
            question = _bounded(question, value)
        elif name in ("agent", "agent:identifier"):
            kind, _, actor = value.removeprefix(f"{ACTOR}|").partition(":")
            question = replace(question, actor_kind=kind, actor_id=actor)
        elif name in ("entity", "entity:identifier"):
            uid = value.removeprefix(f"{UID}|").removeprefix("urn:oid:")
            question = replace(question, study_instance_uid=uid)
        elif name == "outcome" and value in OUTCOMES.values():
            names = tuple(one for one, code in OUTCOMES.items() if code == value)
            question = replace(question, outcomes=names)
        elif name == "_count" and value.isascii() and value.isdigit():
            count = min(int(value), MOST) or USUAL
        elif name == "page":
            after = _place(value)
        elif name != "_format":
            raise _wrong(name, value)
    return question, after, count


def next_query(pairs: Sequence[tuple[str, str]], after: Place) -> Mapping[str, list[str]]:
    """The parameters of the next page."""
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        if name != "page":
            found.setdefault(name, []).append(value)
    return found | {"page": [f"{after.at!r}_{after.id}"]}


def _bounded(question: Question, value: str) -> Question:
    prefix = value[:2] if value[:2] in ("ge", "gt", "le", "lt", "eq", "sa", "eb") else "eq"
    first, last = _period(value[2:] if value.startswith(prefix) else value)
    since, until = question.since, question.until
    if prefix in ("ge", "eq"):
        since = first if since is None else max(since, first)
    if prefix in ("gt", "sa"):
        since = last if since is None else max(since, last)
    if prefix in ("le", "eq"):
        until = last if until is None else min(until, last)
    if prefix in ("lt", "eb"):
        until = first if until is None else min(until, first)
    return replace(question, since=since, until=until)


def _period(text: str) -> tuple[datetime, datetime]:
    """First moment of a date or time, and the first after it; without a zone it is our own."""
    try:
        if len(text) == 10:
            first = datetime.combine(date.fromisoformat(text), time()).astimezone()
            return first, first + timedelta(days=1)
        first = datetime.fromisoformat(text)
    except ValueError as error:
        raise _wrong("date", text) from error
    first = first.astimezone(UTC)
    step = timedelta(milliseconds=1) if "." in text else timedelta(seconds=1)
    return first, first + step


def _place(value: str) -> Place:
    at, _, number = value.partition("_")
    try:
        return Place(float(at), int(number))
    except ValueError as error:
        raise _wrong("page", value) from error


def _wrong(name: str, value: str) -> Invalid:
    return Invalid(
        "audit.parameter",
        "The search parameter {name} cannot be {value}.",
        name=name[:40],
        value=value[:80],
    )
