"""The pool of codec workers: one job at a time each, killed when it takes too long.

A crashed or killed worker costs the one request that it served; the next job starts a new one.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dicomweb.pixels.frame import CannotDisplay, FrameSpec
from dicomweb.pixels.wire import LENGTHS, pack, unpack_head
from kernel.errors import Unavailable
from kernel.i18n.catalog import marked

PIPE_BYTES = 1 << 20
# Numerical libraries would each start a thread per core and reserve address space for it.
SINGLE_THREADED = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one job may use. `waiting` bounds the queue: beyond it a request is turned away."""

    workers: int = 2
    memory_bytes: int = 1 << 30
    seconds: float = 20.0
    waiting: int = 200


@dataclass(slots=True)
class Answer:
    """What a worker handed back."""

    head: dict[str, Any]
    data: bytes


@dataclass(slots=True)
class _Worker:
    process: Process | None = None


class CodecPool:
    """Worker processes for compressed frames; use it as an async context manager.

    `run` raises `CannotDisplay` with the worker's reason, `pixels.time` or `pixels.corrupt` when
    the worker had to be killed or died, and `Unavailable('pixels.busy')` when too many jobs wait.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._idle: asyncio.LifoQueue[_Worker] = asyncio.LifoQueue()
        self._workers = [_Worker() for _ in range(self._limits.workers)]
        for worker in self._workers:
            self._idle.put_nowait(worker)
        self._jobs: set[asyncio.Task[Answer]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End every worker and forget waiting jobs."""
        for job in list(self._jobs):
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
        for worker in self._workers:
            await _kill(worker)

    async def decode(self, frame: FrameSpec, data: bytes) -> Answer:
        """Decode a compressed frame to native little endian samples."""
        return await self.run({"do": "decode", "frame": frame.to_json()}, data)

    async def draw(self, frame: FrameSpec, picture: Mapping[str, Any], data: bytes) -> bytes:
        """Decode a frame and encode it as a picture."""
        job = {"do": "draw", "frame": frame.to_json(), "picture": dict(picture)}
        return (await self.run(job, data)).data

    async def run(self, job: dict[str, Any], data: bytes, *, extra_s: float = 0.0) -> Answer:
        """Run one job, given `extra_s` beyond the limit. A caller that goes away does not disturb
        the worker.
        """
        if len(self._jobs) >= self._limits.waiting:
            raise Unavailable("pixels.busy", "Too many images are being decoded. Try again.")
        task = asyncio.create_task(self._run(job, data, extra_s))
        self._jobs.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[Answer]) -> None:
        self._jobs.discard(task)
        if not task.cancelled():
            task.exception()  # a caller that went away does not ask for it

    async def _run(self, job: dict[str, Any], data: bytes, extra_s: float) -> Answer:
        worker = await self._idle.get()
        try:
            return await self._talk(worker, job, data, self._limits.seconds + extra_s)
        finally:
            self._idle.put_nowait(worker)

    async def _talk(
        self, worker: _Worker, job: dict[str, Any], data: bytes, seconds: float
    ) -> Answer:
        try:
            if worker.process is None or worker.process.returncode is not None:
                worker.process = await _start(self._limits.memory_bytes)
            async with asyncio.timeout(seconds):
                answer = await _exchange(worker.process, job, data)
        except TimeoutError as error:
            await _kill(worker)
            raise CannotDisplay(
                "pixels.time", marked("Decoding this frame takes longer than allowed.")
            ) from error
        except (asyncio.IncompleteReadError, ConnectionError, ValueError) as error:
            await _kill(worker)
            raise CannotDisplay(
                "pixels.corrupt", marked("The decoder gave up on this pixel data.")
            ) from error
        except asyncio.CancelledError:
            await _kill(worker)
            raise
        if "error" in answer.head:
            raise CannotDisplay(
                str(answer.head["error"]),
                str(answer.head.get("message", "")),
                **answer.head.get("fields", {}),
            )
        return answer


def _environment() -> dict[str, str]:
    """The parent's environment, with this very code on the worker's path."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)
    return {**os.environ, **SINGLE_THREADED, "PYTHONPATH": path}


async def _start(memory_bytes: int) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "dicomweb.pixels.worker",
        str(memory_bytes),
        stdin=PIPE,
        stdout=PIPE,
        limit=PIPE_BYTES,
        env=_environment(),
        start_new_session=True,  # Ctrl-C at a terminal is for the parent, which ends us in order
    )


async def _exchange(process: Process, job: dict[str, Any], data: bytes) -> Answer:
    if process.stdin is None or process.stdout is None:
        raise ConnectionError("a codec worker without pipes")
    process.stdin.write(pack(job, len(data)))
    process.stdin.write(data)
    await process.stdin.drain()
    head_bytes, payload_bytes = LENGTHS.unpack(await process.stdout.readexactly(LENGTHS.size))
    head = unpack_head(await process.stdout.readexactly(head_bytes))
    return Answer(head, await process.stdout.readexactly(payload_bytes))


async def _kill(worker: _Worker) -> None:
    process, worker.process = worker.process, None
    if process is None:
        return
    if process.returncode is None:
        process.kill()
    if process.stdin is not None:
        process.stdin.close()
    await process.wait()
