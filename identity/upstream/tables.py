"""Whom people from elsewhere are here, and their sessions. Private to `identity`."""

from sqlalchemy import Column, ForeignKey, Index, PrimaryKeyConstraint, Table, Text

from kernel.db.base import BigKey, UtcTime, metadata

upstream_identity = Table(
    "upstream_identity",
    metadata,
    Column("issuer", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("account_id", BigKey, ForeignKey("account.id"), nullable=False),
    Column("linked_at", UtcTime, nullable=False),
    Column("linked_by", Text, nullable=False),
    PrimaryKeyConstraint("issuer", "subject"),
    Index("ix_upstream_identity_account_id", "account_id"),
)

# The ID token is sealed (kernel.sealing); it is shown to its issuer when signing out.
upstream_session = Table(
    "upstream_session",
    metadata,
    Column(
        "session_id",
        BigKey,
        ForeignKey("session.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("issuer", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("sid", Text, nullable=False),
    Column("id_token_sealed", Text, nullable=False),
    Index("ix_upstream_session_issuer_sid", "issuer", "sid"),
)
