"""Which committer goes with which database."""

from __future__ import annotations

from archive.index.commit_postgresql import PostgresCommitter
from archive.index.commit_sqlite import SqliteCommitter
from archive.index.durable import Committer
from kernel.db.database import Database


def open_committer(database: Database, node_id: str) -> Committer:
    """The committer for the database at hand."""
    if database.dialect == "sqlite":
        return SqliteCommitter(database, node_id)
    return PostgresCommitter(database, node_id)
