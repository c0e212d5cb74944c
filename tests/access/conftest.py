"""The region that tests of access ask."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kernel.db.database import Database
from kernel.settings import Settings
from tests.access.region import Region, serve_region


@pytest.fixture
async def region(settings: Settings, database: Database) -> AsyncIterator[Region]:
    """A region with tenants, served."""
    async with serve_region(settings, database) as served:
        yield served
