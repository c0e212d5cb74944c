"""Accounts and their secrets. Private to `identity`."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
)

from kernel.db.base import BigKey, UtcTime, metadata

account = Table(
    "account",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("login", Text, nullable=False, unique=True),
    Column("display_name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("organisation_id", Integer, ForeignKey("organisation.id")),
    Column("title", Text, nullable=False, server_default=""),
    Column("licence_number", Text, nullable=False, server_default=""),
    Column("licence_until", Date),
    Column("practice_scope", Text, nullable=False, server_default=""),
    Column("phone", Text, nullable=False, server_default=""),
    Column("networks", Text, nullable=False, server_default=""),
    Column("created_at", UtcTime, nullable=False),
    CheckConstraint("state IN ('active', 'suspended', 'left')", name="state"),
    CheckConstraint("kind IN ('staff', 'citizen')", name="kind"),
    Index("ix_account_organisation_id", "organisation_id"),
    sqlite_autoincrement=True,
)

# What must never be shown; whoever serves people with `yy_app` cannot read it on PostgreSQL.
# `attempts` counts passwords and codes tried since the last right one.
account_secret = Table(
    "account_secret",
    metadata,
    Column("account_id", BigKey, ForeignKey("account.id"), primary_key=True, autoincrement=False),
    Column("password_hash", Text, nullable=False),
    Column("changed_at", UtcTime, nullable=False),
    Column("must_change", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("last_attempt_at", UtcTime, nullable=False),
    Column("totp_secret", Text, nullable=False, server_default=""),
    Column("totp_confirmed", Boolean, nullable=False),
    Column("totp_last_step", BigInteger, nullable=False),
)

password_history = Table(
    "password_history",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("account_id", BigKey, ForeignKey("account.id"), nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("replaced_at", UtcTime, nullable=False),
    Index("ix_password_history_account_id_id", "account_id", "id"),
    sqlite_autoincrement=True,
)

recovery_code = Table(
    "recovery_code",
    metadata,
    Column("account_id", BigKey, ForeignKey("account.id"), nullable=False),
    Column("code_hash", Text, nullable=False),
    PrimaryKeyConstraint("account_id", "code_hash"),
)
