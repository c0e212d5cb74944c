"""One process of `yunying serve`: ``python -m server.process ROLE JSON [--ready FD]``.

JSON names the settings file and the overrides of the command line; the environment comes along.
When it works, the process writes one line of JSON to the pipe FD: its address, or why it cannot
start. SIGTERM ends it in order, within ten seconds at the latest; so does its parent's death.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import structlog

from kernel.errors import AppError
from kernel.log import configure
from kernel.settings import Settings, load

PR_SET_PDEATHSIG = 1  # prctl(2)
LAST_MOMENT_S = 10

Report = Callable[[dict[str, Any]], None]
Role = Callable[[Settings, asyncio.Event, Report], Awaitable[None]]

log = structlog.get_logger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Run one role until SIGTERM; the exit code."""
    role, wanted, *rest = sys.argv[1:] if arguments is None else arguments
    ready = int(rest[1]) if rest[:1] == ["--ready"] else None
    report = _reporter(ready)
    _die_with_parent()
    try:
        settings = settings_from(json.loads(wanted))
        configure(settings)
        structlog.contextvars.bind_contextvars(role=role)
        asyncio.run(_run(_role(role), settings, report))
    except AppError as error:
        log.error("process.cannot_run", code=error.code, why=str(error))  # noqa: TRY400
        report({"error": error.code, "message": str(error)})
        return 2
    except OSError as error:
        log.exception("process.failed")
        report({"error": "system", "message": str(error)})
        return 1
    return 0


def settings_from(wanted: dict[str, Any]) -> Settings:
    """Settings as the command line had them: ``{"config": path or null, "overrides": {…}}``."""
    config = Path(wanted["config"]) if wanted["config"] else None
    return load(config, os.environ, wanted["overrides"])


def _role(name: str) -> Role:
    """The entry of a role; imported only here, so that no process loads what others need."""
    run: Role = import_module(f"server.{name}_process").run
    return run


async def _run(role: Role, settings: Settings, report: Report) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        signal.alarm(LAST_MOMENT_S)  # its default action kills: no shutdown may hang for ever
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    await role(settings, stop, report)


def _die_with_parent() -> None:
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # it died before we asked
        raise SystemExit(1)


def _reporter(fd: int | None) -> Report:
    def report(message: dict[str, Any]) -> None:
        nonlocal fd
        if fd is not None:
            os.write(fd, json.dumps(message).encode() + b"\n")
            os.close(fd)
            fd = None

    return report


if __name__ == "__main__":
    sys.exit(main())
