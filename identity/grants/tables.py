"""Grants, and roles that an installation has made itself. Private to `identity`."""

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, Table, Text

from kernel.db.base import BigKey, UtcTime, metadata

role = Table(
    "role",
    metadata,
    Column("code", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("permissions", Text, nullable=False),
    Column("delegates", Text, nullable=False),
)

# A row is never changed but for its withdrawal: what was granted when can always be answered.
role_grant = Table(
    "role_grant",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("subject_kind", Text, nullable=False),
    Column("subject_id", BigKey, nullable=False),
    Column("role", Text, nullable=False),
    Column("organisation_id", Integer, ForeignKey("organisation.id")),
    Column("valid_from", UtcTime, nullable=False),
    Column("valid_until", UtcTime),
    Column("reason", Text, nullable=False),
    Column("granted_at", UtcTime, nullable=False),
    Column("granted_by", Text, nullable=False),
    Column("withdrawn_at", UtcTime),
    Column("withdrawn_by", Text, nullable=False, server_default=""),
    CheckConstraint("subject_kind IN ('account', 'client')", name="subject_kind"),
    Index("ix_role_grant_subject_kind_subject_id", "subject_kind", "subject_id"),
    Index("ix_role_grant_withdrawn_at", "withdrawn_at"),
    sqlite_autoincrement=True,
)
