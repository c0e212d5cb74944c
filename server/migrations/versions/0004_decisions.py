"""What decisions show of a study: corrected, rejected, another version, another patient.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

from server.migrations.roles import restrict_rows

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "merged_patient",
        sa.Column("id", ID, autoincrement=True, nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        *[
            sa.Column(name, KEY, server_default=sa.text("''"), nullable=False)
            for name in ("issuer", "patient_id", "into_issuer", "into_patient_id")
        ],
        sa.Column(
            "attrs",
            sa.String(),
            nullable=False,
            comment="what all studies say of the patient then",
        ),
        sa.Column("decided_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["owner_id"], ["owner.id"], name="fk_merged_patient_owner_id_owner"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_merged_patient"),
        sa.UniqueConstraint(
            "owner_id",
            "patient_id",
            "issuer",
            name="uq_merged_patient_owner_id_patient_id_issuer",
        ),
        comment="patients whose studies answer under another one, by decisions",
    )
    op.create_index(
        "ix_merged_patient_into", "merged_patient", ["owner_id", "into_patient_id", "into_issuer"]
    )
    restrict_rows(op, "merged_patient")
    first = "as received, where corrected"
    op.add_column("study", sa.Column("first_attrs", sa.String(), comment=first))
    op.add_column("study", _flag("corrected", "1: some element of some instance goes out changed"))
    op.add_column("study", _flag("rejected", "2: the whole study, 1: something in it"))
    chosen = "1: another version than the first is shown of some instance"
    op.add_column("study", _flag("chosen", chosen))
    op.add_column("series", sa.Column("first_attrs", sa.String(), comment=first))
    op.add_column("series", _flag("rejected", "1: hidden by a decision about the series"))
    op.add_column("instance", _flag("rejected", "1: hidden by a decision about the instance"))
    shown = "the version that is shown instead of this first one"
    op.add_column("instance", sa.Column("version_fk", ID, comment=shown))
    op.create_index(
        "ix_instance_rejected",
        "instance",
        ["series_fk"],
        sqlite_where=sa.text("rejected = 1"),
        postgresql_where=sa.text("rejected = 1"),
    )


def _flag(name: str, comment: str) -> sa.Column[int]:
    zero = sa.text("0")
    return sa.Column(name, sa.SmallInteger(), server_default=zero, nullable=False, comment=comment)
