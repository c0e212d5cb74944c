"""Keys that seal capabilities, and those that were revoked. Private to `identity`."""

from sqlalchemy import Column, Index, Table, Text

from kernel.db.base import UtcTime, metadata

capability_key = Table(
    "capability_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("secret", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("retired_at", UtcTime),
)

# `until` is when the token would have ended anyway and the row may go.
capability_revocation = Table(
    "capability_revocation",
    metadata,
    Column("id", Text, primary_key=True),
    Column("revoked_at", UtcTime, nullable=False),
    Column("until", UtcTime, nullable=False),
    Column("revoked_by", Text, nullable=False),
    Index("ix_capability_revocation_until", "until"),
)
