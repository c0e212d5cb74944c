"""Routes of the page /audit: search, details of a line, findings, export."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from kernel.audit.export import csv_lines, proven_lines
from kernel.audit.search import Place, Question, count_by, find
from kernel.audit_pages.fhir import DATABASE, READ
from kernel.audit_rules.service import acknowledge, findings
from kernel.i18n.catalog import marked
from kernel.web.guard import PERMISSIONS, requires, scope_of
from kernel.web.pages import PERSON, render

TEMPLATES = Path(__file__).parent / "templates"
HOUR_S, DAY_S = 3600, 86400
LONGEST_DAYS = 400
Who = tuple[str, str]  # kind and id of an actor


class Names(Protocol):
    """Knows what those who acted are called, which this floor does not."""

    async def of(self, actors: Collection[Who]) -> Mapping[Who, str]:
        """The names of those that are known."""

    async def called(self, text: str) -> Collection[Who]:
        """Those whose name holds the text."""


NAMES: web.AppKey[Names] = web.AppKey("kernel.audit_pages.names", Names)
RULES: web.AppKey[Mapping[str, str]] = web.AppKey("kernel.audit_pages.rules", dict)

OUTCOMES: Mapping[str, str] = {
    "ok": marked("Given"),
    "denied": marked("Refused"),
    "failed": marked("Failed"),
}
# What was done, in words: a permission that was used, or one of these.
ACTIONS: Mapping[str, str] = {
    **PERMISSIONS,
    "archive.import": marked("Imported from a folder"),
    "dimse.associate": marked("DICOM association"),
    "dimse.c-store": marked("Stored by DICOM"),
    "dimse.c-find": marked("Searched by DICOM"),
    "dimse.c-move": marked("Sent by DICOM"),
    "dimse.c-get": marked("Fetched by DICOM"),
    "identity.sign_in": marked("Sign-in"),
    "identity.sign_out": marked("Sign-out"),
}
ACTOR_KINDS: Mapping[str, str] = {
    "session": marked("Person"),
    "client": marked("API client"),
    "capability": marked("Link"),
    "ae": marked("DICOM node"),
    "system": marked("System"),
}
# What people look for, and the actions that are meant.
KINDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "": (marked("Everything"), ()),
    "read": (marked("Opened"), ("archive.study.read", "archive.study.original")),
    "search": (marked("Searched"), ("archive.study.search", "dimse.c-find")),
    "sent": (marked("Sent by DICOM"), ("dimse.c-move", "dimse.c-get")),
    "stored": (
        marked("Stored"),
        ("archive.study.store", "archive.import", "dimse.c-store"),
    ),
    "sign_in": (
        marked("Signing in"),
        ("identity.sign_in", "identity.sign_out", "identity.sso.", "identity.citizen_code"),
    ),
    "rights": (
        marked("Rights"),
        ("identity.role.", "identity.account.", "identity.client.", "identity.application."),
    ),
    "emergency": (marked("Emergency"), ("identity.break_glass.",)),
}


@dataclass(frozen=True, slots=True)
class Form:
    """The search form as it was filled; days are inclusive and local, `called` who is meant by a
    name.
    """

    first: date
    last: date
    who: str = ""
    called: tuple[Who, ...] = ()
    kind: str = ""
    outcome: str = ""
    study: str = ""
    peer: str = ""

    @property
    def question(self) -> Question:
        """The form as a question to the audit."""
        kind, _, actor = self.who.partition(":") if ":" in self.who else ("", "", self.who)
        return Question(
            datetime.combine(self.first, time()).astimezone(),
            datetime.combine(self.last + timedelta(days=1), time()).astimezone(),
            kind,
            actor,
            KINDS[self.kind][1],
            (self.outcome,) if self.outcome else (),
            self.study,
            self.peer,
            self.called,
        )


@requires(READ)
async def audit_page(request: web.Request) -> web.Response:
    """GET /audit; POST /audit is its search form."""
    form = await _form(request)
    scope, database = scope_of(request), request.app[DATABASE]
    async with database.session(scope) as session:
        open_findings = await findings(session, scope)
        step_s = HOUR_S if (form.last - form.first).days < 3 else DAY_S
        begin = form.question.since or datetime.now(UTC)
        offset = begin.utcoffset() or timedelta()
        counted = await count_by(session, scope, form.question, step_s, int(offset.total_seconds()))
    person = request.get(PERSON)
    context = await _lines(request, form) | {
        "bars": _bars(form, counted, step_s),
        "csrf": person.csrf if person is not None else "",
        "findings": [
            dict(one) | {"title": request.app[RULES].get(one["rule"], one["rule"])}
            for one in open_findings
        ],
        "suspects": await request.app[NAMES].of(
            {(one["actor_kind"], one["actor_id"]) for one in open_findings}
        ),
        "kinds": {name: label for name, (label, _) in KINDS.items()},
        "outcomes": OUTCOMES,
        "total": sum(counted.values()),
    }
    return render(request, "audit/audit.html", context)


@requires(READ)
async def more_lines(request: web.Request) -> web.Response:
    """POST /audit/lines: the next page of lines as a fragment."""
    return render(request, "audit/lines.html", await _lines(request, await _form(request)))


@requires(READ)
async def export_lines(request: web.Request) -> web.StreamResponse:
    """POST /audit/export: the lines that the form asks for, as proven JSON lines or CSV."""
    form = await _form(request)
    posted = await request.post()
    as_csv = posted.get("format") == "csv"
    scope, database = scope_of(request), request.app[DATABASE]
    response = web.StreamResponse()
    name = f"audit-{form.first}-{form.last}.{'csv' if as_csv else 'jsonl'}"
    response.content_type = "text/csv" if as_csv else "application/x-ndjson"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    response.headers["Cache-Control"] = "no-store"
    await response.prepare(request)
    async for line in (csv_lines if as_csv else proven_lines)(database, scope, form.question):
        await response.write(line)
    await response.write_eof()
    return response


@requires(READ)
async def acknowledge_finding(request: web.Request) -> web.StreamResponse:
    """POST /audit/findings/{number}: a finding was looked into."""
    posted = await request.post()
    scope, database = scope_of(request), request.app[DATABASE]
    async with database.session(scope, write=True) as session:
        number = int(request.match_info["number"])
        await acknowledge(session, scope, number, str(posted.get("note", "")))
    raise web.HTTPSeeOther("/audit")


async def _lines(request: web.Request, form: Form) -> dict[str, Any]:
    posted = await request.post() if request.method == "POST" else {}
    scope, database = scope_of(request), request.app[DATABASE]
    async with database.session(scope) as session:
        page = await find(session, scope, form.question, after=_place(str(posted.get("after", ""))))
    rows = [
        dict(row) | {"detail": json.loads(row["detail"]), "refs": json.loads(row["refs"])}
        for row in page.rows
    ]
    names = await request.app[NAMES].of({(row["actor_kind"], row["actor_id"]) for row in rows})
    after = f"{page.after.at!r}_{page.after.id}" if page.after else ""
    return {
        "form": form,
        "rows": rows,
        "names": names,
        "after": after,
        "outcomes": OUTCOMES,
        "action_words": ACTIONS,
        "actor_kinds": ACTOR_KINDS,
    }


async def _form(request: web.Request) -> Form:
    """The posted form; what cannot be is as if it were not filled in."""
    today = datetime.now(UTC).astimezone().date()
    empty = Form(today - timedelta(days=6), today)
    if request.method != "POST":
        return empty
    posted = {name: str(value).strip() for name, value in (await request.post()).items()}
    last = _day(posted.get("last", "")) or empty.last
    first = min(_day(posted.get("first", "")) or empty.first, last)
    who = posted.get("who", "")[:80]
    called = await request.app[NAMES].called(who) if who and ":" not in who else ()
    return replace(
        empty,
        first=max(first, last - timedelta(days=LONGEST_DAYS)),
        last=last,
        who=who,
        called=tuple(sorted(called)),
        kind=posted.get("kind", "") if posted.get("kind", "") in KINDS else "",
        outcome=posted.get("outcome", "") if posted.get("outcome", "") in OUTCOMES else "",
        study=posted.get("study", "")[:64],
        peer=posted.get("peer", "")[:64],
    )


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _place(text: str) -> Place | None:
    at, _, number = text.partition("_")
    try:
        return Place(float(at), int(number))
    except ValueError:
        return None


def _bars(form: Form, counted: Mapping[tuple[int, str], int], step_s: int) -> list[dict[str, Any]]:
    """One bar for each step of time, with the share of what was refused or failed; in percent."""
    begin = form.question.since or datetime.now(UTC)
    end = form.question.until or datetime.now(UTC)
    first = int(begin.timestamp())
    number = min(-(-int(end.timestamp() - first) // step_s), LONGEST_DAYS + 1)
    steps = [first + place * step_s for place in range(number)]
    sums = [[counted.get((step, one), 0) for one in OUTCOMES] for step in steps]
    most = max((sum(one) for one in sums), default=0) or 1
    return [
        {
            "at": datetime.fromtimestamp(step, UTC).astimezone(),
            "good": 100 * good / most,
            "bad": 100 * (denied + failed) / most,
            "number": good + denied + failed,
        }
        for step, (good, denied, failed) in zip(steps, sums, strict=True)
    ]
