"""The process that answers HTTP: DICOMweb, pages, health and metrics."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp import web

from archive.decisions.service import Desk
from archive.query.service import Catalog
from archive.receive.service import Receiver
from archive.retrieve.service import Reader
from dicomweb import routes as dicomweb
from dicomweb.browse import routes as browse
from gateway.ae import routes as nodes
from gateway.ae.routes import Nodes
from gateway.echo.service import asker
from identity.citizens import routes as residents
from identity.citizens.service import Citizens
from identity.console import routes as administration
from identity.guard.keeper import Keeper
from identity.guard.service import IdentityGuard
from identity.pages import elsewhere
from identity.pages import routes as signing_in
from identity.pages.routes import Identity
from identity.provider import routes as provider
from identity.provider.service import Provider
from identity.sign_in.service import SignIn
from identity.upstream.service import Upstream
from kernel.audit.trail import AuditTrail
from kernel.audit_pages import routes as audit_pages
from kernel.audit_rules.domain import read_rules
from kernel.db.database import Database, is_sqlite
from kernel.errors import Unavailable
from kernel.notify import routes as messages
from kernel.notify.service import open_outbox
from kernel.sealing.service import open_sealer
from kernel.settings import Settings, split_address
from kernel.web.app import make_app
from kernel.web.guard import AUDIT, GUARD
from server import health, metrics
from server.beats import beating
from server.console import routes as console
from server.console.studies import ActorNames, place_names, study_finder
from server.gateway_process import Report
from server.internal import serve_internal

SHUTDOWN_S = 3.0


async def run(settings: Settings, stop: asyncio.Event, report: Report) -> None:
    """Serve HTTP until `stop`."""
    async with AsyncExitStack() as stack:
        app = await build(settings, stack)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        host, port = split_address(settings.http.bind)
        site = web.TCPSite(runner, host, port, reuse_port=settings.http.processes > 1 or None)
        try:
            await site.start()
        except OSError as error:
            raise Unavailable(
                "web.address",
                "The web server cannot listen on {bind}: {why}.",
                bind=settings.http.bind,
                why=error.strerror or str(error),
            ) from error
        host, port = runner.addresses[0][:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if settings.internal.bind:
            await serve_internal(settings, app[health.DATABASE], stack)
        await stack.enter_async_context(beating(settings, "web", address, app[metrics.COUNTS].beat))
        report({"address": address})
        await stop.wait()


async def build(settings: Settings, stack: AsyncExitStack) -> web.Application:
    """The whole web application with its resources, which `stack` closes."""
    database = await Database.open(settings)
    stack.push_async_callback(database.close)
    people = await _people(settings, database, stack)
    receiver = await Receiver.open(settings, people)
    stack.push_async_callback(receiver.close)
    reader = await Reader.open(settings, people)
    stack.push_async_callback(reader.close)
    catalog = await Catalog.open(people)
    desk = await Desk.open(settings, database, people)
    trail = AuditTrail.open(settings)
    stack.callback(trail.close)
    app = make_app(settings)
    keeper = await Keeper.open(database)
    stack.push_async_callback(keeper.close)
    guard = IdentityGuard(keeper, settings.access, citizen_idle_s=settings.citizens.session_idle_s)
    app[GUARD] = guard
    app[AUDIT] = trail
    dicomweb.setup(app, receiver=receiver, reader=reader, catalog=catalog, desk=desk)
    browse.setup(app)
    sealer = await asyncio.to_thread(open_sealer, settings)
    upstream = (
        Upstream(database, sealer, settings.sso, settings.access.session_s)
        if settings.sso.upstream_issuer
        else None
    )
    sign_in = SignIn(database, settings.access)
    signing_in.setup(app, Identity(database, sign_in, guard, upstream))
    elsewhere.setup(app)
    provider.setup(app, Provider(database, sealer, settings.sso))
    outbox = open_outbox(settings.sms, database, sealer)
    messages.setup(app, outbox)
    residents.setup(app, Citizens(database, sealer, outbox, settings.citizens))
    rules = read_rules(Path(settings.audit.rules) if settings.audit.rules else None)
    audit_pages.setup(app, database, rules, ActorNames(database))
    # Whose a study is, is asked across owners.
    administration.setup(app, study_finder(Catalog(database)))
    nodes.setup(app, Nodes(database, asker(settings.dicom.ae_title), place_names(database)))
    console.setup(app, settings, database, people, catalog)
    health.setup(app, settings, database)
    metrics.setup(app, settings)
    return app


async def _people(settings: Settings, database: Database, stack: AsyncExitStack) -> Database:
    """Where what is done for people runs: on PostgreSQL as role yy_app, whom row-level security
    shows nothing beyond a transaction's owners. Accounts and rights stay with the system's role.
    """
    if is_sqlite(settings):
        return database
    people = await Database.open(settings, "app")
    stack.push_async_callback(people.close)
    return people
