"""`yunying audit`: is the audit as it was written?"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from server.command import Where, settings_options, with_database
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
