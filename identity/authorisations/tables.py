"""Authorisations, their codes and tokens, and consents. Private to `identity`."""

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, PrimaryKeyConstraint, Table, Text

from kernel.db.base import BigKey, UtcTime, metadata

# One row for each time that a person was led back to an application: the family of its tokens.
# `begun_at` is when the application took its code. It counts while its session lasts.
authorisation = Table(
    "authorisation",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("application_id", BigKey, ForeignKey("application.id"), nullable=False),
    Column("session_id", BigKey, ForeignKey("session.id", ondelete="CASCADE"), nullable=False),
    Column("account_id", BigKey, ForeignKey("account.id"), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("sid", Text, nullable=False),
    Column("issuer", Text, nullable=False),
    Column("nonce", Text, nullable=False),
    Column("auth_time", UtcTime, nullable=False),
    Column("amr", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("begun_at", UtcTime),
    Column("ended_at", UtcTime),
    Column("ended_why", Text, nullable=False, server_default=""),
    Index("ix_authorisation_session_id", "session_id"),
    Index("ix_authorisation_application_id", "application_id"),
    sqlite_autoincrement=True,
)

authorisation_code = Table(
    "authorisation_code",
    metadata,
    Column("code_hash", Text, primary_key=True),
    Column(
        "authorisation_id",
        BigKey,
        ForeignKey("authorisation.id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("redirect_uri", Text, nullable=False),
    Column("challenge", Text, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("used_at", UtcTime),
    Index("ix_authorisation_code_authorisation_id", "authorisation_id"),
)

# Only hashes of tokens are kept. A refresh token is used once; its row stays to know it again.
authorisation_token = Table(
    "authorisation_token",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column(
        "authorisation_id",
        BigKey,
        ForeignKey("authorisation.id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("kind", Text, nullable=False),
    Column("token_hash", Text, nullable=False, unique=True),
    Column("scopes", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("used_at", UtcTime),
    CheckConstraint("kind IN ('access', 'refresh')", name="kind"),
    Index("ix_authorisation_token_authorisation_id", "authorisation_id"),
    Index("ix_authorisation_token_expires_at", "expires_at"),
    sqlite_autoincrement=True,
)

consent = Table(
    "consent",
    metadata,
    Column("account_id", BigKey, ForeignKey("account.id"), nullable=False),
    Column("application_id", BigKey, ForeignKey("application.id"), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("given_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("account_id", "application_id"),
)
