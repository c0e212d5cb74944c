"""Known application entities. Private to ``gateway.ae``."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Integer, Table, Text

from kernel.db.base import UtcTime, metadata

# An AE title is all that tells one node of the network from another, so it is unique across owners;
# `owner_id` owns what this node sends and bounds what it may ask for.
ae = Table(
    "ae",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("owner_id", Integer, ForeignKey("owner.id"), nullable=False),
    Column("title", Text, nullable=False, unique=True),
    Column("host", Text, nullable=False),
    Column("port", Integer, nullable=False),
    Column("charset", Text, nullable=False, server_default=""),
    Column("state", Text, nullable=False, server_default="active"),
    Column("created_at", UtcTime, nullable=False),
    Column("same_uid", Text, nullable=False, server_default="first"),
    CheckConstraint("port BETWEEN 1 AND 65535", name="port"),
    CheckConstraint("state IN ('active', 'suspended')", name="state"),
)
