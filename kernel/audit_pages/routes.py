"""All routes of the audit."""

from aiohttp import web

from kernel.audit_pages.fhir import DATABASE, PATH, read_event, search_events
from kernel.db.database import Database


def setup(app: web.Application, database: Database) -> None:
    """Add the routes; needs `kernel.web.app.make_app` before."""
    app[DATABASE] = database
    app.router.add_get(PATH, search_events)
    app.router.add_get(PATH + "/{number:[0-9]{1,18}}", read_event)
