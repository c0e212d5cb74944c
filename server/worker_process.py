"""The process that works behind the scenes: settling, decisions, recovery, audit, events, jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from archive.decisions.service import Desk
from archive.journal.spares import keep_spares
from archive.query.service import Catalog
from archive.receive.recovery import recover
from archive.settle.service import Settler
from archive.settle.sweep import keep_sweeping
from archive.store.service import open_stores
from archive.versions.service import Policies, compare_pending
from gateway.ae.service import AeDirectory
from identity.authorisations.service import forget_old as forget_old_tokens
from identity.citizens.service import Citizens
from identity.provider.service import LOGOUT_JOB, Provider
from identity.sessions.service import ENDED, forget_old_sessions
from identity.signing_keys.service import keep_rotating
from identity.workbooks import service as workbooks
from kernel.audit.intake import keep_taking_in
from kernel.audit.retention import keep_retiring
from kernel.audit.seal import keep_sealing
from kernel.audit_messages.sender import keep_sending
from kernel.audit_rules.domain import read_rules
from kernel.audit_rules.service import keep_looking
from kernel.db.database import Database
from kernel.errors import AppError
from kernel.events.dispatcher import Dispatcher
from kernel.jobs.runner import JobHandler, Jobs
from kernel.notify.service import SEND_JOB, open_outbox
from kernel.scope import Scope
from kernel.sealing.service import open_sealer
from kernel.settings import Settings
from server.audit_facts import People
from server.beats import beating
from server.gateway_process import Report

RECOVER_EVERY_S, COMPARE_EVERY_S, DECIDE_EVERY_S, FORGET_EVERY_S = 10.0, 2.0, 5.0, 3600.0

# What runs in the background when somebody asks for it, by kind.
JOBS: Mapping[str, JobHandler] = {workbooks.KIND: workbooks.do_import}

log = structlog.get_logger(__name__)


async def run(settings: Settings, stop: asyncio.Event, report: Report) -> None:
    """Work until `stop`. A part that fails unexpectedly ends the process; it is started again."""
    async with AsyncExitStack() as stack:
        database = await Database.open(settings)
        stack.push_async_callback(database.close)
        stores = open_stores(settings)
        settler = Settler(settings, database, stores)
        desk = Desk(database, stores, settler)
        policies = Policies(desk, AeDirectory(database).same_uid_of)
        rules = read_rules(Path(settings.audit.rules) if settings.audit.rules else None)
        sealer = await asyncio.to_thread(open_sealer, settings)
        signing_in = Provider(database, sealer, settings.sso)
        outbox = open_outbox(settings.sms, database, sealer)
        citizens = Citizens(database, sealer, outbox, settings.citizens)
        dispatcher = Dispatcher(database)
        dispatcher.subscribe("sso", [ENDED], signing_in.session_ended)
        parts: list[Awaitable[None]] = [
            settler.run(),
            dispatcher.run(),
            Jobs(
                database,
                {**JOBS, LOGOUT_JOB: signing_in.tell_logout, SEND_JOB: outbox.send},
                slots=4,
            ).run(),
            keep_rotating(database, sealer, settings.sso.key_days),
            keep_taking_in(database),
            keep_sealing(database),
            keep_retiring(settings),
            keep_sending(database),
            keep_looking(database, rules, People(database, await Catalog.open(database))),
            keep_spares(settings),
            _repeat("recover", RECOVER_EVERY_S, lambda: recover(settings, database)),
            _repeat(
                "compare", COMPARE_EVERY_S, lambda: compare_pending(database, stores, policies)
            ),
            _repeat("forget", FORGET_EVERY_S, lambda: _forget(database, citizens)),
            _repeat("decide", DECIDE_EVERY_S, desk.finish),
            keep_sweeping(settings, database, stores),
        ]
        await stack.enter_async_context(beating(settings, "worker"))
        report({"address": ""})
        await _until(stop, parts)


async def _forget(database: Database, citizens: Citizens) -> None:
    """Delete what was kept for a while only: codes, tokens and sessions that are long over."""
    await citizens.forget_old()
    async with database.session(Scope.system("forget"), write=True) as session:
        await forget_old_tokens(session)
        await forget_old_sessions(session)


async def _until(stop: asyncio.Event, parts: list[Awaitable[None]]) -> None:
    """Run every part until `stop`; raises what the first failing part raised."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    ended = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {ended}:
            task.result()
    finally:
        for one in [ended, *tasks]:
            one.cancel()
        await asyncio.gather(ended, *tasks, return_exceptions=True)


async def _repeat(name: str, every_s: float, work: Callable[[], Awaitable[object]]) -> None:
    """Do `work` again and again; what is unavailable now is tried again later."""
    while True:
        try:
            await work()
        except (AppError, OSError) as error:
            log.warning("worker.postponed", part=name, why=str(error))
        await asyncio.sleep(every_s)
