"""The small parts of the server: doors, heartbeats, metrics text."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from identity.sign_in.service import SignIn, Visitor
from kernel.db.database import Database
from kernel.errors import Invalid
from kernel.settings import DicomSettings, HttpSettings, Settings
from server.beats import beating, read_beats, remove_dead
from server.guard import prepare_accounts, refuse_open_doors
from server.metrics import family
from server.web_process import build


@pytest.mark.parametrize("bind", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.org:1"])
async def test_other_machines_are_answered_once_the_first_password_was_changed(
    settings: Settings, bind: str
) -> None:
    password = await prepare_accounts(settings)
    assert password is not None and await prepare_accounts(settings) is None
    wide = replace(settings, http=HttpSettings(bind))
    for closed in (wide, replace(settings, dicom=DicomSettings(bind))):
        with pytest.raises(Invalid, match="other machines can reach") as caught:
            await refuse_open_doors(closed)
        assert caught.value.code == "serve.beyond_loopback"
    database = await Database.open(settings)
    try:
        sign_in = SignIn(database, settings.access)
        visitor = Visitor("127.0.0.1", "")
        begun = await sign_in.with_password("admin", password, visitor)
        person = begun.session.account_id
        await sign_in.change_password(person, password, "Lusheng-42-pipes", visitor)
    finally:
        await database.close()
    await refuse_open_doors(wide)


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "localhost:8080", "[::1]:8080"])
async def test_loopback_binds_are_allowed(bind: str) -> None:
    await refuse_open_doors(Settings(http=HttpSettings(bind), dicom=DicomSettings(bind)))


async def test_a_heartbeat_lasts_as_long_as_its_process(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    async with beating(settings, "worker", "here:1", lambda: {"n": 2.0}):
        (beat,) = read_beats(settings)
        assert (beat.role, beat.pid, beat.address) == ("worker", os.getpid(), "here:1")
        assert beat.alive and beat.numbers == {"n": 2.0}
    assert read_beats(settings) == []


async def test_heartbeats_of_dead_processes_are_forgotten(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    async with beating(settings, "web"):
        file = next((tmp_path / "run" / "beats").iterdir())
        ended = await asyncio.create_subprocess_exec("true")
        await ended.wait()
        text = file.read_text().replace(str(os.getpid()), str(ended.pid))
        (file.parent / f"web-{ended.pid}.json").write_text(text)
        assert [beat.alive for beat in read_beats(settings)].count(True) == 1
        remove_dead(settings)
        assert len(read_beats(settings)) == 1


def test_metric_labels_are_escaped() -> None:
    lines = list(family("m", "gauge", "Words.", [({"l": 'a"b\\c\nd'}, 1.5), ({}, 2.0)]))
    assert lines == ["# HELP m Words.", "# TYPE m gauge", 'm{l="a\\"b\\\\c\\nd"} 1.5', "m 2.0"]


async def test_health_without_a_supervisor_expects_no_other_process(settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        app = await build(settings, stack)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        async with (
            aiohttp.ClientSession() as client,
            client.get(f"http://127.0.0.1:{port}/healthz") as answer,
        ):
            assert answer.status == 200
            body = await answer.json()
    assert body["gateway"] == body["worker"] == {"status": "not here"}
