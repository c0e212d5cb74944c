"""Roles, grants and emergency access.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

BIG_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "role",
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("permissions", sa.Text(), nullable=False),
        sa.Column("delegates", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("code", name="pk_role"),
    )
    _grant()
    _break_glass()


def _grant() -> None:
    op.create_table(
        "role_grant",
        sa.Column("id", BIG_KEY, nullable=False),
        sa.Column("subject_kind", sa.Text(), nullable=False),
        sa.Column("subject_id", BIG_KEY, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("organisation_id", sa.Integer(), nullable=True),
        sa.Column("valid_from", sa.Double(), nullable=False),
        sa.Column("valid_until", sa.Double(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("granted_at", sa.Double(), nullable=False),
        sa.Column("granted_by", sa.Text(), nullable=False),
        sa.Column("withdrawn_at", sa.Double(), nullable=True),
        sa.Column("withdrawn_by", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_role_grant"),
        sa.ForeignKeyConstraint(
            ["organisation_id"],
            ["organisation.id"],
            name="fk_role_grant_organisation_id_organisation",
        ),
        sa.CheckConstraint(
            "subject_kind IN ('account', 'client')", name=op.f("ck_role_grant_subject_kind")
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_role_grant_subject_kind_subject_id", "role_grant", ["subject_kind", "subject_id"]
    )
    op.create_index("ix_role_grant_withdrawn_at", "role_grant", ["withdrawn_at"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("REVOKE DELETE ON role_grant FROM yy_app, yy_svc")


def _break_glass() -> None:
    op.create_table(
        "break_glass",
        sa.Column("id", BIG_KEY, nullable=False),
        sa.Column("account_id", BIG_KEY, nullable=False),
        sa.Column("organisation_id", sa.Integer(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("reviewed_at", sa.Double(), nullable=True),
        sa.Column("reviewed_by", BIG_KEY, nullable=True),
        sa.Column("verdict", sa.Text(), server_default="", nullable=False),
        sa.Column("comment", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_break_glass"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name="fk_break_glass_account_id_account"
        ),
        sa.ForeignKeyConstraint(
            ["organisation_id"],
            ["organisation.id"],
            name="fk_break_glass_organisation_id_organisation",
        ),
        sa.ForeignKeyConstraint(
            ["reviewed_by"], ["account.id"], name="fk_break_glass_reviewed_by_account"
        ),
        sa.CheckConstraint(
            "verdict IN ('', 'justified', 'unjustified')", name=op.f("ck_break_glass_verdict")
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_break_glass_expires_at", "break_glass", ["expires_at"])
    op.create_index(
        "ix_break_glass_organisation_id_reviewed_at",
        "break_glass",
        ["organisation_id", "reviewed_at"],
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("REVOKE DELETE ON break_glass FROM yy_app, yy_svc")
