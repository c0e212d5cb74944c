"""Organisations.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BIG_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "access_version",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subject", name="pk_access_version"),
    )
    op.execute("INSERT INTO access_version VALUES ('rights', 0), ('revocation', 0)")
    op.create_table(
        "organisation",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("parent_id", sa.Integer(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("short_name", sa.Text(), server_default="", nullable=False),
        sa.Column("uscc", sa.Text(), nullable=True),
        sa.Column("institution_class", sa.Text(), server_default="", nullable=False),
        sa.Column("merged_into_id", sa.Integer(), nullable=True),
        sa.Column("valid_from", sa.Date(), nullable=True),
        sa.Column("valid_until", sa.Date(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_organisation"),
        sa.UniqueConstraint("uscc", name="uq_organisation_uscc"),
        sa.ForeignKeyConstraint(["id"], ["owner.id"], name="fk_organisation_id_owner"),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["organisation.id"], name="fk_organisation_parent_id_organisation"
        ),
        sa.ForeignKeyConstraint(
            ["merged_into_id"],
            ["organisation.id"],
            name="fk_organisation_merged_into_id_organisation",
        ),
    )
    with_code = sa.text("kind <> 'department'")
    op.create_index(
        "uq_organisation_code",
        "organisation",
        ["code"],
        unique=True,
        sqlite_where=with_code,
        postgresql_where=with_code,
    )
    # Owner 1, `/local`, is what a single machine without a tree belongs to.
    op.execute(
        "INSERT INTO organisation (id, kind, code, name)"
        " VALUES (1, 'institution', 'LOCAL', '本机构')"
    )
    op.create_table(
        "organisation_version",
        sa.Column("id", BIG_KEY, nullable=False),
        sa.Column("organisation_id", sa.Integer(), nullable=False),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("effective_on", sa.Date(), nullable=False),
        sa.Column("recorded_at", sa.Double(), nullable=False),
        sa.Column("actor_kind", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_organisation_version"),
        sa.ForeignKeyConstraint(
            ["organisation_id"],
            ["organisation.id"],
            name="fk_organisation_version_organisation_id_organisation",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_organisation_version_organisation_id_id",
        "organisation_version",
        ["organisation_id", "id"],
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("REVOKE UPDATE, DELETE ON organisation_version FROM yy_app, yy_svc")
