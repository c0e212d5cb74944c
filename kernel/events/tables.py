"""Events, the counter that numbers them, and how far each subscriber is."""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

from kernel.db.base import BigKey, UtcTime, metadata

# `seq` is given after commit by one sequencer, so a reader that has seen n has seen all up to n.
event = Table(
    "event",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("seq", BigInteger, unique=True),
    Column("topic", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("owner_id", Integer, ForeignKey("owner.id"), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Index(
        "ix_event_unnumbered",
        "id",
        sqlite_where=text("seq IS NULL"),
        postgresql_where=text("seq IS NULL"),
    ),
    sqlite_autoincrement=True,
)

event_counter = Table(
    "event_counter",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("last_seq", BigInteger, nullable=False),
)

event_subscriber = Table(
    "event_subscriber",
    metadata,
    Column("name", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("holder", Text, nullable=False),
    Column("lease_until", UtcTime, nullable=False),
)

# Only events that a subscriber could not handle at once: `waiting` for the next attempt or `dead`.
event_delivery = Table(
    "event_delivery",
    metadata,
    Column("subscriber", Text, ForeignKey("event_subscriber.name"), nullable=False),
    Column("event_id", BigKey, ForeignKey("event.id"), nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", UtcTime, nullable=False),
    Column("error", Text, nullable=False),
    PrimaryKeyConstraint("subscriber", "event_id"),
)
