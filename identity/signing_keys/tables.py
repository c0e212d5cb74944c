"""Signing keys. Private to `identity`."""

from sqlalchemy import Column, Table, Text

from kernel.db.base import UtcTime, metadata

# The private half is sealed (kernel.sealing): a copy of the database signs nothing.
signing_key = Table(
    "signing_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("public", Text, nullable=False),
    Column("private_sealed", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("signs_from", UtcTime, nullable=False),
    Column("published_until", UtcTime),
)
