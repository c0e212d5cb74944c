"""Starting the processes of one machine, starting again those that crash, ending all together."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from kernel.errors import Unavailable

START_S = 60.0
STOP_S = 12.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
STEADY_S = 60.0

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Child:
    """One supervised process and what is known of it."""

    role: str
    wanted: dict[str, Any]
    address: str = ""
    restarts: int = 0
    process: Process | None = None
    began: float = field(default_factory=time.monotonic)


class Supervisor:
    """Runs the processes of `roles` (a role may stand there twice) until `stop` is set.

    `wanted` is what `server.process` needs: the settings file and the overrides.
    """

    def __init__(self, roles: Sequence[str], wanted: Mapping[str, Any]) -> None:
        self.children = [
            Child(role, {**wanted, "overrides": dict(wanted["overrides"])}) for role in roles
        ]
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start every process and wait until all work.

        Raises Unavailable `serve.failed` with the reason of the first that cannot; none is left.
        """
        first = [child for at, child in enumerate(self.children) if not self._is_copy(at)]
        await self._launch_all(first)
        copies = [child for child in self.children if child not in first]
        for child in copies:  # they share the port that their like was given
            _fix_address(child, self.address(child.role))
        await self._launch_all(copies)
        self._keepers = [asyncio.create_task(self._keep(child)) for child in self.children]

    async def stop(self) -> None:
        """End everything: who receives first, then who works behind."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        behind = [child for child in self.children if child.role == "worker"]
        ahead = [child for child in self.children if child.role != "worker"]
        for group in (ahead, behind):
            await asyncio.gather(*(_end(child.process) for child in group))

    def numbers(self) -> Mapping[str, float]:
        """What the heartbeat says: which roles run here, and how often they were restarted."""
        found: dict[str, float] = {}
        for child in self.children:
            found[f"expects_{child.role}"] = 1.0
            key = f"restarts_{child.role}"
            found[key] = found.get(key, 0.0) + child.restarts
        return found

    def address(self, role: str) -> str:
        """Where a role listens; empty when it does not run here."""
        return next((child.address for child in self.children if child.role == role), "")

    def _is_copy(self, at: int) -> bool:
        return any(child.role == self.children[at].role for child in self.children[:at])

    async def _launch_all(self, children: Sequence[Child]) -> None:
        ends = await asyncio.gather(*map(self._launch, children), return_exceptions=True)
        failures = [end for end in ends if end is not None]
        if failures:
            await self.stop()
            raise failures[0]

    async def _launch(self, child: Child) -> None:
        child.began = time.monotonic()
        child.process, message = await launch(child.role, child.wanted)
        if "address" not in message:
            await _end(child.process)
            raise Unavailable(
                "serve.failed",
                "The {role} process cannot start: {why}",
                role=child.role,
                why=message.get("message", "it ended without a word, see the log"),
            )
        _fix_address(child, message["address"])

    async def _keep(self, child: Child) -> None:
        """Start a process again whenever it ends by itself, slower each time it keeps ending."""
        pause = FIRST_PAUSE_S
        while True:
            code = await child.process.wait() if child.process else None
            child.restarts += 1
            log.error("process.ended", process=child.role, code=code, again_in_s=pause)
            if time.monotonic() - child.began > STEADY_S:
                pause = FIRST_PAUSE_S
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)
            try:
                await self._launch(child)
                log.info("process.restarted", process=child.role)
            except Unavailable as error:
                log.error("process.cannot_restart", process=child.role, why=str(error))  # noqa: TRY400


def _fix_address(child: Child, address: str) -> None:
    """Keep the port of a process that was given any free one, also over restarts."""
    child.address = address
    setting = {"gateway": "dicom.bind", "web": "http.bind"}.get(child.role)
    if setting and address:
        child.wanted["overrides"][setting] = address


async def launch(
    role: str, wanted: Mapping[str, Any], within_s: float = START_S
) -> tuple[Process, dict[str, Any]]:
    """Start one process and wait for its first word; an empty one when it ended before."""
    reading, writing = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "server.process", role, json.dumps(wanted)),
            *("--ready", str(writing)),
            stdin=DEVNULL,
            pass_fds=(writing,),
            start_new_session=True,  # Ctrl-C reaches us alone; we end the others in order
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    try:
        return process, await _first_word(reading, within_s)
    except BaseException:
        await _end(process)
        raise


async def _first_word(reading: int, within_s: float) -> dict[str, Any]:
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb")
    )
    try:
        async with asyncio.timeout(within_s):
            line = await stream.readline()
    except TimeoutError:
        return {"message": f"it was not ready within {within_s:g} s"}
    finally:
        transport.close()
    message: dict[str, Any] = json.loads(line) if line else {}
    return message


async def _end(process: Process | None) -> None:
    if process is None or process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def until_signal(then: Callable[[], None] = lambda: None) -> signal.Signals:
    """Wait for Ctrl-C or SIGTERM."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[signal.Signals] = loop.create_future()

    def tell(number: signal.Signals) -> None:
        if not told.done():
            told.set_result(number)
            then()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, tell, number)
    return await told
