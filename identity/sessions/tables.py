"""Sessions. Private to `identity`."""

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Table, Text

from kernel.db.base import BigKey, UtcTime, metadata

# Only the hash of the token is kept. `stage` says how far signing in has come: a code is awaited, a
# password must be changed, or all is done. `amr` says by what, in the words of
# RFC 8176.
session = Table(
    "session",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("account_id", BigKey, ForeignKey("account.id"), nullable=False),
    Column("token_hash", Text, nullable=False, unique=True),
    Column("stage", Text, nullable=False),
    Column("amr", Text, nullable=False, server_default="pwd"),
    Column("created_at", UtcTime, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("peer", Text, nullable=False),
    Column("agent", Text, nullable=False),
    Column("ended_at", UtcTime),
    Column("ended_why", Text, nullable=False, server_default=""),
    CheckConstraint("stage IN ('code', 'password', 'full')", name="stage"),
    Index("ix_session_account_id_ended_at", "account_id", "ended_at"),
    Index("ix_session_ended_at", "ended_at"),
    sqlite_autoincrement=True,
)
