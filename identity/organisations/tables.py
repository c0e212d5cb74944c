"""Organisations and their history. Private to `identity`."""

from sqlalchemy import Column, Date, ForeignKey, Index, Integer, Table, Text, text

from kernel.db.base import BigKey, UtcTime, metadata

_WITH_CODE = text("kind <> 'department'")

# Path and state are those of the `owner` row with the same number. Organisations are global: every
# tenant may know which ones there are.
organisation = Table(
    "organisation",
    metadata,
    Column("id", Integer, ForeignKey("owner.id"), primary_key=True, autoincrement=False),
    Column("parent_id", Integer, ForeignKey("organisation.id")),
    Column("kind", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("short_name", Text, nullable=False, server_default=""),
    Column("uscc", Text, unique=True),
    Column("institution_class", Text, nullable=False, server_default=""),
    Column("merged_into_id", Integer, ForeignKey("organisation.id")),
    Column("valid_from", Date),
    Column("valid_until", Date),
    Index(
        "uq_organisation_code",
        "code",
        unique=True,
        sqlite_where=_WITH_CODE,
        postgresql_where=_WITH_CODE,
    ),
)

# What an organisation was after each change; never changed itself.
organisation_version = Table(
    "organisation_version",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("organisation_id", Integer, ForeignKey("organisation.id"), nullable=False),
    Column("change", Text, nullable=False),
    Column("effective_on", Date, nullable=False),
    Column("recorded_at", UtcTime, nullable=False),
    Column("actor_kind", Text, nullable=False),
    Column("actor_id", Text, nullable=False),
    Column("body", Text, nullable=False),
    Index("ix_organisation_version_organisation_id_id", "organisation_id", "id"),
    sqlite_autoincrement=True,
)
