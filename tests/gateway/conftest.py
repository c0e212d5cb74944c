"""A DICOM server on a free port over a real archive on a fresh data folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from archive.query.service import Catalog
from archive.receive.service import Receiver
from archive.retrieve.service import Reader
from gateway.ae.service import add_ae
from gateway.server import Server, serve_dicom
from kernel.db.database import Database
from kernel.scope import Scope
from kernel.settings import DicomSettings, Settings

SYSTEM = Scope.system("test")


@dataclass(slots=True)
class Gateway:
    """A running server and what it stands on."""

    server: Server
    settings: Settings
    database: Database
    receiver: Receiver
    reader: Reader
    catalog: Catalog

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return self.server.port

    async def add_ae(self, title: str, port: int, charset: str = "") -> None:
        """Register a node on this machine."""
        async with self.database.session(SYSTEM, write=True) as session:
            await add_ae(session, title, "127.0.0.1", port, charset=charset)

    async def stored(self, sop_instance_uid: str) -> bytes:
        """The Part 10 file of an instance."""
        (found,) = await self.reader.find_any(SYSTEM, sop_uids=[sop_instance_uid])
        return await self.reader.read(found)


@pytest.fixture
def dicom_settings() -> DicomSettings:
    """Override in a module to run the server with other settings."""
    return DicomSettings()


@pytest.fixture
async def gateway(
    settings: Settings, database: Database, dicom_settings: DicomSettings
) -> AsyncIterator[Gateway]:
    """The server; nothing may be left of it at the end: no association and no taken buffer."""
    settings = replace(settings, dicom=replace(dicom_settings, bind="127.0.0.1:0"))
    receiver = await Receiver.open(settings, database)
    reader = await Reader.open(settings, database)
    catalog = await Catalog.open(database)
    server = await serve_dicom(settings, database, receiver, reader, catalog)
    yield Gateway(server, settings, database, receiver, reader, catalog)
    await server.close()
    await receiver.close()
    await reader.close()
    assert not server.services.sessions
    assert server.network.pool.taken == 0
