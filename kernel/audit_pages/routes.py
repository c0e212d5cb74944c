"""All routes of the audit."""

from aiohttp import web

from kernel.audit_pages.fhir import DATABASE, PATH, read_event, search_events
from kernel.audit_pages.pages import (
    NAMES,
    RULES,
    TEMPLATES,
    Names,
    acknowledge_finding,
    audit_page,
    export_lines,
    more_lines,
)
from kernel.audit_rules.domain import Rule
from kernel.db.database import Database
from kernel.web.pages import add_templates


def setup(app: web.Application, database: Database, rules: list[Rule], names: Names) -> None:
    """Add the routes; `rules` give findings their titles, `names` those who acted theirs."""
    app[NAMES] = names
    app[DATABASE] = database
    app[RULES] = {rule.code: rule.title for rule in rules}
    add_templates(app, TEMPLATES)
    number = "/{number:[0-9]{1,18}}"
    app.router.add_get(PATH, search_events)
    app.router.add_get(PATH + number, read_event)
    app.router.add_get("/audit", audit_page)
    app.router.add_post("/audit", audit_page)
    app.router.add_post("/audit/lines", more_lines)
    app.router.add_post("/audit/export", export_lines)
    app.router.add_post("/audit/findings" + number, acknowledge_finding)
