"""A real `yunying serve` for tests: started on free ports, waited for, ended by its process id."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from identity.accounts.service import find_account
from identity.clients.service import NewClient, create_client
from kernel.db.database import Database
from kernel.scope import Scope
from kernel.settings import Settings, load
from tests.conftest import ROOT

YUNYING = (sys.executable, "-P", "-m", "server.cli")
READY_S = 60.0
SCOPE = Scope.system("test")


@dataclass(slots=True)
class Running:
    """A supervised server; `process` is the supervisor."""

    process: subprocess.Popen[bytes]
    data: Path
    output: Path
    http_port: int = 0
    dicom_port: int = 0
    metrics: str = ""
    log_start: int = 0  # in bytes: an earlier server of the same folder wrote what is before
    token: str = ""

    @property
    def base(self) -> str:
        """Address of the web server."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def bearer(self) -> dict[str, str]:
        """The header that opens everything: the token of the account `admin`."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def log(self) -> str:
        """Everything its processes wrote until now."""
        return self.output.read_bytes()[self.log_start :].decode("utf-8", "replace")

    def get(self, path: str, *, ok: bool = True, accept: str = "*/*") -> bytes:
        """Body of a GET; with `ok` any error raises."""
        headers = {"Accept": accept, **self.bearer}
        return self._ask(urllib.request.Request(self.base + path, headers=headers), ok=ok)

    def post(
        self,
        path: str,
        body: bytes,
        kind: str = "application/x-www-form-urlencoded",
        *,
        ok: bool = True,
    ) -> bytes:
        """Body of the answer to a POST."""
        headers = {"Content-Type": kind, "Accept": "*/*", **self.bearer}
        return self._ask(urllib.request.Request(self.base + path, body, headers), ok=ok)

    def _ask(self, request: urllib.request.Request, *, ok: bool) -> bytes:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            if ok:
                raise AssertionError(f"{error.code}: {error.read()[:400]!r}") from error
            return bytes(error.read())

    def health(self) -> dict[str, Any]:
        """The body of /healthz, whatever its status."""
        found: dict[str, Any] = json.loads(self.get("/healthz", ok=False))
        return found

    def pids(self, role: str) -> list[int]:
        """Process ids that gave a sign of life as `role`."""
        files = (self.data / "run" / "beats").glob(f"{role}-*.json")
        return [int(file.stem.rpartition("-")[2]) for file in files]

    def wait_until_ready(self) -> None:
        """Wait until the web answers that everything is well."""
        deadline = time.monotonic() + READY_S
        while "is ready." not in self.log():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)
        for role, port in (("web", "http_port"), ("gateway", "dicom_port")):
            files = sorted((self.data / "run" / "beats").glob(f"{role}-*.json"))
            if files:
                address = json.loads(files[0].read_text())["address"]
                setattr(self, port, int(address.rpartition(":")[2]))

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it in order; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)


async def admin_token(settings: Settings) -> str:
    """A bearer token with the rights of `admin`, as `yunying token create` makes it."""
    database = await Database.open(settings)
    try:
        async with database.session(SCOPE, write=True) as session:
            admin = await find_account(session, SCOPE, "admin")
            return (await create_client(session, SCOPE, NewClient("test", admin.id)))[1]
    finally:
        await database.close()


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without settings of its own, plus `variables`."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("YUNYING_")}
    small = {
        "YUNYING_ARCHIVE_SEGMENT_BYTES": str(4 << 20),
        "YUNYING_ARCHIVE_SPARE_BYTES": str(16 << 20),
    }
    return {**plain, "PYTHONUNBUFFERED": "1", **small, **variables}


@contextlib.contextmanager
def serve(folder: Path, *options: str, **variables: str) -> Iterator[Running]:
    """Run `yunying serve` with its data below `folder` until the block ends."""
    data, output = folder / "data", folder / "serve.log"
    addresses = ("--http", "127.0.0.1:0", "--dicom", "127.0.0.1:0")
    with output.open("ab") as log:
        start = log.tell()
        process = subprocess.Popen(
            [*YUNYING, "serve", "--data", str(data), *addresses, *options],
            cwd=ROOT,
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    server = Running(process, data, output, log_start=start)
    try:
        server.wait_until_ready()
        settings = load(None, environment(**variables), {"data": str(data)})
        with ThreadPoolExecutor(1) as elsewhere:  # the test may have a loop of its own
            server.token = elsewhere.submit(asyncio.run, admin_token(settings)).result()
        yield server
        if server.http_port and process.poll() is None:
            server.metrics = server.get("/metrics").decode()
    finally:
        try:
            server.end()
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def yunying(*arguments: str, **variables: str) -> str:
    """Run a command to its end, which must be a good one; what it printed."""
    done = _run(arguments, variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def fails(*arguments: str, **variables: str) -> str:
    """Run a command that cannot do what it is asked, and says so; what it printed."""
    done = _run(arguments, variables)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def _run(arguments: tuple[str, ...], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*YUNYING, *arguments],
        cwd=ROOT,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
