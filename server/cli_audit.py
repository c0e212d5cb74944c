"""`yunying audit`: is the audit as it was written?"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from server.command import SCOPE, Where, ready, settings_options, with_database
from server.progress import Shown

if TYPE_CHECKING:
    from kernel.audit.verify import Walked
    from kernel.db.database import Database
    from kernel.ledger.domain import Finding
    from kernel.settings import Settings


@click.group()
def audit() -> None:
    """The record of who did what."""


@audit.command()
@settings_options
def verify(where: Where) -> None:
    """Walk the chain of the audit and name every row that was changed, removed or put in.

    Exit code 1 when there is one. Works while the servers run.
    """
    from kernel.audit.verify import Walked
    from kernel.audit.verify import verify as walk

    shown = Shown("Checking")

    async def work(_: Settings, database: Database) -> tuple[int, Walked | None]:
        wrong, walked = 0, None
        async for one in walk(database, lambda done, total: shown.show(done, total, "")):
            if isinstance(one, Walked):
                walked = one
            else:
                wrong += 1
                shown.end()
                click.echo(_sentence(one))
        return wrong, walked

    wrong, walked = with_database(where, work)
    shown.end()
    if walked is not None:
        _say_walked(walked)
    if wrong:
        click.echo(click.style(f"{wrong} findings: the audit was tampered with.", fg="red"))
        sys.exit(1)
    click.echo("Every row is as it was sealed.")


def _say_walked(walked: Walked) -> None:
    click.echo(f"{max(0, walked.last - walked.first + 1)} rows checked, number {walked.first} on.")
    if walked.unsealed:
        click.echo(f"{walked.unsealed} rows are not sealed yet (the worker seals them).")
    if walked.last and not walked.heads:
        click.echo(
            "No head is kept on this machine: rows cut off at the end would not be noticed here."
        )


def _sentence(finding: Finding) -> str:
    row = f"row {finding.ref} (number {finding.seq}{_when(finding.at)})"
    numbers = f"number {finding.seq}"
    if finding.last is not None and finding.last != finding.seq:
        numbers = f"numbers {finding.seq} to {finding.last}"
    words = {
        "row_changed": f"CHANGED   {row}: differs in {', '.join(finding.fields)}",
        "row_missing": f"MISSING   row {finding.ref} (number {finding.seq}, sealed"
        f"{_when(finding.at).lstrip(',')}): it was deleted",
        "row_inserted": f"INSERTED  {row}: it was never sealed",
        "entry_changed": f"CHAIN     {numbers}: the link was altered (row {finding.ref})",
        "entry_missing": f"CHAIN     {numbers}: links are missing",
        "end_missing": f"CUT OFF   {numbers}: removed at the end; a later head is kept here",
        "rewritten": f"REWRITTEN {numbers}: the chain does not lead to the head kept here",
        "volume_missing": f"FILE      {numbers}: not in the table and in no intact sealed file"
        f" {finding.ref}".rstrip(),
    }
    return words[finding.kind]


def _when(at: float | None) -> str:
    if at is None:
        return ""
    try:
        return f", {datetime.fromtimestamp(at, UTC).isoformat(timespec='seconds')}"
    except (ValueError, OverflowError, OSError):
        return f", time {at}"


@audit.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--since", type=click.DateTime(), help="From this day or moment on (local time).")
@click.option("--until", type=click.DateTime(), help="Up to, not including, this one.")
@click.option("--csv", "as_csv", is_flag=True, help="For a spreadsheet, without proof.")
@settings_options
def export(
    where: Where, file: Path, since: datetime | None, until: datetime | None, as_csv: bool
) -> None:
    """Write the audit into FILE: JSON lines that prove themselves, or CSV. This is audited too."""
    from kernel.audit.domain import AuditRecord
    from kernel.audit.export import csv_lines, proven_lines
    from kernel.audit.search import Question
    from kernel.audit.service import append
    from kernel.errors import Conflict

    question = Question(
        since.astimezone() if since else None, until.astimezone() if until else None
    )

    async def work(_: Settings, database: Database) -> None:
        lines = (csv_lines if as_csv else proven_lines)(database, SCOPE, question)
        with file.open("xb") as opened:
            async for line in lines:
                opened.write(line)
        record = AuditRecord(SCOPE.actor, "system.audit.export", "ok", detail={"csv": as_csv})
        async with database.session(SCOPE, write=True) as session:
            await append(session, record)

    if file.exists():
        raise Conflict("audit.file_exists", "There is a file {name} already.", name=file.name)
    with_database(where, work)
    click.echo(f"{file} was written.")


@audit.command(name="check-file")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def check_file(file: Path) -> None:
    """Check a sealed file or an export by itself, without a database. Exit code 1 where wrong."""
    import gzip

    from kernel.audit.volumes import read_lines
    from kernel.ledger.domain import Finding

    wrong = 0
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
            for one in read_lines(iter(opened)):
                if isinstance(one, Finding):
                    wrong += 1
                    click.echo(_sentence(one))
                else:
                    click.echo(f"The file leads to number {one.seq}, hash {one.hash.hex()}.")
    except (OSError, ValueError, KeyError, EOFError) as error:
        click.echo(f"{file} cannot be read as a file of audit lines: {error!r}", err=True)
        sys.exit(1)
    if wrong:
        sys.exit(1)
    click.echo("Every line is as it was sealed.")


@audit.command()
@click.option("--days", default=183, show_default=True, help="Rows older than this many days.")
@settings_options
def retire(where: Where, days: int) -> None:
    """Move old rows into sealed files in the folder ledger. The chain stays verifiable."""
    from kernel.audit.retention import retire as move

    click.echo(f"{asyncio.run(move(ready(where), days))} rows were moved.")
