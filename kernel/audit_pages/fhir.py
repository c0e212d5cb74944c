"""Routes of FHIR R4 AuditEvent (IHE RESTful ATNA, ITI-81 for reading)."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from kernel.audit.search import find, find_one
from kernel.audit_messages.domain import AuditRow
from kernel.audit_messages.fhir import audit_event, bundle, next_query, read_query
from kernel.audit_messages.sender import reporter_of
from kernel.db.database import Database
from kernel.errors import NotFound
from kernel.web.guard import requires, scope_of

PATH = "/fhir/R4/AuditEvent"
READ = "system.audit.read"
DATABASE: web.AppKey[Database] = web.AppKey("kernel.audit_pages.database", Database)


@requires(READ)
async def search_events(request: web.Request) -> web.Response:
    """GET /fhir/R4/AuditEvent: a page of audit events as a Bundle, the newest first."""
    pairs = list(request.query.items())
    question, after, count = read_query(pairs)
    scope, database = scope_of(request), request.app[DATABASE]
    async with database.session(scope) as session:
        page = await find(session, scope, question, after=after, limit=count)
    reporter = reporter_of(database.settings)
    events = [audit_event(to_row(row), reporter) for row in page.rows]
    more = urlencode(next_query(pairs, page.after), doseq=True) if page.after else None
    base = str(request.url.origin()) + PATH
    return _answer(bundle(events, base, urlencode(pairs), more))


@requires(READ)
async def read_event(request: web.Request) -> web.Response:
    """GET /fhir/R4/AuditEvent/{number}: one audit event."""
    scope, database = scope_of(request), request.app[DATABASE]
    async with database.session(scope) as session:
        row = await find_one(session, scope, int(request.match_info["number"]))
    if row is None:
        raise NotFound("audit.not_found", "There is no such audit line.")
    return _answer(audit_event(to_row(row), reporter_of(database.settings)))


def to_row(row: Mapping[str, Any]) -> AuditRow:
    """A found row as the messages tell it; the number of one not sealed yet is 0."""
    named = {name: row[name] for name in AuditRow.__dataclass_fields__}
    named["refs"] = tuple(json.loads(named["refs"]))
    named["detail"] = json.loads(named["detail"])
    return AuditRow(**named | {"seq": named["seq"] or 0})


def _answer(body: Mapping[str, Any]) -> web.Response:
    return web.Response(
        text=json.dumps(body, ensure_ascii=False),
        content_type="application/fhir+json",
        headers={"Cache-Control": "no-store"},
    )
