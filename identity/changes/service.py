"""Counting changes of rights in the transaction that makes them, and waking every process."""

from collections.abc import Mapping
from typing import Literal

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity.changes.tables import access_version
from kernel.db.database import Database, after_commit
from kernel.db.statement import Statement

# `rights`: organisations, roles, grants, accounts, clients, keys. `revocation`: what a process may
# have cached and must forget: sessions and capabilities.
Subject = Literal["rights", "revocation"]

_VERSIONS = Statement(select(access_version.c.subject, access_version.c.version))


async def touch(session: AsyncSession, subject: Subject) -> None:
    """Count a change; every process looks again once the transaction has committed."""
    await session.execute(
        update(access_version)
        .where(access_version.c.subject == subject)
        .values(version=access_version.c.version + 1)
    )
    after_commit(session, session.info["ring"])


async def versions(database: Database) -> Mapping[str, int]:
    """The counts, by subject."""
    return dict(tuple(row) for row in await database.fetch(_VERSIONS, {}))
