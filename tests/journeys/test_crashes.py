"""Any process may be killed at any moment of an import: nothing that was acknowledged is lost."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from dataset.part10 import file_head, parse_head
from tests.archive.material import Made, make
from tests.conftest import ROOT
from tests.gateway.peer import CT, ELE, Aborted, Peer, Refused
from tests.server.running import YUNYING, Running, environment, serve
from tests.waiting import eventually

VICTIMS = ("gateway", "web", "worker", "import")
FOLDER_FILES = 1200
BACK_S = 60.0
BROKEN = (OSError, EOFError, asyncio.IncompleteReadError, Aborted, Refused, aiohttp.ClientError)
# What arrives by each door is a study of its own, so that numbers never meet.
BY_DIMSE, BY_STOW, BY_IMPORT = 1, 2, 100


@pytest.mark.timeout(400)
async def test_nothing_acknowledged_is_lost_when_processes_are_killed(tmp_path: Path) -> None:
    await _kill_and_look(tmp_path, kills=5, seed=7)


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_twenty_kills_lose_nothing(tmp_path: Path, seed: int) -> None:
    await _kill_and_look(tmp_path, kills=20, seed=seed)


async def _kill_and_look(folder: Path, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    acknowledged: dict[str, Made] = {}
    killed: Counter[str] = Counter()
    with serve(folder) as server:
        importer = Importer(folder, server.data)
        async with _sending(_by_dimse(server, acknowledged), _by_stow(server, acknowledged)):
            for n in range(kills):
                victim = VICTIMS[n % 4] if n < 4 else rng.choice(VICTIMS)
                await importer.begin_where_idle()
                await asyncio.sleep(rng.uniform(0.05, 0.9))
                await (importer.kill() if victim == "import" else _kill(server, victim))
                killed[victim] += 1
            before = len(acknowledged)
            await eventually(lambda: _more(acknowledged, before + 20), BACK_S)
        acknowledged |= await importer.finish()
        await eventually(lambda: _well(server), BACK_S)
        assert killed.total() == kills and len(killed) == 4
        await _assert_all_there(server, acknowledged)


async def _kill(server: Running, role: str) -> None:
    """kill -9 one process and wait until the supervisor brought another."""
    (pid,) = server.pids(role)
    os.kill(pid, signal.SIGKILL)

    async def back() -> bool:
        return bool(set(server.pids(role)) - {pid})

    await eventually(back, BACK_S)


async def _well(server: Running) -> bool:
    health = await asyncio.to_thread(server.health)
    return bool(health["status"] == "ok")


async def _more(acknowledged: dict[str, Made], wanted: int) -> bool:
    return len(acknowledged) >= wanted


@asynccontextmanager
async def _sending(*senders: object) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(sender) for sender in senders]  # type: ignore[call-overload]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends


async def _by_dimse(server: Running, acknowledged: dict[str, Made]) -> None:
    """Send instance after instance over DICOM; a broken connection is made again."""
    numbers = itertools.count(1)
    while True:
        with suppress(*BROKEN):
            peer = await Peer.associate(server.dicom_port, (CT, ELE))
            try:
                for number in numbers:
                    made = make(BY_DIMSE, 1, number)
                    answer = await peer.store(CT, made.identity.sop_instance_uid, ELE, made.data)
                    assert answer.status == 0x0000
                    acknowledged[made.identity.sop_instance_uid] = made
                    await asyncio.sleep(0.004)
            finally:
                with suppress(*BROKEN):
                    await peer.close()
        await asyncio.sleep(0.05)


async def _by_stow(server: Running, acknowledged: dict[str, Made]) -> None:
    """Send instance after instance by STOW-RS."""
    kind = 'multipart/related; type="application/dicom"; boundary=yy'
    headers = {"Content-Type": kind, **server.bearer}
    async with aiohttp.ClientSession(headers=headers) as client:
        for number in itertools.count(1):
            made = make(BY_STOW, 1, number)
            body = b"--yy\r\nContent-Type: application/dicom\r\n\r\n" + part10(made)
            body += b"\r\n--yy--\r\n"
            with suppress(*BROKEN):
                async with client.post(f"{server.base}/dicom-web/studies", data=body) as answer:
                    assert answer.status == 200, await answer.text()
                    acknowledged[made.identity.sop_instance_uid] = made
            await asyncio.sleep(0.02)


class Importer:
    """`yunying import` of one folder after another; killed ones are begun again."""

    def __init__(self, folder: Path, data: Path) -> None:
        self._folder = folder
        self._data = data
        self._process: asyncio.subprocess.Process | None = None
        self._imported: dict[str, Made] = {}
        self._numbers = itertools.count(BY_IMPORT)
        self._current: Path | None = None
        self._size = 0

    async def begin_where_idle(self) -> None:
        """See to it that an import is under way; returns when it has taken something in."""
        while self._process is None or self._process.returncode is not None:
            finished = self._process is not None and self._process.returncode == 0
            if self._current is None or finished:
                self._current = await asyncio.to_thread(self._next_folder)
            self._size = self._state_bytes()
            self._process = await self._run()
            await eventually(self._moved, BACK_S)

    async def kill(self) -> None:
        """kill -9 the import."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def finish(self) -> dict[str, Made]:
        """Let the last import end in order; everything it says is stored."""
        if self._process is not None:
            await self._process.wait()
        self._process = await self._run()
        assert await self._process.wait() == 0
        return self._imported

    async def _run(self) -> asyncio.subprocess.Process:
        assert self._current is not None
        return await asyncio.create_subprocess_exec(
            *YUNYING, "import", str(self._current), "--data", str(self._data),
            cwd=ROOT, env=environment(), stdout=asyncio.subprocess.DEVNULL, stderr=sys.stderr,
        )  # fmt: skip

    async def _moved(self) -> bool:
        ended = self._process is not None and self._process.returncode is not None
        return ended or self._state_bytes() > self._size

    def _state_bytes(self) -> int:
        return sum(file.stat().st_size for file in (self._data / "import").glob("*.done"))

    def _next_folder(self) -> Path:
        study = next(self._numbers)
        folder = self._folder / f"study{study}"
        folder.mkdir()
        for number in range(1, FOLDER_FILES + 1):
            made = make(study, 1, number, seed=study)
            (folder / f"{number:05d}").write_bytes(part10(made))
            self._imported[made.identity.sop_instance_uid] = made
        return folder


