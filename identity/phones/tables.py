"""Phone numbers that were proven by a code. Private to `identity`."""

from sqlalchemy import Column, ForeignKey, Table, Text

from kernel.db.base import BigKey, UtcTime, metadata

# `digest` finds a number without showing it, `sealed` is the number itself (kernel.sealing).
citizen_phone = Table(
    "citizen_phone",
    metadata,
    Column("account_id", BigKey, ForeignKey("account.id"), primary_key=True, autoincrement=False),
    Column("digest", Text, nullable=False, unique=True),
    Column("sealed", Text, nullable=False),
    Column("proven_at", UtcTime, nullable=False),
)
