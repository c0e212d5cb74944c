"""Heartbeats: each process of this machine says every two seconds in a small file that it lives.

The files lie in ``data/run/beats``; health and metrics read them, so processes need no port for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel.settings import Settings

EVERY_S = 2.0
LATE_S = 15.0
Numbers = Callable[[], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Beat:
    """One process: role, address (``HOST:PORT`` or empty), age of its last sign, numbers."""

    role: str
    pid: int
    address: str
    started_at: float
    age_s: float
    numbers: Mapping[str, float]

    @property
    def alive(self) -> bool:
        """Whether its process exists and it gave a sign lately."""
        return self.age_s < LATE_S and Path(f"/proc/{self.pid}").exists()


def beats_folder(settings: Settings) -> Path:
    """Where the heartbeat files lie."""
    return settings.data / "run" / "beats"


@contextlib.asynccontextmanager
async def beating(
    settings: Settings, role: str, address: str = "", numbers: Numbers = dict
) -> AsyncIterator[None]:
    """Give a sign of this process now and every two seconds; take it away at the end."""
    folder = beats_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    remove_dead(settings)
    file = folder / f"{role}-{os.getpid()}.json"
    started_at = time.time()

    def write() -> None:
        body = {"role": role, "pid": os.getpid(), "address": address, "started_at": started_at}
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps({**body, "numbers": dict(numbers())}))
        fresh.replace(file)

    async def repeat() -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            with contextlib.suppress(OSError):  # a full disk must not end a process
                write()

    write()
    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        file.unlink(missing_ok=True)


def read_beats(settings: Settings) -> list[Beat]:
    """Every process that gave a sign and did not end in order; the newest of a role first."""
    found: list[Beat] = []
    folder = beats_folder(settings)
    for file in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            body: dict[str, Any] = json.loads(file.read_text())
            age_s = time.time() - file.stat().st_mtime
        except (OSError, ValueError):
            continue
        found.append(Beat(age_s=max(age_s, 0.0), **body))
    return sorted(found, key=lambda beat: -beat.started_at)


def remove_dead(settings: Settings) -> None:
    """Forget the signs of processes that are no more."""
    for beat in read_beats(settings):
        if not Path(f"/proc/{beat.pid}").exists():
            (beats_folder(settings) / f"{beat.role}-{beat.pid}.json").unlink(missing_ok=True)
