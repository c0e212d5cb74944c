"""The index's tables. Private to `archive`.

`instance` is the only table with a row per instance; its place is ``(pack_id, byte_offset,
byte_length)`` and everything about where a pack lives is in `pack` and `pack_copy`, so moving,
replicating or erasing touches no instance row. Times are milliseconds since 1970 UTC. Text that is
matched by range carries the C collation on PostgreSQL: under row-level security ``LIKE 'x%'`` can
not use an index, a range can. Ids that writers remember are never given twice, so a row that was
deleted is noticed (``sqlite_autoincrement``; PostgreSQL's sequences never go back).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
    text,
)

from kernel.db.base import metadata

Key = String().with_variant(String(collation="C"), "postgresql")
Id = BigInteger().with_variant(Integer, "sqlite")


def _id() -> Column[int]:
    return Column("id", Id, primary_key=True, autoincrement=True)


def _owner() -> Column[int]:
    return Column("owner_id", Integer, ForeignKey("owner.id"), nullable=False)


def _text(name: str) -> Column[str]:
    return Column(name, Key, nullable=False, server_default=text("''"))


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


def _flag(name: str, comment: str) -> Column[int]:
    return Column(name, SmallInteger, nullable=False, server_default=text("0"), comment=comment)


uid_code = Table(
    "uid_code",
    metadata,
    _id(),
    Column("uid", Key, nullable=False, unique=True),
    comment="SOP Class and Transfer Syntax UIDs, each once",
)

person_name = Table(
    "person_name",
    metadata,
    _id(),
    Column("display", Key, nullable=False, unique=True),
    _text("folded"),
    _text("hanzi"),
    _text("pinyin"),
    _text("initials"),
    Index("ix_person_name_folded", "folded"),
    Index("ix_person_name_hanzi", "hanzi"),
    Index("ix_person_name_pinyin", "pinyin"),
    Index("ix_person_name_initials", "initials"),
    comment="distinct person names with the keys they are found by",
)

name_gram = Table(
    "name_gram",
    metadata,
    Column("gram", Key, primary_key=True),
    Column("name_id", Id, ForeignKey("person_name.id"), primary_key=True),
    sqlite_with_rowid=False,
    comment="one- and two-character pieces of ideographic names, for infix search",
)

patient = Table(
    "patient",
    metadata,
    _id(),
    _owner(),
    _text("issuer"),
    _text("patient_id"),
    Column(
        "unidentified",
        Key,
        nullable=False,
        server_default=text("''"),
        comment="Study Instance UID where Patient ID is empty: such patients are never merged",
    ),
    Column("name_id", Id, ForeignKey("person_name.id"), nullable=False),
    _text("birth_date"),
    _text("sex"),
    Column("attrs", String, nullable=False),
    UniqueConstraint("owner_id", "patient_id", "issuer", "unidentified"),
    Index("ix_patient_name_id", "name_id"),
    Index("ix_patient_patient_id", "patient_id", "id"),
    sqlite_autoincrement=True,
)

merged_patient = Table(
    "merged_patient",
    metadata,
    _id(),
    _owner(),
    _text("issuer"),
    _text("patient_id"),
    _text("into_issuer"),
    _text("into_patient_id"),
    Column("attrs", String, nullable=False, comment="what all studies say of the patient then"),
    _number("decided_ms"),
    UniqueConstraint("owner_id", "patient_id", "issuer"),
    Index("ix_merged_patient_into", "owner_id", "into_patient_id", "into_issuer"),
    comment="patients whose studies answer under another one, by decisions",
)

study = Table(
    "study",
    metadata,
    _id(),
    _owner(),
    Column("patient_fk", Id, ForeignKey("patient.id"), nullable=False),
    Column("study_instance_uid", Key, nullable=False),
    Column("name_id", Id, ForeignKey("person_name.id"), nullable=False),
    Column("referring_name_id", Id, ForeignKey("person_name.id"), nullable=False),
    _text("study_date"),
    _text("study_time"),
    _text("accession_number"),
    _text("study_id"),
    _text("description"),
    Column("attrs", String, nullable=False, comment="DICOM JSON of the first values received"),
    Column("first_attrs", String, comment="as received, where corrected"),
    _number("first_received_ms"),
    _number("last_received_ms"),
    _number("settled_ms"),
    _number("settlements"),
    _number("overlay_version"),
    _flag("corrected", "1: some element of some instance goes out changed"),
    _flag("rejected", "2: the whole study, 1: something in it"),
    _flag("chosen", "1: another version than the first is shown of some instance"),
    Column(
        "sensitivity",
        Key,
        nullable=False,
        server_default=text("''"),
        comment="sensitive kinds of data, joined by commas: who may not see them sees no name",
    ),
    UniqueConstraint("owner_id", "study_instance_uid"),
    Index("ix_study_owner_date", "owner_id", "study_date", "id"),
    Index("ix_study_date", "study_date", "id"),
    Index("ix_study_uid", "study_instance_uid"),
    Index("ix_study_accession", "accession_number", "owner_id"),
    Index("ix_study_patient", "patient_fk"),
    Index("ix_study_name", "name_id"),
    Index("ix_study_referring_name", "referring_name_id"),
    Index(
        "ix_study_unsettled",
        "last_received_ms",
        sqlite_where=text("settled_ms = 0"),
        postgresql_where=text("settled_ms = 0"),
    ),
    sqlite_autoincrement=True,
)

series = Table(
    "series",
    metadata,
    _id(),
    _owner(),
    Column("study_fk", Id, ForeignKey("study.id"), nullable=False),
    Column("series_instance_uid", Key, nullable=False),
    _text("modality"),
    Column("series_number", BigInteger),
    _text("description"),
    _text("body_part"),
    _text("pps_date"),
    _text("pps_time"),
    Column("attrs", String, nullable=False),
    Column("first_attrs", String, comment="as received, where corrected"),
    _flag("rejected", "1: hidden by a decision about the series"),
    _number("instances"),
    _number("bytes"),
    _number("unsettled"),
    _number("unsettled_since_ms"),
    _number("last_received_ms"),
    Column("metadata_pack_id", Id, ForeignKey("pack.id")),
    _number("pack_version"),
    UniqueConstraint("study_fk", "series_instance_uid"),
    Index("ix_series_uid", "series_instance_uid", "owner_id"),
    Index("ix_series_metadata_pack", "metadata_pack_id"),
    Index(
        "ix_series_unsettled",
        "last_received_ms",
        sqlite_where=text("unsettled > 0"),
        postgresql_where=text("unsettled > 0"),
    ),
    sqlite_autoincrement=True,
)

instance = Table(
    "instance",
    metadata,
    _id(),
    _owner(),
    Column("series_fk", Id, ForeignKey("series.id"), nullable=False),
    Column("sop_instance_uid", Key, nullable=False),
    Column("sop_class_id", Integer, ForeignKey("uid_code.id"), nullable=False),
    Column("transfer_syntax_id", Integer, ForeignKey("uid_code.id"), nullable=False),
    Column("instance_number", BigInteger),
    Column("frames", Integer, nullable=False),
    Column("rows", Integer),
    Column("columns", Integer),
    Column("bits_allocated", Integer),
    Column("pack_id", Id, ForeignKey("pack.id"), nullable=False),
    Column("byte_offset", BigInteger, nullable=False),
    Column("byte_length", BigInteger, nullable=False),
    Column("batch_id", BigInteger, nullable=False, comment="the commit batch's event"),
    _number("received_ms"),
    _flag("rejected", "1: hidden by a decision about the instance"),
    Column("version_fk", Id, comment="the version that is shown instead of this first one"),
    UniqueConstraint("owner_id", "sop_instance_uid"),
    Index("ix_instance_series", "series_fk", "instance_number"),
    Index("ix_instance_pack", "pack_id"),
    Index(
        "ix_instance_rejected",
        "series_fk",
        sqlite_where=text("rejected = 1"),
        postgresql_where=text("rejected = 1"),
    ),
    sqlite_autoincrement=True,
)

instance_version = Table(
    "instance_version",
    metadata,
    _id(),
    _owner(),
    Column("instance_fk", Id, ForeignKey("instance.id"), nullable=False),
    Column("sop_class_id", Integer, ForeignKey("uid_code.id"), nullable=False),
    Column("transfer_syntax_id", Integer, ForeignKey("uid_code.id"), nullable=False),
    Column("pack_id", Id, ForeignKey("pack.id"), nullable=False),
    Column("byte_offset", BigInteger, nullable=False),
    Column("byte_length", BigInteger, nullable=False),
    _text("relation"),
    _text("study_instance_uid"),
    _text("series_instance_uid"),
    _text("source"),
    _number("received_ms"),
    _number("compared_ms"),
    Index("ix_instance_version_instance", "instance_fk"),
    Index("ix_instance_version_pack", "pack_id"),
    Index(
        "ix_instance_version_pending",
        "id",
        sqlite_where=text("compared_ms = 0"),
        postgresql_where=text("compared_ms = 0"),
    ),
    comment="the same SOP Instance UID received again with other bytes",
)

quarantine = Table(
    "quarantine",
    metadata,
    _id(),
    _owner(),
    _text("reason"),
    _text("detail"),
    _text("via"),
    _text("source"),
    _text("sop_class_uid"),
    _text("sop_instance_uid"),
    _text("transfer_syntax_uid"),
    Column("checksum", LargeBinary(16), nullable=False),
    Column("pack_id", Id, ForeignKey("pack.id"), nullable=False),
    Column("byte_offset", BigInteger, nullable=False),
    Column("byte_length", BigInteger, nullable=False),
    _number("received_ms"),
    UniqueConstraint("owner_id", "checksum"),
    Index("ix_quarantine_pack", "pack_id"),
    comment="what arrived and could not be indexed, with the reason; bytes kept",
)

mismatch = Table(
    "mismatch",
    metadata,
    _id(),
    _owner(),
    Column("study_fk", Id, ForeignKey("study.id"), nullable=False),
    _text("kind"),
    _text("series_instance_uid"),
    _text("sop_instance_uid"),
    _text("stored"),
    _text("received"),
    _number("noted_ms"),
    UniqueConstraint("study_fk", "kind", "series_instance_uid", "received"),
    comment="contradictions between instances that claim to belong together",
)

pack = Table(
    "pack",
    metadata,
    _id(),
    Column("kind", Key, nullable=False, comment="journal | pack | metadata"),
    Column("state", Key, nullable=False, comment="writing | live | dying"),
    Column("owner_id", Integer, ForeignKey("owner.id")),
    Column("series_fk", Id),
    _number("bytes"),
    Column("sha256", LargeBinary(32)),
    _number("created_ms"),
    _number("lease_ms"),
    _number("dying_ms"),
    Index("ix_pack_state", "state", "kind"),
    Index("ix_pack_series", "series_fk"),
    sqlite_autoincrement=True,
)

pack_copy = Table(
    "pack_copy",
    metadata,
    Column("pack_id", Id, ForeignKey("pack.id"), primary_key=True),
    Column("store", Key, primary_key=True, comment="journal | files | s3"),
    Column("key", Key, nullable=False),
    _text("node_id"),
    Column("state", Key, nullable=False, comment="good | damaged"),
    _number("verified_ms"),
    UniqueConstraint("store", "key"),
)

node = Table(
    "node",
    metadata,
    Column("id", Key, primary_key=True),
    Column("address", Key, nullable=False, comment="HOST:PORT of its internal listener"),
    _number("seen_ms"),
    comment="machines that other machines can ask for their journal, and when they were last up",
)

decision = Table(
    "decision",
    metadata,
    _id(),
    _owner(),
    _text("kind"),
    _text("actor"),
    _text("reason"),
    _text("study_instance_uid"),
    _text("series_instance_uid"),
    _text("sop_instance_uid"),
    Column("detail", String, nullable=False, server_default=text("'{}'")),
    _number("decided_ms"),
    Column("log_key", Key, comment="the log object that holds it; empty until appended"),
    Index("ix_decision_study", "owner_id", "study_instance_uid"),
    Index("ix_decision_decided", "decided_ms"),
    Index(
        "ix_decision_unlogged",
        "id",
        sqlite_where=text("log_key IS NULL"),
        postgresql_where=text("log_key IS NULL"),
    ),
    comment="what people and policies decided about stored data",
)
