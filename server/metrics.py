"""GET /metrics in Prometheus text format: numbers about the processes, never about persons."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import psutil
from aiohttp import web

from archive.journal.node import journal_folder
from archive.journal.spares import spares_in
from kernel.settings import Settings
from kernel.web.guard import requires
from kernel.web.handler import Handler
from server.beats import Beat, read_beats

Labels = Mapping[str, str]
Sample = tuple[Labels, float]


class Counts:
    """What this web process answered: number and seconds by method, route and status."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, str]] = Counter()
        self.seconds: defaultdict[tuple[str, str, str], float] = defaultdict(float)

    def beat(self) -> Mapping[str, float]:
        """The totals that the heartbeat carries."""
        return {"http_requests": float(self.requests.total())}


COUNTS: web.AppKey[Counts] = web.AppKey("server.counts", Counts)
_SETTINGS: web.AppKey[Settings] = web.AppKey("server.metrics_settings", Settings)


def setup(app: web.Application, settings: Settings) -> None:
    """Count every request of `app`, and add the route."""
    app[COUNTS], app[_SETTINGS] = Counts(), settings
    app.middlewares.insert(0, _count)
    app.router.add_get("/metrics", metrics)


@web.middleware
async def _count(request: web.Request, handler: Handler) -> web.StreamResponse:
    began, status = time.perf_counter(), 499
    try:
        response = await handler(request)
        status = response.status
    except web.HTTPException as error:
        status = error.status
        raise
    finally:
        resource = request.match_info.route.resource
        key = (request.method, resource.canonical if resource else "", str(status))
        request.app[COUNTS].requests[key] += 1
        request.app[COUNTS].seconds[key] += time.perf_counter() - began
    return response


@requires("system.metrics.read")
async def metrics(request: web.Request) -> web.Response:
    """Every measurement of this machine's processes."""
    settings = request.app[_SETTINGS]
    lines = [*_of_requests(request.app[COUNTS])]
    lines += await asyncio.to_thread(lambda: [*_of_machine(settings)])
    text = "\n".join(lines) + "\n"
    return web.Response(
        body=text.encode(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
    )


def _of_requests(counts: Counts) -> Iterator[str]:
    names = ("method", "route", "status")
    requests = [(dict(zip(names, key, strict=True)), n) for key, n in counts.requests.items()]
    seconds = [(dict(zip(names, key, strict=True)), s) for key, s in counts.seconds.items()]
    yield from family("yunying_http_requests_total", "counter", "Requests answered.", requests)
    yield from family(
        "yunying_http_request_seconds_total", "counter", "Time spent answering.", seconds
    )


def _of_machine(settings: Settings) -> Iterator[str]:
    beats = [beat for beat in read_beats(settings) if beat.alive]
    yield from _of_processes(beats)
    room = os.statvfs(settings.data)
    free = room.f_bavail * room.f_frsize
    journal = journal_folder(settings)
    segments = [_size(file) for file in journal.glob("*.seg")]
    for name, text, value in (
        ("yunying_disk_free_bytes", "Room left on the disk of the data folder.", free),
        ("yunying_journal_segments", "Journal segments on this machine.", len(segments)),
        ("yunying_journal_bytes", "Size of the journal segments.", sum(segments)),
        (
            "yunying_journal_spares",
            "Segments written ahead that wait to be used.",
            len(spares_in(journal)),
        ),
    ):
        yield from family(name, "gauge", text, [({}, value)])


def _of_processes(beats: list[Beat]) -> Iterator[str]:
    seen = [(beat, _process(beat.pid)) for beat in beats]
    roles = [({"role": beat.role, "pid": str(beat.pid)}, beat, found) for beat, found in seen]
    yield from family(
        "yunying_heartbeat_age_seconds",
        "gauge",
        "Time since a process gave a sign.",
        [(labels, beat.age_s) for labels, beat, _ in roles],
    )
    yield from family(
        "yunying_process_resident_bytes",
        "gauge",
        "Memory of a process.",
        [(labels, found[0]) for labels, _, found in roles],
    )
    yield from family(
        "yunying_process_cpu_seconds_total",
        "counter",
        "CPU time of a process.",
        [(labels, found[1]) for labels, _, found in roles],
    )
    yield from family(
        "yunying_dicom_associations",
        "gauge",
        "Associations that are open now.",
        [
            (labels, beat.numbers["dicom_associations"])
            for labels, beat, _ in roles
            if "dicom_associations" in beat.numbers
        ],
    )
    yield from family(
        "yunying_restarts_total",
        "counter",
        "Processes that ended by themselves and were started again.",
        [
            ({"role": name.removeprefix("restarts_")}, number)
            for beat in beats
            for name, number in beat.numbers.items()
            if name.startswith("restarts_")
        ],
    )


def family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> Iterator[str]:
    """The lines of one metric; label values are escaped as the format wants."""
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        inside = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
        yield f"{name}{{{inside}}} {value!r}" if inside else f"{name} {value!r}"


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _process(pid: int) -> tuple[float, float]:
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        return float(process.memory_info().rss), times.user + times.system
    except psutil.Error:
        return 0.0, 0.0


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
