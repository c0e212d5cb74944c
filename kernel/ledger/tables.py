"""Streams, their entries, and the sealed files that early entries went into."""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
)

from kernel.db.base import UtcTime, metadata

# `seq` and `hash` are the head; entries up to `base_seq` are in sealed files.
ledger_stream = Table(
    "ledger_stream",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("seq", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("base_seq", BigInteger, nullable=False),
    Column("base_hash", LargeBinary, nullable=False),
)

ledger_entry = Table(
    "ledger_entry",
    metadata,
    Column("stream_id", Integer, ForeignKey("ledger_stream.id"), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("ref", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("marks", LargeBinary, nullable=False),
    Column("sealed_at", UtcTime, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    PrimaryKeyConstraint("stream_id", "seq"),
)

ledger_volume = Table(
    "ledger_volume",
    metadata,
    Column("stream_id", Integer, ForeignKey("ledger_stream.id"), nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("last_hash", LargeBinary, nullable=False),
    Column("file", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("made_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("stream_id", "first_seq"),
)
