"""The process that draws the demonstration studies and imports them, once for a data folder."""

from __future__ import annotations

import asyncio
import datetime as dt
import shutil

import click

from kernel.settings import Settings
from server.demo.generate import generate
from server.gateway_process import Report
from server.importing import Summary, import_folder


async def run(settings: Settings, stop: asyncio.Event, report: Report) -> None:
    """Draw and import unless that was done; reports when it is over or `stop` came first."""
    marker = settings.data / "demo.loaded"
    if not marker.exists():
        work = asyncio.create_task(_load(settings))
        ended = asyncio.create_task(stop.wait())
        await asyncio.wait([work, ended], return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if not work.done():
            work.cancel()
            return
        marker.write_text(f"{work.result().files}\n")
    report({"address": ""})


async def _load(settings: Settings) -> Summary:
    folder = settings.data / "demo"
    shutil.rmtree(folder, ignore_errors=True)
    day = dt.datetime.now().astimezone().date()
    click.echo("Drawing the demonstration studies …")
    await asyncio.to_thread(generate, folder, day)
    summary = await import_folder(settings, folder, again=True)
    shutil.rmtree(folder)
    return summary
