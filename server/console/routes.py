"""Routes of the overview, of jobs and of the module list."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from archive.query.service import Catalog
from identity.guard.service import SELF
from kernel.audit_pages.pages import ACTIONS, ACTOR_KINDS
from kernel.db.database import Database
from kernel.errors import Denied
from kernel.i18n.catalog import marked, translate
from kernel.jobs import service as jobs
from kernel.jobs.domain import JOB_STATES
from kernel.settings import Settings
from kernel.web.guard import requires, scope_of
from kernel.web.language import language_of
from kernel.web.pages import (
    NAVIGATION,
    PERSON,
    add_templates,
    is_fragment,
    navigation_for,
    render,
    see_other,
)
from kernel.web.words import day_of, greeting
from server.console.finder import Finder, Group
from server.console.menu import menu
from server.console.modules import PARTS, STATES, TONES, load_modules, matching
from server.console.overview import Overview, day_names, overview

TEMPLATES = Path(__file__).parent / "templates"
PAGE = 50
DATABASE: web.AppKey[Database] = web.AppKey("console.database", Database)
PEOPLE: web.AppKey[Database] = web.AppKey("console.people", Database)
CATALOG: web.AppKey[Catalog] = web.AppKey("console.catalog", Catalog)
SETTINGS: web.AppKey[Settings] = web.AppKey("console.settings", Settings)
HEALTH_WORDS = {
    "database": marked("Database"),
    "storage": marked("Storage"),
    "gateway": marked("DICOM gateway"),
    "worker": marked("Background work"),
}


def setup(
    app: web.Application,
    settings: Settings,
    database: Database,
    people: Database,
    catalog: Catalog,
) -> None:
    """Add the pages and the menu; `people` is where what is asked of studies runs."""
    app[SETTINGS], app[CATALOG] = settings, catalog
    app[DATABASE], app[PEOPLE] = database, people
    add_templates(app, TEMPLATES)
    app[NAVIGATION].extend(menu())
    app.router.add_get("/", overview_page)
    app.router.add_get("/overview", overview_figures)
    app.router.add_get("/search", search_page)
    app.router.add_post("/search", search_page)
    app.router.add_get("/modules", modules_page)
    app.router.add_post("/modules", modules_page)
    app.router.add_get("/jobs", jobs_page)
    app.router.add_get("/jobs/{job:\\d+}", job_progress)
    app.router.add_post("/jobs/{job:\\d+}/cancel", cancel_job)


@requires(SELF)
async def overview_page(request: web.Request) -> web.Response:
    """GET /: the state of everything that the person may see."""
    return render(request, "server/overview.html", await _overview(request))


@requires(SELF)
async def overview_figures(request: web.Request) -> web.Response:
    """GET /overview: the figures of the overview anew, as a fragment."""
    return render(request, "server/figures.html", await _overview(request))


async def _overview(request: web.Request) -> dict[str, Any]:
    person = request.get(PERSON)
    if person is None:
        raise Denied("access.denied", "You may not do this.")
    now, lang = datetime.now(UTC), language_of(request)
    databases = request.app[DATABASE], request.app[PEOPLE]
    found = await overview(*databases, request.app[SETTINGS], person, now)
    return {
        "found": found,
        "greeting": greeting(now, lang),
        "day": day_of(now, lang),
        "now": now,
        "health_words": HEALTH_WORDS,
        "action_words": ACTIONS,
        "actor_kinds": ACTOR_KINDS,
        "charts": _charts(found, lang),
    }


def _charts(found: Overview, lang: str) -> dict[str, Any]:
    if found.figures is None:
        return {}
    studies = translate("Studies", lang)
    by_modality = dict(list(found.figures.by_modality.items())[:8])

    def chart(kind: str, names: list[str], values: list[int]) -> dict[str, Any]:
        return {"kind": kind, "names": names, "series": [{"name": studies, "values": values}]}

    return {
        "days": chart(
            "columns", day_names(found.figures.by_day), list(found.figures.by_day.values())
        ),
        "modalities": chart(
            "bars", [name or "—" for name in by_modality], list(by_modality.values())
        ),
        "institutions": chart(
            "bars", [name for name, _ in found.institutions], [n for _, n in found.institutions]
        ),
    }


@requires(SELF)
async def search_page(request: web.Request) -> web.Response:
    """GET /search: the search of everything that the person may see; POST finds.

    What is typed is posted, so that nobody's name gets into an address.
    """
    person = request.get(PERSON)
    if person is None:
        raise Denied("access.denied", "You may not do this.")
    form = await request.post() if request.method == "POST" else {}
    text = str(form.get("text", ""))[:100].strip()
    groups: list[Group] = []
    if text:
        finder = Finder(request.app[DATABASE], request.app[CATALOG], language_of(request))
        groups = await finder.find(person, navigation_for(request), text)
    template = "server/found.html" if is_fragment(request) else "server/search.html"
    return render(request, template, {"text": text, "groups": groups})


@requires("system.status.read")
async def modules_page(request: web.Request) -> web.Response:
    """GET /modules: what the tender asks for and what works; POST searches it."""
    form = await request.post() if request.method == "POST" else {}
    text, state, part = (str(form.get(name, "")) for name in ("text", "state", "part"))
    counts = Counter(one.state for one in load_modules())
    context = {
        "modules": matching(text[:100], state, part),
        "text": text,
        "state": state,
        "part": part,
        "counts": counts,
        "all": counts.total(),
        "states": STATES,
        "tones": TONES,
        "parts": PARTS,
        "pages": {item.href: item.label for group in menu() for item in group.items},
    }
    template = "server/module_rows.html" if is_fragment(request) else "server/modules.html"
    return render(request, template, context)


@requires("system.jobs.manage")
async def jobs_page(request: web.Request) -> web.Response:
    """GET /jobs: background work, the newest first; `before` continues the list."""
    before = request.query.get("before", "")
    async with request.app[DATABASE].session(scope_of(request)) as session:
        found = await jobs.listed(
            session,
            scope_of(request),
            before_id=int(before) if before.isascii() and before.isdigit() else None,
            limit=PAGE + 1,
        )
    context = {"jobs": found[:PAGE], "more": len(found) > PAGE, "job_words": JOB_STATES}
    return render(request, "server/jobs.html", context)


@requires("system.jobs.manage")
async def job_progress(request: web.Request) -> web.Response:
    """GET /jobs/{job}: how far one job is, as a fragment that renews itself."""
    async with request.app[DATABASE].session(scope_of(request)) as session:
        found = await jobs.get(session, scope_of(request), int(request.match_info["job"]))
    return render(request, "server/job.html", {"job": found, "job_words": JOB_STATES})


@requires("system.jobs.manage")
async def cancel_job(request: web.Request) -> web.StreamResponse:
    """POST /jobs/{job}/cancel: end a job that waits, ask one that runs to stop."""
    scope = scope_of(request)
    async with request.app[DATABASE].session(scope, write=True) as session:
        await jobs.cancel(session, scope, int(request.match_info["job"]))
    raise see_other("/jobs", marked("The job was told to stop."))
