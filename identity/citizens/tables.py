"""Codes that were sent to phones. Private to `identity`."""

from sqlalchemy import Column, Index, Integer, Table, Text

from kernel.db.base import BigKey, UtcTime, metadata

# Neither number nor code can be read here: digests under a key (kernel.sealing), and the number
# sealed. `request_id` is known to the browser that asked, so nobody else can try its code.
citizen_code = Table(
    "citizen_code",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("request_id", Text, nullable=False, unique=True),
    Column("number_digest", Text, nullable=False),
    Column("number_sealed", Text, nullable=False),
    Column("code_digest", Text, nullable=False),
    Column("address_digest", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("attempted_at", UtcTime),
    Column("used_at", UtcTime),
    Index("ix_citizen_code_number_digest_created_at", "number_digest", "created_at"),
    Index("ix_citizen_code_address_digest_created_at", "address_digest", "created_at"),
    Index("ix_citizen_code_created_at", "created_at"),
    sqlite_autoincrement=True,
)
