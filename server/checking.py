"""`yunying check`: the self-test. A finding is a sentence that says what to do where it is bad."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alembic.config import Config
from alembic.script import ScriptDirectory
from pynetdicom import AE
from sqlalchemy import literal_column, select, table
from sqlalchemy.exc import SQLAlchemyError

from archive.store.service import new_key, open_stores
from kernel.db.database import Database
from kernel.db.statement import Statement
from kernel.errors import AppError
from kernel.settings import Settings, split_address
from kernel.web.assets import DIST
from server import migrations
from server.beats import Beat, read_beats
from server.guard import beyond_loopback, refuse_open_doors

State = Literal["ok", "warn", "fail"]
LOW_BYTES, LEAST_BYTES = 20 << 30, 1 << 30
SLOW_SYNC_MS, UNLIKELY_SYNC_MS = 20.0, 0.02
ANSWER_S = 5.0
VERIFICATION = "1.2.840.10008.1.1"  # PS3.4 A.4

_REVISION = Statement(select(literal_column("version_num")).select_from(table("alembic_version")))


@dataclass(frozen=True, slots=True)
class Finding:
    """What one test found."""

    state: State
    text: str


Test = Callable[[Settings], Awaitable[list[Finding]]]


async def check(settings: Settings) -> list[Finding]:
    """Every test; one that breaks is a finding, not the end."""
    findings: list[Finding] = []
    for test in TESTS:
        try:
            findings += await test(settings)
        except AppError as error:
            findings.append(Finding("fail", str(error)))
        except OSError as error:
            findings.append(
                Finding("fail", f"{error.strerror or error} ({error.filename or test.__name__})")
            )
    return findings


async def _settings(settings: Settings) -> list[Finding]:
    if beyond_loopback(settings) is None:
        found = [Finding("ok", "The settings can be read; only this machine is answered.")]
    else:
        await refuse_open_doors(settings)
        found = [Finding("ok", "The settings can be read; other machines are answered too.")]
    if settings.internal.bind:
        found += _sharing(settings)
    return found


def _sharing(settings: Settings) -> list[Finding]:
    """Several nodes need a database and an object store that all of them reach."""
    split_address(settings.internal.bind)
    words = {
        "database.url": (settings.database.url, "on PostgreSQL"),
        "objects.url": (settings.objects.url, "on S3"),
    }
    return [
        Finding("warn", f"Other nodes are let in, but {name} is empty: nodes meet {where}.")
        for name, (url, where) in words.items()
        if not url
    ]


async def _folder(settings: Settings) -> list[Finding]:
    data = settings.data
    if not data.is_dir():
        return [Finding("warn", f"The data folder {data} is not there yet; serve makes it.")]
    if not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        return [Finding("fail", f"The data folder {data} may not be written by this user.")]
    found = [Finding("ok", f"The data folder {data} can be written.")]
    room = os.statvfs(data)
    free = room.f_bavail * room.f_frsize
    state: State = "fail" if free < LEAST_BYTES else "warn" if free < LOW_BYTES else "ok"
    found.append(Finding(state, f"{free / (1 << 30):.1f} GiB are free on its disk."))
    found.append(await asyncio.to_thread(_sync, data))
    return found


def _sync(data: Path) -> Finding:
    """How long the disk takes to make 4 KiB durable, which every receiving waits for."""
    file = data / f".check-{os.getpid()}"
    times: list[float] = []
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        for _ in range(20):
            began = time.perf_counter()
            os.write(fd, b"y" * 4096)
            os.fdatasync(fd)
            times.append((time.perf_counter() - began) * 1000)
    finally:
        os.close(fd)
        file.unlink(missing_ok=True)
    median = statistics.median(times)
    if median > SLOW_SYNC_MS:
        return Finding(
            "warn", f"The disk needs {median:.0f} ms for a sync: receiving will be slow."
        )
    if median < UNLIKELY_SYNC_MS:
        return Finding(
            "warn", "The disk syncs faster than disks can: it may lose data when power fails."
        )
    return Finding("ok", f"The disk makes data durable in {median:.1f} ms.")


async def _database(settings: Settings) -> list[Finding]:
    if not settings.database.url and not settings.data.is_dir():
        return []
    database = await Database.open(settings)
    try:
        rows = await database.fetch(_REVISION, {})
    except (SQLAlchemyError, OSError, AppError) as error:
        why = getattr(error, "orig", None) or error
        return [Finding("warn", f"The database has no schema yet ({why}); serve makes it.")]
    finally:
        await database.close()
    head = _newest_revision()
    here = rows[0][0] if rows else None
    if here != head:
        return [Finding("warn", f"The schema is {here}, the newest {head}; serve brings it up.")]
    return [Finding("ok", f"The database ({database.dialect}) answers and has the newest schema.")]


def _newest_revision() -> str | None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config).get_current_head()


async def _objects(settings: Settings) -> list[Finding]:
    if not settings.objects.url and not settings.data.is_dir():
        return []
    store = open_stores(settings).objects
    key = new_key("check", ".txt")

    def there_and_back() -> bool:
        writer = store.create(key)
        writer.write(b"yunying")
        writer.commit()
        try:
            return store.read(key) == b"yunying"
        finally:
            store.delete(key)

    kind = "S3" if settings.objects.url else "files"
    if not await asyncio.to_thread(there_and_back):
        return [Finding("fail", f"The object store ({kind}) gives back other bytes than it took.")]
    return [Finding("ok", f"The object store ({kind}) takes, gives back and deletes.")]


async def _pages(_: Settings) -> list[Finding]:
    if (DIST / "manifest.json").is_file():
        return [Finding("ok", "The web pages are built.")]
    return [Finding("fail", "The web pages are not built: run make setup.")]


async def _servers(settings: Settings) -> list[Finding]:
    beats = {beat.role: beat for beat in reversed(read_beats(settings)) if beat.alive}
    return [
        await _dicom(settings, beats.get("gateway")),
        await _web(settings, beats.get("web")),
        _worker(beats),
    ]


async def _dicom(settings: Settings, beat: Beat | None) -> Finding:
    if beat is None:
        return _port_free("DICOM", settings.dicom.bind)
    title = settings.dicom.ae_title
    if await asyncio.to_thread(_echo, beat.address, title):
        return Finding("ok", f"The DICOM server answers an echo as {title} at {beat.address}.")
    return Finding("fail", f"The DICOM server at {beat.address} runs, but answers no echo.")


def _echo(address: str, title: str) -> bool:
    host, port = split_address(address)
    ae = AE(ae_title="YUNYING_CHECK")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = ANSWER_S
    ae.add_requested_context(VERIFICATION)
    association = ae.associate(host, port, ae_title=title)
    if not association.is_established:
        return False
    status = association.send_c_echo()
    association.release()
    return bool(status and status.Status == 0x0000)


async def _web(settings: Settings, beat: Beat | None) -> Finding:
    if beat is None:
        return _port_free("Web", settings.http.bind)

    def ask() -> tuple[int, str]:
        connection = http.client.HTTPConnection(*split_address(beat.address), timeout=ANSWER_S)
        try:
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    status, body = await asyncio.to_thread(ask)
    if status == http.client.OK:
        return Finding("ok", f"The web server answers at http://{beat.address}/ and is well.")
    return Finding("fail", f"The web server says that something is wrong: {body}")


def _worker(beats: dict[str, Beat]) -> Finding:
    if "worker" in beats:
        return Finding("ok", "The worker gives signs of life.")
    if beats:
        return Finding(
            "warn", "No worker runs on this machine: nothing is settled into packs here."
        )
    return Finding("ok", "No server runs on this folder: start one with yunying serve.")


def _port_free(name: str, bind: str) -> Finding:
    host, port = split_address(bind)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            why = error.strerror or str(error)
            return Finding("fail", f"{name} cannot listen on {bind}: {why}. Choose another port.")
    return Finding("ok", f"{name}: {bind} is free.")


TESTS: tuple[Test, ...] = (_settings, _folder, _database, _objects, _pages, _servers)
