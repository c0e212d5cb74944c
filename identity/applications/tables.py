"""Registered applications. Private to `identity`."""

from sqlalchemy import Boolean, CheckConstraint, Column, Table, Text

from kernel.db.base import BigKey, UtcTime, metadata

# Lists are JSON. Only hashes of secrets are kept; the previous one counts until `previous_until`.
application = Table(
    "application",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("client_id", Text, nullable=False, unique=True),
    Column("name_zh", Text, nullable=False),
    Column("name_en", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("audience", Text, nullable=False),
    Column("first_party", Boolean, nullable=False),
    Column("redirect_uris", Text, nullable=False),
    Column("post_logout_uris", Text, nullable=False),
    Column("backchannel_uri", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("secret_hash", Text),
    Column("previous_hash", Text),
    Column("previous_until", UtcTime),
    CheckConstraint("kind IN ('confidential', 'public')", name="kind"),
    CheckConstraint("audience IN ('staff', 'citizen')", name="audience"),
    CheckConstraint("state IN ('active', 'disabled')", name="state"),
    sqlite_autoincrement=True,
)
