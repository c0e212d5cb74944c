"""What tests of identity share."""

from __future__ import annotations

import pytest

from kernel.db.database import Database
from tests.identity.places import Places, make_places


@pytest.fixture
async def places(database: Database) -> Places:
    """Two counties with hospitals."""
    return await make_places(database)
