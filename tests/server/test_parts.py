"""The small parts of the server: guard, heartbeats, metrics text."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from kernel.errors import Denied, Invalid
from kernel.settings import DicomSettings, HttpSettings, Settings
from server.beats import beating, read_beats, remove_dead
from server.guard import LoopbackGuard, refuse_open_doors
from server.metrics import family
from server.web_process import build


class Asked:
    """As much of a request as the guard looks at."""

    def __init__(self, remote: str | None, **headers: str) -> None:
        self.remote = remote
        self.headers = headers


@pytest.mark.parametrize("remote", ["127.0.0.1", "::1", "127.8.9.1"])
async def test_this_machine_is_the_local_owner(remote: str) -> None:
    scope = await LoopbackGuard().authorise(Asked(remote), "archive.study.read")  # type: ignore[arg-type]
    assert scope.covers(1) and not scope.covers(2)
    assert scope.actor.kind == "session"


@pytest.mark.parametrize(
    "asked",
    [
        Asked("192.168.1.7"),
        Asked(None),
        Asked(""),
        Asked("127.0.0.1", **{"X-Forwarded-For": "8.8.8.8"}),
        Asked("127.0.0.1", Forwarded="for=8.8.8.8"),
    ],
)
async def test_others_are_denied_also_behind_a_proxy(asked: Asked) -> None:
    with pytest.raises(Denied, match="this machine"):
        await LoopbackGuard().authorise(asked, "archive.study.read")  # type: ignore[arg-type]


@pytest.mark.parametrize("bind", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.org:1"])
def test_binds_beyond_loopback_are_refused(bind: str) -> None:
    for settings in (Settings(http=HttpSettings(bind)), Settings(dicom=DicomSettings(bind))):
        with pytest.raises(Invalid, match="other machines can reach"):
            refuse_open_doors(settings)


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "localhost:8080", "[::1]:8080"])
def test_loopback_binds_are_allowed(bind: str) -> None:
    refuse_open_doors(Settings(http=HttpSettings(bind), dicom=DicomSettings(bind)))


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
