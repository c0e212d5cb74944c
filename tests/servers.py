"""Real servers for the tests: PostgreSQL and an S3 server, started once and ended by their pid."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import asyncpg


class Missing(Exception):
    """A server program is not installed here; the message says which."""


@dataclass(frozen=True)
class PostgresqlServer:
    """A running PostgreSQL; `yunying` may create databases and roles but is no superuser."""

    port: int

    def url(self, database: str, user: str = "yunying") -> str:
        """Address of one database on it."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def run(self, *statements: str) -> None:
        """Run statements as superuser, outside a transaction."""
        asyncio.run(self._run(statements))

    async def _run(self, statements: Sequence[str]) -> None:
        connection = await asyncpg.connect(self.url("postgres", "postgres"))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()


@dataclass(frozen=True)
class S3Server:
    """A running S3 server and its credentials."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(ready: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Ask `ready` again and again until it says yes; TimeoutError names `what`."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} was not ready within {seconds:g} s")
        time.sleep(0.02)


@contextlib.contextmanager
def postgresql_server() -> Iterator[PostgresqlServer]:
    """A fresh PostgreSQL on a free loopback port; raises Missing without its programs."""
    programs = _postgresql_programs()
    account = _unprivileged_account()
    with _folder("yunying-pg-", account) as folder:
        data = folder / "data"
        _run(
            [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
             "--locale=C.UTF-8", "--no-sync"],
            account,
        )  # fmt: skip
        port = free_port()
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(folder),
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_connections": "200",
        }
        command = [str(programs / "postgres"), "-D", str(data), "-p", str(port)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with _process(command, folder / "postgres.log", signal.SIGINT, account) as process:
            ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
            wait_until(
                lambda: (
                    _alive(process, folder / "postgres.log")
                    and subprocess.run(ready, check=False).returncode == 0
                ),
                "PostgreSQL",
            )
            server = PostgresqlServer(port)
            server.run("CREATE ROLE yunying LOGIN CREATEDB CREATEROLE")
            yield server


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    """A fresh S3 server: Ceph's radosgw on one monitor and one in-memory disk, 15 s to start.

    Raises Missing without the Debian packages radosgw, ceph-osd, ceph-mon and ceph-common.
    """
    names = ("radosgw", "radosgw-admin", "ceph-mon", "ceph-osd", "ceph", "ceph-authtool")
    absent = [name for name in (*names, "monmaptool") if shutil.which(name) is None]
    if absent:
        raise Missing(f"S3 server: not installed: {', '.join(absent)} (Debian: radosgw)")
    with _folder("yunying-s3-", None) as folder, contextlib.ExitStack() as running:
        port = free_port()
        environ = _write_ceph_configuration(folder, port)
        call = partial(_ceph, folder, environ)
        start = partial(_start_ceph, running, folder, environ)
        start("ceph-mon", "-i", "a")
        disk = str(uuid.uuid4())
        call("ceph", "osd", "new", disk, "0")
        call("ceph", "auth", "import", "-i", str(folder / "keyring"))
        call("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        start("ceph-osd", "-i", "0")
        call("ceph", "osd", "crush", "add", "osd.0", "1.0", "host=h", "root=default")
        wait_until(lambda: "1 up" in call("ceph", "osd", "stat"), "the S3 server's disk", 60)
        gateway = start("radosgw", "-n", "client.rgw")
        wait_until(
            lambda: _alive(gateway, folder / "radosgw.log") and _listens(port), "the S3 server", 60
        )
        access_key, secret_key = "AKTEST", "SKTEST12"
        call(
            "radosgw-admin", "-n", "client.rgw", "user", "create", "--uid=test",
            "--display-name=test", f"--access-key={access_key}", f"--secret-key={secret_key}",
        )  # fmt: skip
        yield S3Server(f"http://127.0.0.1:{port}", access_key, secret_key)


def _postgresql_programs() -> Path:
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    config = shutil.which("pg_config")
    if config is not None:
        shown = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=True)
        places.append(Path(shown.stdout.strip()))
    server = shutil.which("postgres")
    if server is not None:
        places.append(Path(server).resolve().parent)
    for place in places:
        if (place / "initdb").is_file() and (place / "postgres").is_file():
            return place
    raise Missing("PostgreSQL: initdb and postgres are not installed (Debian: postgresql)")


def _unprivileged_account() -> pwd.struct_passwd | None:
    """Whom to become: PostgreSQL refuses to run as root. None when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise Missing("PostgreSQL: there is no account to run it as")


