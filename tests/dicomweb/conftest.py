"""A DICOMweb server on a free port over a real archive, and a client of it."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from archive.decisions.service import Desk
from archive.query.service import Catalog
from archive.receive.service import Receiver
from archive.retrieve.service import Reader
from archive.settle.service import Settler
from archive.store.service import open_stores
from archive.versions.service import compare_pending
from dicomweb import routes
from dicomweb.browse import routes as browse
from dicomweb.pixels.pool import Limits
from kernel.db.database import Database
from kernel.scope import Actor, Scope
from kernel.settings import Settings
from kernel.web.app import make_app
from kernel.web.guard import GUARD


class OpenGuard:
    """Everybody may do everything with the data of some owners."""

    def __init__(self) -> None:
        self.owners = frozenset({1})
        self.asked: list[str] = []

    async def authorise(self, request: web.Request, permission: str) -> Scope:
        """The scope of a test client."""
        self.asked.append(permission)
        return Scope(self.owners, Actor("client", "test"), "test")


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    json: Any

    def parts(self) -> list[tuple[dict[str, str], bytes]]:
        """The parts of a multipart answer, split as simply as an old client does it."""
        content_type = self.headers["Content-Type"]
        assert content_type.startswith("multipart/related; type="), content_type
        marker = b"\r\n--" + content_type.rpartition("boundary=")[2].strip('"').encode()
        _, *rest, tail = self.body.split(marker)
        assert tail.startswith(b"--"), tail[:20]
        parts = []
        for raw in rest:
            head, _, content = raw.partition(b"\r\n\r\n")
            lines = [line.split(": ", 1) for line in head.decode().strip().split("\r\n")]
            parts.append(({name.lower(): value for name, value in lines}, content))
        return parts


class Client:
    """Talks to the server under test; `root` is the DICOMweb root."""

    def __init__(
        self, session: aiohttp.ClientSession, root: str, guard: OpenGuard, settler: Settler
    ) -> None:
        self.session = session
        self.root = root
        self.guard = guard
        self._settler = settler

    async def get(self, path: str, accept: str | None = None, **headers: str) -> Answer:
        """GET below the root; gzip is not undone."""
        if accept is not None:
            headers["Accept"] = accept
        async with self.session.get(self.root + path, headers=headers) as response:
            return await _answer(response)

    async def stow(
        self,
        *files: bytes,
        study: str | None = None,
        boundary: str = "zz top",
        part_type: str = "application/dicom",
        body: bytes | None = None,
        content_type: str | None = None,
    ) -> Answer:
        """POST files as multipart/related."""
        if body is None:
            body = multipart(files, boundary, part_type)
        if content_type is None:
            content_type = f'multipart/related; type="application/dicom"; boundary="{boundary}"'
        path = "/studies" if study is None else f"/studies/{study}"
        headers = {"Content-Type": content_type, "Accept": "application/dicom+json"}
        async with self.session.post(
            self.root + path, data=io.BytesIO(body), headers=headers
        ) as response:
            return await _answer(response)

    async def post(self, path: str, body: Any) -> Answer:
        """POST JSON to an address of the server."""
        async with self.session.post(self.root.replace("/dicom-web", path), json=body) as response:
            return await _answer(response)

    async def compare(self) -> None:
        """Compare what came again."""
        while await compare_pending(self._settler._database, self._settler._stores):
            pass

    async def settle(self) -> None:
        """Settle everything now."""
        while await self._settler.settle_due(everything=True):
            pass


def multipart(files: Sequence[bytes], boundary: str, part_type: str = "application/dicom") -> bytes:
    """A multipart body, written independently of the code under test."""
    head = f"\r\n--{boundary}\r\nContent-Type: {part_type}\r\n\r\n".encode()
    return b"".join(head + file for file in files) + f"\r\n--{boundary}--\r\n".encode()


async def _answer(response: aiohttp.ClientResponse) -> Answer:
    body = await response.read()
    content = gzip.decompress(body) if "Content-Encoding" in response.headers else body
    is_json = "json" in response.headers.get("Content-Type", "")
    parsed = json.loads(content) if is_json and content else None
    return Answer(response.status, response.headers, body, parsed)


@pytest.fixture
async def client(settings: Settings, database: Database) -> AsyncIterator[Client]:
    """A client of a running server with an empty archive."""
    stores = open_stores(settings)
    receiver = await Receiver.open(settings, database)
    guard = OpenGuard()
    settler = Settler(settings, database, stores)
    app = make_app(settings)
    app[GUARD] = guard
    routes.setup(
        app,
        receiver=receiver,
        reader=Reader(database, stores),
        catalog=Catalog(database),
        desk=Desk(database, stores, settler),
        limits=Limits(workers=1),
    )
    browse.setup(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield Client(session, f"http://{host}:{port}/dicom-web", guard, settler)
    await runner.cleanup()
    await receiver.close()
