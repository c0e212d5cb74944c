"""The audit table, and how far the per-process read files were taken in."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, Table, Text, text

from kernel.db.base import BigKey, UtcTime, metadata

# `seq` is the row's number in the ledger; NULL until it is sealed. `fold_key` is NULL from then on.
audit = Table(
    "audit",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("actor_kind", Text, nullable=False),
    Column("actor_id", Text, nullable=False),
    Column("peer", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("owner_id", Integer, ForeignKey("owner.id")),
    Column("study_instance_uid", Text, nullable=False),
    Column("refs", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("fold_key", Text, unique=True),
    Column("seq", BigInteger),
    Index("uq_audit_seq", "seq", unique=True),
    Index(
        "ix_audit_unsealed",
        "id",
        sqlite_where=text("seq IS NULL"),
        postgresql_where=text("seq IS NULL"),
    ),
    Index("ix_audit_at", "at"),
    Index("ix_audit_study_instance_uid_at", "study_instance_uid", "at"),
    Index("ix_audit_actor_kind_actor_id_at", "actor_kind", "actor_id", "at"),
    sqlite_autoincrement=True,
)

audit_file = Table(
    "audit_file",
    metadata,
    Column("name", Text, primary_key=True),
    Column("offset", BigInteger, nullable=False),
)

# Up to which number each reader of the sealed rows is: a repository, the rules of abnormal use.
audit_feed = Table(
    "audit_feed",
    metadata,
    Column("name", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
)

audit_finding = Table(
    "audit_finding",
    metadata,
    Column("id", BigKey, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("rule", Text, nullable=False),
    Column("actor_kind", Text, nullable=False),
    Column("actor_id", Text, nullable=False),
    Column("owner_id", Integer, ForeignKey("owner.id")),
    Column("began_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime, nullable=False),
    Column("found_at", UtcTime, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("most", BigInteger, nullable=False),
    Column("facts", Text, nullable=False),
    Column("acknowledged_at", UtcTime),
    Column("acknowledged_by", Text, nullable=False),
    Column("note", Text, nullable=False),
    Index("ix_audit_finding_found_at", "found_at"),
    sqlite_autoincrement=True,
)
