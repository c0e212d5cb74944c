"""Bringing in a workbook of organisations as a job: asking for it, doing it, what came of it."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity.grants.domain import Subject
from identity.grants.service import load_rights
from identity.organisations.service import MANAGE
from identity.organisations.sheet import MOST_BYTES, Report, import_lines, read_lines
from kernel.errors import AppError, Denied, Invalid, NotFound
from kernel.i18n.catalog import LANGUAGES, marked, translate
from kernel.jobs import service as jobs
from kernel.jobs.domain import Job
from kernel.jobs.runner import JobContext
from kernel.scope import Actor, Scope

KIND = "identity.organisations.import"
LOCAL_OWNER = 1
# A page names so many bad cells; whoever has more begins with these.
MOST_ERRORS = 500
_SYSTEM = Scope.system("import of organisations")
_READING = marked("Import of organisations: the workbook is read")
_CHECKING = marked("Import of organisations: every row is checked")
_WRITING = marked("Import of organisations: rows are taken in")


async def ask_import(
    session: AsyncSession, scope: Scope, name: str, content: bytes, *, check_only: bool
) -> int:
    """Let a workbook be checked, or taken in when all of it is good; the number of the job.

    Raises Invalid `sheet.size`.
    """
    if len(content) > MOST_BYTES:
        raise Invalid("sheet.size", "The workbook is too large.")
    args = {
        "account": int(scope.actor.id),
        "file": name[:200],
        "check_only": check_only,
        "workbook": base64.b64encode(content).decode(),
    }
    owner_id = LOCAL_OWNER if scope.home is None else scope.home
    return await jobs.enqueue(session, KIND, args, owner_id, note=_READING)


async def asked_import(session: AsyncSession, account_id: int, job_id: int) -> Job:
    """An import that this person asked for; raises NotFound `job.not_found` for any other job."""
    found = await jobs.get(session, _SYSTEM, job_id)
    if found.kind != KIND or found.args["account"] != account_id:
        raise NotFound("job.not_found", "There is no job {job}.", job=job_id)
    return found


async def do_import(context: JobContext) -> Mapping[str, Any]:
    """The job: what came of it, with errors in every language.

    It is done with the rights that the person has at this moment. Every row is checked before the
    database is locked, and once more with what is written.
    """
    args = context.args
    said = {"file": args["file"], "check_only": args["check_only"]}
    try:
        context.progress(0, None, _READING)
        lines = await asyncio.to_thread(read_lines, base64.b64decode(args["workbook"]))
        total = len(lines)

        def note(done: int) -> None:
            context.progress(done, total, _CHECKING)

        async with context.database.session(_SYSTEM) as session:
            scope = await _scope_of(session, args["account"])
            report = await import_lines(session, scope, lines, dry_run=True, note=note)
        context.check()
        if report.good and not args["check_only"]:
            context.progress(total, total, _WRITING)
            async with context.database.session(scope, write=True) as session:
                report = await import_lines(session, scope, lines)
    except AppError as error:
        if not isinstance(error, Invalid | Denied):
            raise
        return said | {"wrong": _words(error.message, error.fields)}
    context.progress(total, total, _WRITING if report.good else _CHECKING)
    return said | _told(report)


async def _scope_of(session: AsyncSession, account_id: int) -> Scope:
    rights, now = await load_rights(session), time.time()
    subject = Subject("account", account_id)
    owners = rights.owners_for(subject, MANAGE, now)
    if not owners:
        raise Denied("access.denied", "You may not do this.")
    whole = rights.is_at_top(subject, MANAGE, now)
    return Scope(None if whole else owners, Actor("session", str(account_id)), MANAGE)


def _told(report: Report) -> dict[str, Any]:
    return {
        "created": len(report.created),
        "changed": len(report.changed),
        "unchanged": len(report.unchanged),
        "wrong_cells": len(report.errors),
        "errors": [
            {"row": one.row, "column": one.column, **_words(one.error.message, one.error.fields)}
            for one in report.errors[:MOST_ERRORS]
        ],
    }


def _words(message: str, fields: Mapping[str, Any]) -> dict[str, str]:
    return {lang: translate(message, lang, **fields) for lang in LANGUAGES}
