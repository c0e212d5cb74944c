"""Fixtures that every package's tests may use."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

from kernel.db.database import Database, sqlite_file
from kernel.settings import DatabaseSettings, Settings
from server.migrations.run import upgrade
from tests import servers
from tests.chromium import launch

ROOT = Path(__file__).resolve().parent.parent
BACKENDS = ("sqlite", "postgresql")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests marked `backend` once for each database; all others use SQLite."""
    if "backend" in metafunc.fixturenames and metafunc.definition.get_closest_marker("backend"):
        metafunc.parametrize("backend", BACKENDS, indirect=True)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real test files (``dicom/``, ``manifest.csv`` …); skips where it is missing."""
    folder = Path(os.environ.get("YUNYING_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "manifest.csv").is_file():
        pytest.skip(f"real test data is not at {folder} (set YUNYING_TEST_DATA)")
    return folder


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> str:
    """Which database this test runs on: `sqlite`, or also `postgresql` when marked `backend`."""
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def empty_settings(
    backend: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Settings]:
    """Settings of an empty data folder and an empty database."""
    plain = Settings(data=tmp_path / "data")
    if backend == "sqlite":
        yield plain
        return
    server: servers.PostgresqlServer = request.getfixturevalue("postgresql_server")
    with _FreshDatabase(server, "template1") as url:
        yield replace(plain, database=DatabaseSettings(url=url))


@pytest.fixture
def settings(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Settings]:
    """Settings of an empty data folder and a migrated database without rows."""
    plain = Settings(data=tmp_path / "data")
    if backend == "sqlite":
        template: Path = request.getfixturevalue("sqlite_template")
        plain.data.mkdir()
        shutil.copyfile(template, sqlite_file(plain))
        yield plain
        return
    server: servers.PostgresqlServer = request.getfixturevalue("postgresql_server")
    source: str = request.getfixturevalue("postgresql_template")
    with _FreshDatabase(server, source) as url:
        yield replace(plain, database=DatabaseSettings(url=url))


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    """A fresh migrated database, opened as the system's role."""
    opened = await Database.open(settings)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    plain = Settings(data=tmp_path_factory.mktemp("sqlite-template"))
    asyncio.run(upgrade(plain))
    return sqlite_file(plain)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[servers.PostgresqlServer]:
    """One real PostgreSQL for the whole run; skips where it is not installed."""
    try:
        with servers.postgresql_server() as server:
            yield server
    except servers.Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def postgresql_template(postgresql_server: servers.PostgresqlServer) -> str:
    """Name of a migrated database to copy."""
    name = "yunying_template"
    postgresql_server.run(f"CREATE DATABASE {name} OWNER yunying")
    url = postgresql_server.url(name)
    asyncio.run(upgrade(Settings(database=DatabaseSettings(url=url))))
    return name


@pytest.fixture(scope="session")
def s3_server() -> Iterator[servers.S3Server]:
    """One real S3 server for the whole run; skips where it is not installed."""
    try:
        with servers.s3_server() as server:
            yield server
    except servers.Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Headless Chromium; skips where it is not installed."""
    options = launch()
    async with async_playwright() as playwright:
        yield await playwright.chromium.launch(**options)


_numbers = itertools.count(1)


class _FreshDatabase:
    """A database for one test: copied from a template, dropped at the end."""

    def __init__(self, server: servers.PostgresqlServer, template: str) -> None:
        self._server = server
        self._template = template
        self._name = f"test_{next(_numbers)}"

    def __enter__(self) -> str:
        self._server.run(f"CREATE DATABASE {self._name} TEMPLATE {self._template} OWNER yunying")
        return self._server.url(self._name)

    def __exit__(self, *_: object) -> None:
        self._server.run(f"DROP DATABASE {self._name} WITH (FORCE)")
