"""API clients. Private to `identity`."""

from sqlalchemy import Column, ForeignKey, Integer, Table, Text

from kernel.db.base import BigKey, UtcTime, metadata

# Only hashes of secrets are kept; the previous one counts until `previous_until` after a rotation.
api_client = Table(
    "api_client",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("name", Text, nullable=False),
    Column("account_id", BigKey, ForeignKey("account.id")),
    Column("organisation_id", Integer, ForeignKey("organisation.id")),
    Column("permissions", Text, nullable=False),
    Column("networks", Text, nullable=False),
    Column("expires_at", UtcTime),
    Column("revoked_at", UtcTime),
    Column("created_at", UtcTime, nullable=False),
    Column("secret_hash", Text, nullable=False, unique=True),
    Column("previous_hash", Text),
    Column("previous_until", UtcTime),
    sqlite_autoincrement=True,
)
