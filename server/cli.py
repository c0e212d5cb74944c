"""The command line `yunying`. Every command takes ``--data DIR`` or ``--config FILE``.

A command imports what it needs when it runs: starting fast is a feature of a command line.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kernel.log import configure
from kernel.settings import Settings
from server.cli_access import token, user
from server.cli_audit import audit
from server.cli_sso import sso
from server.cli_studies import patient, study
from server.command import (
    SCOPE,
    Where,
    configure_quietly,
    ready,
    run_in_words,
    settings_options,
    where_from,
    with_database,
)
from server.progress import Shown

if TYPE_CHECKING:
    from archive.scrub.domain import DamagedFile
    from gateway.ae.domain import Ae
    from kernel.db.database import Database
    from server.importing import Summary


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="yunying")
def main() -> None:
    """Yunying 云影: a regional imaging cloud."""


main.add_command(study)
main.add_command(patient)
main.add_command(user)
main.add_command(token)
main.add_command(audit)
main.add_command(sso)


@main.command()
@click.option("--http", metavar="HOST:PORT", help="Web server (default: 127.0.0.1:8080).")
@click.option("--dicom", metavar="HOST:PORT", help="DICOM server (default: 127.0.0.1:11112).")
@click.option("--ae-title", metavar="AET", help="Our AE title (default: YUNYING).")
@click.option("--internal", metavar="HOST:PORT", help="Where other nodes read (default: nowhere).")
@click.option("--role", type=click.Choice(["all", "gateway", "web", "worker"]), default="all")
@click.option("--demo", is_flag=True, help="Load demonstration studies once.")
@click.option("--data", metavar="DIR", help="Data folder (default: var).")
@click.option(
    "--config", type=click.Path(dir_okay=False, path_type=Path), help="Settings file (TOML)."
)
def serve(role: str, demo: bool, config: Path | None, **options: str | None) -> None:
    """Run Yunying until Ctrl-C."""
    from server import serving

    names = {
        "data": "data",
        "http": "http.bind",
        "dicom": "dicom.bind",
        "ae_title": "dicom.ae_title",
        "internal": "internal.bind",
    }

    def work() -> None:
        wanted = {names[option]: value for option, value in options.items()}
        if demo:
            wanted["sms.show_texts"] = "true"
        where = where_from(config, wanted)
        configure(where.settings)
        roles = serving.roles_of(role, where.settings)
        sys.exit(asyncio.run(serving.serve(where.settings, where.wanted, roles, demo=demo)))

    run_in_words(work)


@main.command(name="import")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--owner", "owner_id", default=1, help="Number of the institution that owns them.")
@click.option("--again", is_flag=True, help="Read files again that were imported before.")
@settings_options
def import_(where: Where, folder: Path, owner_id: int, again: bool) -> None:
    """Store every DICOM file below FOLDER. Works while the servers run, and can be repeated.

    Exit code 1 when a file was refused.
    """
    from server.importing import import_folder

    settings = ready(where)
    shown = Shown("Importing")

    def show(summary: Summary, total: int) -> None:
        shown.show(summary.files, total, "")

    work = import_folder(settings, folder, owner_id=owner_id, again=again, progress=show)
    try:
        summary = asyncio.run(work)
    finally:
        shown.end()
    _say_summary(summary)
    if summary.refused:
        sys.exit(1)


@main.command()
@settings_options
def check(where: Where) -> None:
    """Test this installation and say in plain words what is wrong. Exit code 1 on a failure."""
    from server import checking

    configure_quietly(where.settings)
    failed = False
    for finding in asyncio.run(checking.check(where.settings)):
        mark = {
            "ok": click.style("ok     ", fg="green"),
            "warn": click.style("warning", fg="yellow"),
        }
        click.echo(f"{mark.get(finding.state, click.style('FAILED ', fg='red'))}  {finding.text}")
        failed |= finding.state == "fail"
    if failed:
        sys.exit(1)


@main.command()
@settings_options
def scrub(where: Where) -> None:
    """Read everything that is stored back and compare checksums. Exit code 1 where one is wrong.

    Intact files of a damaged pack are moved to a new one. Works while the servers run.
    """
    from archive.scrub.service import scrub as read_back

    shown = Shown("Reading back")
    try:
        report = with_database(
            where, lambda settings, database: read_back(settings, database, shown.show)
        )
    finally:
        shown.end()
    click.echo(
        f"{report.files} files in {report.packs} packs and {report.segments} segments"
        f" ({report.bytes / (1 << 20):.0f} MiB) read back: {len(report.damaged)} damaged,"
        f" {len(report.objects)} objects damaged or missing, {len(report.unknown)} unknown"
    )
    _say_damage(report.objects, report.damaged)
    for thing in report.unknown:
        click.echo(f"  unknown to the index, left alone: {thing.key} ({thing.size} bytes)")
    if report.moved or report.renewed:
        click.echo(f"  {report.moved} files moved, {report.renewed} metadata objects renewed")
    if not report.good:
        sys.exit(1)


@main.command(name="rebuild-index")
@settings_options
def rebuild_index(where: Where) -> None:
    """Add to the index what the object store and the journal hold and it lacks.

    For a database that was lost: start with an empty one. Exit code 1 where something is damaged.
    """
    from archive.rebuild.service import rebuild_index as rebuild

    shown = Shown("Rebuilding")
    try:
        report = with_database(
            where, lambda settings, database: rebuild(settings, database, shown.show)
        )
    finally:
        shown.end()
    click.echo(
        f"{report.instances} instances of {report.packs} packs and {report.records} records of the"
        f" journal indexed, {report.versions} versions, {report.quarantined} kept aside,"
        f" {report.decisions} decisions, {report.deleted} deletions; {report.known} objects were"
        " known"
    )
    _say_damage(report.objects, report.damaged)
    if report.owners:
        click.echo(f"  institutions without a name: {', '.join(map(str, report.owners))}")
    if not report.good:
        sys.exit(1)


@main.group()
def ae() -> None:
    """DICOM nodes that may ask us to send to them (C-MOVE), and whose data is whose."""


@ae.command()
@click.argument("title")
@click.argument("host")
@click.argument("port", type=click.IntRange(1, 65535))
@click.option("--owner", "owner_id", default=1, help="Institution that owns what it sends.")
@click.option("--charset", default="", help="Character set of answers to it, as in (0008,0005).")
@click.option(
    "--same-uid",
    default="first",
    help="What is shown when it sends another data set under a known UID: first, last, or"
    " last_same_patient (where the patient agrees). Both are kept.",
)
@settings_options
def add(where: Where, title: str, host: str, port: int, **more: Any) -> None:
    """Register the node TITLE at HOST PORT."""
    from gateway.ae.service import add_ae

    async def work(_: Settings, database: Database) -> None:
        async with database.session(SCOPE, write=True) as session:
            await add_ae(session, title, host, port, **more)

    with_database(where, work)
    click.echo(f"{title} is registered.")


@ae.command(name="list")
@settings_options
def list_(where: Where) -> None:
    """List the registered nodes."""
    from gateway.ae.service import list_aes

    async def work(_: Settings, database: Database) -> list[Ae]:
        async with database.session(SCOPE) as session:
            return await list_aes(session)

    nodes = with_database(where, work)
    if not nodes:
        click.echo("No node is registered: yunying ae add TITLE HOST PORT")
    for one in nodes:
        click.echo(
            f"{one.title:16}  {one.host}:{one.port}  owner {one.owner_id}  same UID {one.same_uid}"
            f"  {one.charset}".rstrip()
        )


@ae.command()
@click.argument("title")
@settings_options
def remove(where: Where, title: str) -> None:
    """Forget the node TITLE; what it sent stays."""
    from gateway.ae.service import remove_ae

    async def work(_: Settings, database: Database) -> None:
        async with database.session(SCOPE, write=True) as session:
            await remove_ae(session, title)

    with_database(where, work)
    click.echo(f"{title} is forgotten.")


def _say_damage(objects: Iterable[tuple[str, str]], damaged: Iterable[DamagedFile]) -> None:
    for key, why in objects:
        click.echo(f"  object {key}: {why}")
    for file in damaged:
        click.echo(f"  {file.kind} {file.sop_instance_uid} in {file.key}: {file.why}")


def _say_summary(summary: Summary) -> None:
    click.echo(
        f"{summary.files} files: {summary.stored} stored, {summary.duplicate} duplicate,"
        f" {summary.before} imported before, {summary.refused.total()} refused,"
        f" {summary.skipped.total()} skipped"
    )
    for title, reasons in (("refused", summary.refused), ("skipped", summary.skipped)):
        for why, number in reasons.most_common():
            click.echo(f"  {title} {number}: {why} (for example {summary.examples[why]})")


if __name__ == "__main__":
    main()
