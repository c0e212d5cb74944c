"""Routes of decisions about studies and patients."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from archive.decisions.domain import (
    CHOOSE,
    CLASSIFY,
    CORRECT,
    DELETE,
    HOLD,
    REJECT,
    RELEASE,
    RESTORE,
)
from dataset.refs import StudyRef
from dicomweb.decide.wire import detail_in, patient_in, ref_in, state_json, text_in
from dicomweb.services import DESK
from kernel.errors import Invalid
from kernel.web.guard import requires, scope_of
from kernel.web.handler import Handler

# What each kind of decision needs permission for, and what it does.
KINDS: Mapping[str, tuple[str, str]] = {
    CORRECT: ("archive.study.correct", "show other values of named attributes"),
    CHOOSE: ("archive.study.correct", "show another version of an instance"),
    REJECT: ("archive.study.delete", "hide it from query and retrieve, with a code of IHE IOCM"),
    RESTORE: ("archive.study.delete", "end a rejection"),
    DELETE: ("archive.study.delete", "delete it"),
    HOLD: ("archive.study.hold", "let nobody delete the study"),
    RELEASE: ("archive.study.hold", "end a hold"),
    CLASSIFY: ("archive.study.classify", "say which sensitive kinds of data it is of, or none"),
}


def setup(app: web.Application) -> None:
    """Add the routes."""
    for kind, (permission, words) in KINDS.items():
        handler = requires(permission)(_deciding(kind, words))
        app.router.add_post(f"/api/studies/{{study}}/{kind}", handler)
    app.router.add_get("/api/studies/{study}/decisions", decisions)
    app.router.add_post("/api/merges", merge_patients)
    app.router.add_post("/api/merges/undo", unmerge_patients)


def _deciding(kind: str, words: str) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        scope = scope_of(request)
        done = await request.app[DESK].decide(
            scope,
            kind,
            ref_in(request.match_info["study"], body),
            actor=scope.actor.id,
            reason=text_in(body, "reason", required=True),
            detail=detail_in(kind, body),
        )
        return web.json_response(
            {"decisions": list(done.decision_ids), "instances": done.instances}
        )

    handler.__doc__ = f"POST …/studies/{{study}}/{kind}: {words} (study, series or instance)."
    return handler


@requires("archive.study.read")
async def decisions(request: web.Request) -> web.StreamResponse:
    """GET …/studies/{study}/decisions: what was decided about it, kept versions, contradictions."""
    ref = StudyRef.parse(request.match_info["study"])
    states = await request.app[DESK].about(scope_of(request), ref)
    return web.json_response([state_json(one) for one in states])


@requires("archive.patient.merge")
async def merge_patients(request: web.Request) -> web.StreamResponse:
    """POST /api/merges: all studies of one patient answer under another one."""
    return await _merge(request, undo=False)


@requires("archive.patient.merge")
async def unmerge_patients(request: web.Request) -> web.StreamResponse:
    """POST /api/merges/undo: end a merge; every study is shown as before."""
    return await _merge(request, undo=True)


async def _merge(request: web.Request, *, undo: bool) -> web.StreamResponse:
    body = await _body(request)
    scope = scope_of(request)
    done = await request.app[DESK].merge(
        scope,
        patient_in(body, "patient"),
        patient_in(body, "into"),
        actor=scope.actor.id,
        reason=text_in(body, "reason", required=True),
        undo=undo,
    )
    return web.json_response({"decisions": list(done.decision_ids)})


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise Invalid("decision.body", "The body is no JSON object.") from error
    if not isinstance(body, dict):
        raise Invalid("decision.body", "The body is no JSON object.")
    return body
