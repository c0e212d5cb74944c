"""An archive on a fresh data folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from archive.journal.domain import Receipt
from archive.query.service import Catalog
from archive.receive.service import Receiver
from archive.retrieve.service import Reader
from archive.settle.service import Settler
from archive.store.service import Stores, open_stores
from kernel.db.database import Database
from kernel.scope import Actor, Scope
from kernel.settings import Settings
from tests.archive.material import ORIGIN, Made

LOCAL = Scope(frozenset({1}), Actor("client", "test"), "test")


@dataclass(slots=True)
class Archive:
    """The parts of the archive that a test talks to."""

    settings: Settings
    database: Database
    receiver: Receiver
    reader: Reader
    catalog: Catalog
    settler: Settler
    stores: Stores

    async def store(self, *made: Made) -> list[Receipt]:
        """Receive instances one after the other."""
        return [await self.receiver.append(ORIGIN, one.identity, [one.data]) for one in made]

    async def settle(self) -> None:
        """Settle everything now."""
        while await self.settler.settle_due(everything=True):
            pass


@pytest.fixture
async def archive(settings: Settings, database: Database) -> AsyncIterator[Archive]:
    """An archive that keeps settled objects in local files."""
    stores = open_stores(settings)
    receiver = await Receiver.open(settings, database)
    yield Archive(
        settings,
        database,
        receiver,
        Reader(database, stores),
        Catalog(database),
        Settler(settings, database, stores),
        stores,
    )
    await receiver.close()
