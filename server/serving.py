"""`yunying serve`: one data folder, its database brought up to date, its processes supervised."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import click

from kernel.errors import Conflict
from kernel.settings import Settings
from server.activity import note_activity
from server.beats import beating
from server.folder import create_folder
from server.guard import beyond_loopback, prepare_accounts, refuse_open_doors
from server.migrations.run import upgrade
from server.supervisor import Supervisor, launch, until_signal

ROLES = ("gateway", "web", "worker")


def roles_of(choice: str, settings: Settings) -> list[str]:
    """The processes to run for ``--role``, the web as often as the settings say."""
    chosen = list(ROLES) if choice == "all" else [choice]
    return [role for role in chosen for _ in range(settings.http.processes if role == "web" else 1)]


async def serve(
    settings: Settings, wanted: Mapping[str, Any], roles: Sequence[str], *, demo: bool
) -> int:
    """Run `roles` until Ctrl-C or SIGTERM; the exit code.

    Raises Invalid for settings that cannot be, Conflict `serve.runs_already`, Unavailable when a
    process cannot start.
    """
    beyond_loopback(settings)  # an address that cannot be is said before anything is made
    create_folder(settings)
    with _alone(settings, roles):
        await upgrade(settings)
        _say_password(await prepare_accounts(settings))
        await refuse_open_doors(settings)
        told = asyncio.ensure_future(until_signal())
        supervisor = Supervisor(roles, wanted)
        starting = asyncio.ensure_future(supervisor.start())
        try:
            await asyncio.wait([told, starting], return_when=asyncio.FIRST_COMPLETED)
            if not told.done():
                await starting
                async with beating(settings, "supervisor", numbers=supervisor.numbers):
                    await note_activity(settings, "system.start", roles)
                    _say_ready(settings, supervisor)
                    await _serve_until(told, wanted if demo else None)
        finally:
            if not starting.done():
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
            await supervisor.stop()
        await note_activity(settings, "system.stop", roles)
    click.echo("Stopped.")
    return 0


async def _serve_until(told: asyncio.Future[Any], demo: Mapping[str, Any] | None) -> None:
    loading = asyncio.create_task(_load_demo(demo)) if demo is not None else None
    await told
    if loading is not None:
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)


async def _load_demo(wanted: Mapping[str, Any]) -> None:
    process, message = await launch("demo", wanted, within_s=600)
    await process.wait()
    if "address" in message:
        click.echo(
            "The demonstration studies are here. Try to search 龙, shan or lgq in the browser."
        )
    else:
        click.echo(f"No demonstration studies: {message.get('message', 'see the log')}", err=True)


def _say_password(password: str | None) -> None:
    if password is not None:
        click.echo("The account admin was made. Its password is shown this once:")
        click.echo(f"  {password}")
        click.echo(
            "It must be changed at the first sign-in, and before other machines are answered."
        )


def _say_ready(settings: Settings, supervisor: Supervisor) -> None:
    web, dicom = supervisor.address("web"), supervisor.address("gateway")
    click.echo("Yunying 云影 is ready.")
    if web:
        click.echo(f"  Web      http://{web}/            DICOMweb http://{web}/dicom-web")
    if dicom:
        click.echo(f"  DICOM    {settings.dicom.ae_title} at {dicom}")
    click.echo(f"  Data     {settings.data}")
    click.echo("  Ctrl-C ends.")


@contextlib.contextmanager
def _alone(settings: Settings, roles: Sequence[str]) -> Iterator[None]:
    """Hold a lock for each role, so that no second one of its kind works on the folder."""
    with contextlib.ExitStack() as stack:
        for role in dict.fromkeys(roles):
            file = stack.enter_context((settings.data / "run" / f"{role}.lock").open("a+"))
            _lock(file, settings.data)
        yield


def _lock(file: IO[str], data: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        raise Conflict(
            "serve.runs_already",
            "Another yunying serve (process {pid}) works on {folder}. End it, or give --data.",
            pid=file.read().strip() or "?",
            folder=str(data),
        ) from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
