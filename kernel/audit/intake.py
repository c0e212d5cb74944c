"""Moving the lines of the audit files into the audit table, each exactly once."""

import asyncio
import fcntl
import os
from pathlib import Path

import structlog
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from kernel.audit.domain import AuditRecord
from kernel.audit.service import take_in
from kernel.audit.tables import audit_file
from kernel.audit.trail import trail_folder
from kernel.audit.wire import from_line
from kernel.db.database import Database
from kernel.db.statement import Statement
from kernel.errors import AppError, Invalid
from kernel.scope import Actor, Scope

_SCOPE = Scope.system("audit")
_OFFSETS = Statement(select(audit_file.c.name, audit_file.c.offset))
_LINES_AT_ONCE = 200
_READ_BYTES = 256 * 1024

log = structlog.get_logger(__name__)


async def take_in_files(database: Database) -> int:
    """Take in every complete line of this machine's audit files; how many lines.

    How far a file was taken in is committed with its lines, so a crash repeats and loses nothing.
    A file is deleted once it was taken in and its process is gone.
    """
    offsets = dict(await database.fetch(_OFFSETS, {}))
    count = 0
    for file, size in await asyncio.to_thread(_files, trail_folder(database.settings)):
        if size > offsets.get(file.name, 0):
            count += await _take_in_all(database, file)
        if await asyncio.to_thread(_is_left, file):
            count += await _finish(database, file)
    return count


async def keep_taking_in(database: Database, every_s: float = 2.0) -> None:
    """`take_in_files` again and again, until cancelled."""
    while True:
        try:
            await take_in_files(database)
        except (SQLAlchemyError, AppError, OSError):
            log.exception("audit.intake_failed")
        await asyncio.sleep(every_s)


def _files(folder: Path) -> list[tuple[Path, int]]:
    if not folder.is_dir():
        return []
    return [(file, file.stat().st_size) for file in sorted(folder.glob("*.log"))]


async def _take_in_all(database: Database, file: Path) -> int:
    count = 0
    while taken := await _take_in_piece(database, file):
        count += taken
    return count


async def _take_in_piece(database: Database, file: Path) -> int:
    async with database.session(_SCOPE, write=True) as session:
        offset = await _offset(session, file)
        lines = await asyncio.to_thread(_read, file, offset)
        if lines:
            await take_in(session, [_record(file, line) for line in lines])
            await session.execute(
                update(audit_file)
                .where(audit_file.c.name == file.name)
                .values(offset=offset + sum(len(line) + 1 for line in lines))
            )
    return len(lines)


async def _offset(session: AsyncSession, file: Path) -> int:
    known = select(audit_file.c.offset).where(audit_file.c.name == file.name).with_for_update()
    offset: int | None = await session.scalar(known)
    if offset is None:
        await session.execute(insert(audit_file), {"name": file.name, "offset": 0})
    return offset or 0


def _read(file: Path, offset: int) -> list[bytes]:
    with file.open("rb") as opened:
        opened.seek(offset)
        data = opened.read(_READ_BYTES)
        if data and b"\n" not in data:
            data += opened.readline()
    return data[: data.rfind(b"\n") + 1].split(b"\n")[:-1][:_LINES_AT_ONCE]


def _record(file: Path, line: bytes) -> AuditRecord:
    try:
        return from_line(line)
    except Invalid:
        log.exception("audit.damaged_line", file=file.name)
        return AuditRecord(
            Actor("system", "audit"), "audit.damaged_line", "failed", detail={"file": file.name}
        )


def _is_left(file: Path) -> bool:
    """Whether the process that wrote it has ended or gone on to another file."""
    opened = os.open(file, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(opened)
    return True


async def _finish(database: Database, file: Path) -> int:
    """Take in what came before its process let go, then delete it; a torn last line is lost."""
    count = await _take_in_all(database, file)
    await asyncio.to_thread(file.unlink)
    async with database.session(_SCOPE, write=True) as session:
        await session.execute(delete(audit_file).where(audit_file.c.name == file.name))
    return count
