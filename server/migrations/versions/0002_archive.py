"""The archive's index: patients, studies, series, instances, packs, decisions.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

from server.migrations.roles import restrict_rows

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")
OWNED = (
    "patient",
    "study",
    "series",
    "instance",
    "instance_version",
    "quarantine",
    "mismatch",
    "decision",
)


def upgrade() -> None:
    op.create_table(
        "node",
        sa.Column("id", KEY, nullable=False),
        sa.Column("address", KEY, nullable=False, comment="HOST:PORT of its internal listener"),
        sa.Column("seen_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_node"),
        comment="machines that other machines can ask for their journal, and when they were last up",
    )
    op.create_table(
        "person_name",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("display", KEY, nullable=False),
        sa.Column("folded", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("hanzi", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("pinyin", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("initials", KEY, server_default=sa.text("''"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_person_name"),
        sa.UniqueConstraint("display", name="uq_person_name_display"),
        comment="distinct person names with the keys they are found by",
    )
    op.create_index("ix_person_name_folded", "person_name", ["folded"], unique=False)
    op.create_index("ix_person_name_hanzi", "person_name", ["hanzi"], unique=False)
    op.create_index("ix_person_name_initials", "person_name", ["initials"], unique=False)
    op.create_index("ix_person_name_pinyin", "person_name", ["pinyin"], unique=False)
    op.create_table(
        "uid_code",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("uid", KEY, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_uid_code"),
        sa.UniqueConstraint("uid", name="uq_uid_code_uid"),
        comment="SOP Class and Transfer Syntax UIDs, each once",
    )
    op.create_table(
        "decision",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("kind", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("actor", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("reason", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("study_instance_uid", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("series_instance_uid", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("sop_instance_uid", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("detail", sa.String(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("decided_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "log_key",
            KEY,
            nullable=True,
            comment="the log object that holds it; empty until appended",
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["owner.id"], name="fk_decision_owner_id_owner"),
        sa.PrimaryKeyConstraint("id", name="pk_decision"),
        comment="what people and policies decided about stored data",
    )
    op.create_index("ix_decision_decided", "decision", ["decided_ms"], unique=False)
    op.create_index(
        "ix_decision_study", "decision", ["owner_id", "study_instance_uid"], unique=False
    )
    op.create_index(
        "ix_decision_unlogged",
        "decision",
        ["id"],
        unique=False,
        sqlite_where=sa.text("log_key IS NULL"),
        postgresql_where=sa.text("log_key IS NULL"),
    )
    op.create_table(
        "name_gram",
        sa.Column("gram", KEY, nullable=False),
        sa.Column("name_id", ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["name_id"], ["person_name.id"], name="fk_name_gram_name_id_person_name"
        ),
        sa.PrimaryKeyConstraint("gram", "name_id", name="pk_name_gram"),
        comment="one- and two-character pieces of ideographic names, for infix search",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "pack",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("kind", KEY, nullable=False, comment="journal | pack | metadata"),
        sa.Column("state", KEY, nullable=False, comment="writing | live | dying"),
        sa.Column("owner_id", sa.Integer(), nullable=True),
        sa.Column("series_fk", ID, nullable=True),
        sa.Column("bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("sha256", sa.LargeBinary(length=32), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("dying_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["owner.id"], name="fk_pack_owner_id_owner"),
        sa.PrimaryKeyConstraint("id", name="pk_pack"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_pack_series", "pack", ["series_fk"], unique=False)
    op.create_index("ix_pack_state", "pack", ["state", "kind"], unique=False)
    op.create_table(
        "patient",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("issuer", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("patient_id", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column(
            "unidentified",
            KEY,
            server_default=sa.text("''"),
            nullable=False,
            comment="Study Instance UID where Patient ID is empty: such patients are never merged",
        ),
        sa.Column("name_id", ID, nullable=False),
        sa.Column("birth_date", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("sex", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("attrs", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["name_id"], ["person_name.id"], name="fk_patient_name_id_person_name"
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["owner.id"], name="fk_patient_owner_id_owner"),
        sa.PrimaryKeyConstraint("id", name="pk_patient"),
        sa.UniqueConstraint(
            "owner_id",
            "patient_id",
            "issuer",
            "unidentified",
            name="uq_patient_owner_id_patient_id_issuer_unidentified",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_patient_name_id", "patient", ["name_id"], unique=False)
    op.create_table(
        "pack_copy",
        sa.Column("pack_id", ID, nullable=False),
        sa.Column("store", KEY, nullable=False, comment="journal | files | s3"),
        sa.Column("key", KEY, nullable=False),
        sa.Column("node_id", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("state", KEY, nullable=False, comment="good | damaged"),
        sa.Column("verified_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["pack_id"], ["pack.id"], name="fk_pack_copy_pack_id_pack"),
        sa.PrimaryKeyConstraint("pack_id", "store", name="pk_pack_copy"),
        sa.UniqueConstraint("store", "key", name="uq_pack_copy_store_key"),
    )
    op.create_table(
        "quarantine",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("reason", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("detail", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("via", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("source", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("sop_class_uid", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("sop_instance_uid", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("transfer_syntax_uid", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("checksum", sa.LargeBinary(length=16), nullable=False),
        sa.Column("pack_id", ID, nullable=False),
        sa.Column("byte_offset", sa.BigInteger(), nullable=False),
        sa.Column("byte_length", sa.BigInteger(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["owner.id"], name="fk_quarantine_owner_id_owner"),
        sa.ForeignKeyConstraint(["pack_id"], ["pack.id"], name="fk_quarantine_pack_id_pack"),
        sa.PrimaryKeyConstraint("id", name="pk_quarantine"),
        sa.UniqueConstraint("owner_id", "checksum", name="uq_quarantine_owner_id_checksum"),
        comment="what arrived and could not be indexed, with the reason; bytes kept",
    )
    op.create_index("ix_quarantine_pack", "quarantine", ["pack_id"], unique=False)
    op.create_table(
        "study",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("patient_fk", ID, nullable=False),
        sa.Column("study_instance_uid", KEY, nullable=False),
        sa.Column("name_id", ID, nullable=False),
        sa.Column("referring_name_id", ID, nullable=False),
        sa.Column("study_date", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("study_time", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("accession_number", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("study_id", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("description", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column(
            "attrs", sa.String(), nullable=False, comment="DICOM JSON of the first values received"
        ),
        sa.Column(
            "first_received_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column("last_received_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("settled_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("settlements", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("overlay_version", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["name_id"], ["person_name.id"], name="fk_study_name_id_person_name"
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["owner.id"], name="fk_study_owner_id_owner"),
        sa.ForeignKeyConstraint(["patient_fk"], ["patient.id"], name="fk_study_patient_fk_patient"),
        sa.ForeignKeyConstraint(
            ["referring_name_id"], ["person_name.id"], name="fk_study_referring_name_id_person_name"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_study"),
        sa.UniqueConstraint(
            "owner_id", "study_instance_uid", name="uq_study_owner_id_study_instance_uid"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_study_name", "study", ["name_id"], unique=False)
    op.create_index(
        "ix_study_owner_accession", "study", ["owner_id", "accession_number"], unique=False
    )
    op.create_index("ix_study_owner_date", "study", ["owner_id", "study_date", "id"], unique=False)
    op.create_index("ix_study_patient", "study", ["patient_fk"], unique=False)
    op.create_index("ix_study_referring_name", "study", ["referring_name_id"], unique=False)
    op.create_index(
        "ix_study_unsettled",
        "study",
        ["last_received_ms"],
        unique=False,
        sqlite_where=sa.text("settled_ms = 0"),
        postgresql_where=sa.text("settled_ms = 0"),
    )
    op.create_table(
        "mismatch",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("study_fk", ID, nullable=False),
        sa.Column("kind", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("series_instance_uid", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("sop_instance_uid", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("stored", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("received", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("noted_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["owner.id"], name="fk_mismatch_owner_id_owner"),
        sa.ForeignKeyConstraint(["study_fk"], ["study.id"], name="fk_mismatch_study_fk_study"),
        sa.PrimaryKeyConstraint("id", name="pk_mismatch"),
        sa.UniqueConstraint(
            "study_fk",
            "kind",
            "series_instance_uid",
            "received",
            name="uq_mismatch_study_fk_kind_series_instance_uid_received",
        ),
        comment="contradictions between instances that claim to belong together",
    )
    op.create_table(
        "series",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("study_fk", ID, nullable=False),
        sa.Column("series_instance_uid", KEY, nullable=False),
        sa.Column("modality", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("series_number", sa.BigInteger(), nullable=True),
        sa.Column("description", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("body_part", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("pps_date", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("pps_time", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("attrs", sa.String(), nullable=False),
        sa.Column("instances", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("unsettled", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "unsettled_since_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        ),
        sa.Column("last_received_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("metadata_pack_id", ID, nullable=True),
        sa.Column("pack_version", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["metadata_pack_id"], ["pack.id"], name="fk_series_metadata_pack_id_pack"
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["owner.id"], name="fk_series_owner_id_owner"),
        sa.ForeignKeyConstraint(["study_fk"], ["study.id"], name="fk_series_study_fk_study"),
        sa.PrimaryKeyConstraint("id", name="pk_series"),
        sa.UniqueConstraint(
            "study_fk", "series_instance_uid", name="uq_series_study_fk_series_instance_uid"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_series_metadata_pack", "series", ["metadata_pack_id"], unique=False)
    op.create_index(
        "ix_series_owner_uid", "series", ["owner_id", "series_instance_uid"], unique=False
    )
    op.create_index(
        "ix_series_unsettled",
        "series",
        ["last_received_ms"],
        unique=False,
        sqlite_where=sa.text("unsettled > 0"),
        postgresql_where=sa.text("unsettled > 0"),
    )
    op.create_table(
        "instance",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("series_fk", ID, nullable=False),
        sa.Column("sop_instance_uid", KEY, nullable=False),
        sa.Column("sop_class_id", sa.Integer(), nullable=False),
        sa.Column("transfer_syntax_id", sa.Integer(), nullable=False),
        sa.Column("instance_number", sa.BigInteger(), nullable=True),
        sa.Column("frames", sa.Integer(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=True),
        sa.Column("columns", sa.Integer(), nullable=True),
        sa.Column("bits_allocated", sa.Integer(), nullable=True),
        sa.Column("pack_id", ID, nullable=False),
        sa.Column("byte_offset", sa.BigInteger(), nullable=False),
        sa.Column("byte_length", sa.BigInteger(), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=False, comment="the commit batch's event"),
        sa.Column("received_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["owner.id"], name="fk_instance_owner_id_owner"),
        sa.ForeignKeyConstraint(["pack_id"], ["pack.id"], name="fk_instance_pack_id_pack"),
        sa.ForeignKeyConstraint(["series_fk"], ["series.id"], name="fk_instance_series_fk_series"),
        sa.ForeignKeyConstraint(
            ["sop_class_id"], ["uid_code.id"], name="fk_instance_sop_class_id_uid_code"
        ),
        sa.ForeignKeyConstraint(
            ["transfer_syntax_id"], ["uid_code.id"], name="fk_instance_transfer_syntax_id_uid_code"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_instance"),
        sa.UniqueConstraint(
            "owner_id", "sop_instance_uid", name="uq_instance_owner_id_sop_instance_uid"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_instance_pack", "instance", ["pack_id"], unique=False)
    op.create_index(
        "ix_instance_series", "instance", ["series_fk", "instance_number"], unique=False
    )
    op.create_table(
        "instance_version",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("instance_fk", ID, nullable=False),
        sa.Column("sop_class_id", sa.Integer(), nullable=False),
        sa.Column("transfer_syntax_id", sa.Integer(), nullable=False),
        sa.Column("pack_id", ID, nullable=False),
        sa.Column("byte_offset", sa.BigInteger(), nullable=False),
        sa.Column("byte_length", sa.BigInteger(), nullable=False),
        sa.Column("relation", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("study_instance_uid", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("series_instance_uid", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("source", KEY, server_default=sa.text("''"), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("compared_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_fk"], ["instance.id"], name="fk_instance_version_instance_fk_instance"
        ),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["owner.id"], name="fk_instance_version_owner_id_owner"
        ),
        sa.ForeignKeyConstraint(["pack_id"], ["pack.id"], name="fk_instance_version_pack_id_pack"),
        sa.ForeignKeyConstraint(
            ["sop_class_id"], ["uid_code.id"], name="fk_instance_version_sop_class_id_uid_code"
        ),
        sa.ForeignKeyConstraint(
            ["transfer_syntax_id"],
            ["uid_code.id"],
            name="fk_instance_version_transfer_syntax_id_uid_code",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_instance_version"),
        comment="the same SOP Instance UID received again with other bytes",
    )
    op.create_index(
        "ix_instance_version_instance", "instance_version", ["instance_fk"], unique=False
    )
    op.create_index("ix_instance_version_pack", "instance_version", ["pack_id"], unique=False)
    op.create_index(
        "ix_instance_version_pending",
        "instance_version",
        ["id"],
        unique=False,
        sqlite_where=sa.text("compared_ms = 0"),
        postgresql_where=sa.text("compared_ms = 0"),
    )
    for table in OWNED:
        restrict_rows(op, table)
