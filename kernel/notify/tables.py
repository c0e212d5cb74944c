"""The outbox of short messages."""

from sqlalchemy import Column, Index, Integer, Table, Text

from kernel.db.base import BigKey, UtcTime, metadata

# Number and words are sealed (kernel.sealing); the words go once the message has been handed over.
# `request_id` and `address_digest` say what caused it.
sms_message = Table(
    "sms_message",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("purpose", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("address_digest", Text, nullable=False),
    Column("number_sealed", Text, nullable=False),
    Column("number_masked", Text, nullable=False),
    Column("words_sealed", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("provider_id", Text, nullable=False),
    Column("provider_code", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("sent_at", UtcTime),
    Column("reported_at", UtcTime),
    Index("ix_sms_message_provider_provider_id", "provider", "provider_id"),
    sqlite_autoincrement=True,
)
