"""All pages of this folder."""

from __future__ import annotations

from aiohttp import web

from identity.console import access, accounts, applications, clients, organisations, roles
from identity.console.domain import FindStudies
from identity.console.forms import TEMPLATES
from kernel.web.pages import add_templates


def setup(app: web.Application, find_studies: FindStudies) -> None:
    """Add the pages; `identity.pages.routes.setup` has given the resources."""
    add_templates(app, TEMPLATES)
    organisations.setup(app)
    accounts.setup(app)
    access.setup(app, find_studies)
    clients.setup(app)
    applications.setup(app)
    roles.setup(app)