@contextlib.contextmanager
def _folder(prefix: str, account: pwd.struct_passwd | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        if account is not None:
            os.chown(folder, account.pw_uid, account.pw_gid)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _process(
    command: Sequence[str],
    log: Path,
    end: signal.Signals,
    account: pwd.struct_passwd | None = None,
    environ: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environ,
            cwd="/",
            preexec_fn=partial(_end_with_parent, end),  # noqa: PLW1509 - nothing but one syscall
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )
    try:
        yield process
    finally:
        process.send_signal(end)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_with_parent(end: signal.Signals) -> None:
    """Linux: get `end` when the test run dies, even by SIGKILL (prctl PR_SET_PDEATHSIG = 1)."""
    ctypes.CDLL(None).prctl(1, int(end), 0, 0, 0)


def _run(command: Sequence[str | Path], account: pwd.struct_passwd | None) -> None:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.strip()}")


def _alive(process: subprocess.Popen[bytes], log: Path) -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"{process.args!r} ended: {log.read_text(errors='replace')[-2000:]}")
    return True


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _write_ceph_configuration(folder: Path, port: int) -> dict[str, str]:
    fsid, monitor = str(uuid.uuid4()), f"[v2:127.0.0.1:{free_port()},v1:127.0.0.1:{free_port()}]"
    for name in ("mon", "osd0", "run", "log", "rgw"):
        (folder / name).mkdir()
    (folder / "ceph.conf").write_text(
        f"""[global]
fsid = {fsid}
mon host = {monitor}
public addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = {folder}/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
osd pool default pg autoscale mode = off
mon initial members = a
run dir = {folder}/run
admin socket = {folder}/run/$name.asok
pid file = {folder}/run/$name.pid
log file = {folder}/log/$name.log
mon max pg per osd = 1000
auth allow insecure global id reclaim = true
ms bind ipv6 = false
[mon]
mon data = {folder}/mon
[osd]
osd data = {folder}/osd0
osd objectstore = memstore
memstore device bytes = 4294967296
osd memory target = 939524096
osd numa auto affinity = false
osd op num shards = 2
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw data = {folder}/rgw
rgw thread pool size = 64
rgw crypt require ssl = false
debug rgw = 0
"""
    )
    environ = {**os.environ, "CEPH_CONF": str(folder / "ceph.conf")}
    keyring, monmap = str(folder / "keyring"), str(folder / "monmap")
    call = partial(_ceph, folder, environ)
    everything = [
        part for who in ("mon", "osd", "mgr", "mds") for part in ("--cap", who, "allow *")
    ]
    call("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", *everything[:3])
    call("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *everything)
    disk = ("--cap", "mon", "allow profile osd", "--cap", "osd", "allow *")
    call("ceph-authtool", keyring, "--gen-key", "-n", "osd.0", *disk)
    gateway = ("--cap", "mon", "allow rw", "--cap", "osd", "allow rwx")
    call("ceph-authtool", keyring, "--gen-key", "-n", "client.rgw", *gateway)
    call("monmaptool", "--create", "--addv", "a", monitor, "--fsid", fsid, monmap)
    call("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
    return environ


def _ceph(folder: Path, environ: Mapping[str, str], *command: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environ, timeout=60, cwd=folder
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout


def _start_ceph(
    running: contextlib.ExitStack, folder: Path, environ: Mapping[str, str], *command: str
) -> subprocess.Popen[bytes]:
    log = folder / f"{command[0]}.log"
    return running.enter_context(_process([*command, "-f"], log, signal.SIGTERM, environ=environ))
