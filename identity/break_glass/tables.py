"""Emergency accesses and their reviews. Private to `identity`."""

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, Table, Text

from kernel.db.base import BigKey, UtcTime, metadata

break_glass = Table(
    "break_glass",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("account_id", BigKey, ForeignKey("account.id"), nullable=False),
    Column("organisation_id", Integer, ForeignKey("organisation.id"), nullable=False),
    Column("study_instance_uid", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("opened_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("reviewed_at", UtcTime),
    Column("reviewed_by", BigKey, ForeignKey("account.id")),
    Column("verdict", Text, nullable=False, server_default=""),
    Column("comment", Text, nullable=False, server_default=""),
    CheckConstraint("verdict IN ('', 'justified', 'unjustified')", name="verdict"),
    Index("ix_break_glass_expires_at", "expires_at"),
    Index("ix_break_glass_organisation_id_reviewed_at", "organisation_id", "reviewed_at"),
    sqlite_autoincrement=True,
)