def part10(made: Made) -> bytes:
    """The instance as a file."""
    identity = made.identity
    head = file_head(
        identity.sop_class_uid, identity.sop_instance_uid, identity.transfer_syntax_uid
    )
    return head + made.data


async def _assert_all_there(server: Running, acknowledged: dict[str, Made]) -> None:
    """Every acknowledged instance comes back with its very bytes."""
    accept = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    accept |= server.bearer
    lost: list[str] = []
    async with aiohttp.ClientSession(server.base, headers=accept) as client:
        for series, expected in _by_series(acknowledged).items():
            study = next(iter(expected.values())).study
            async with client.get(f"/dicom-web/studies/{study}/series/{series}") as answer:
                assert answer.status == 200, series
                reader = aiohttp.MultipartReader.from_response(answer)
                found = {}
                async for part in reader:
                    content = bytes(await part.read())  # type: ignore[union-attr]
                    head = parse_head(content, final=True)
                    assert head is not None
                    found[head.sop_instance_uid] = content[head.dataset_offset :]
            lost += [uid for uid, made in expected.items() if found.get(uid) != made.data]
    assert lost == [], f"{len(lost)} of {len(acknowledged)} lost"


def _by_series(acknowledged: dict[str, Made]) -> dict[str, dict[str, Made]]:
    found: dict[str, dict[str, Made]] = {}
    for sop_instance_uid, made in acknowledged.items():
        found.setdefault(made.series, {})[sop_instance_uid] = made
    return found
