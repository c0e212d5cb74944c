"""Jobs: one row from the request to the result."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    text,
)

from kernel.db.base import BigKey, UtcTime, metadata

_LIVE = "state IN ('queued', 'running') AND key <> ''"

job = Table(
    "job",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("args", Text, nullable=False),
    Column("owner_id", Integer, ForeignKey("owner.id"), nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", UtcTime, nullable=False),
    Column("holder", Text, nullable=False),
    Column("lease_until", UtcTime),
    Column("cancel_asked", Boolean, nullable=False),
    Column("done", BigInteger, nullable=False),
    Column("total", BigInteger),
    Column("note", Text, nullable=False),
    Column("result", Text, nullable=False),
    Column("error_code", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("started_at", UtcTime),
    Column("finished_at", UtcTime),
    Index("ix_job_state_due_at", "state", "due_at"),
    Index(
        "uq_job_live_key",
        "kind",
        "key",
        unique=True,
        sqlite_where=text(_LIVE),
        postgresql_where=text(_LIVE),
    ),
    sqlite_autoincrement=True,
)
