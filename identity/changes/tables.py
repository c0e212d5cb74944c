"""How often rights have changed. Private to `identity`."""

from sqlalchemy import BigInteger, Column, Table, Text

from kernel.db.base import metadata

# One row for each `Subject` of `identity.changes.service`; a process that sees a new number reads.
access_version = Table(
    "access_version",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
)
