"""Owners that stored objects name and the database does not know."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import column, insert, select, table, text

from kernel.db.database import Database
from kernel.scope import Scope

_SCOPE = Scope.system("rebuild")
_OWNER = table("owner", column("id"), column("path"), column("state"))
_NEXT = text("SELECT nextval(pg_get_serial_sequence('owner', 'id'))")


async def ensure_owners(database: Database, owner_ids: Collection[int]) -> list[int]:
    """Make a nameless row for each owner without one; returns those.

    Who they are is not in the packs: an administrator gives the rows their paths.
    """
    async with database.session(_SCOPE) as session:
        known = set((await session.scalars(select(_OWNER.c.id))).all())
    missing = sorted(set(owner_ids) - known)
    if not missing:
        return []
    async with database.session(_SCOPE, write=True) as session:
        for owner_id in missing:
            row = {"id": owner_id, "path": f"/unknown/{owner_id}", "state": "active"}
            await session.execute(insert(_OWNER).values(row))
        if database.dialect == "postgresql":
            while int(await session.scalar(_NEXT) or 0) < missing[-1]:
                pass  # the next owner made must not get a number that is taken
    return missing
