"""API clients and capabilities.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

BIG_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "api_client",
        sa.Column("id", BIG_KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("account_id", BIG_KEY, nullable=True),
        sa.Column("organisation_id", sa.Integer(), nullable=True),
        sa.Column("permissions", sa.Text(), nullable=False),
        sa.Column("networks", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("secret_hash", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.Text(), nullable=True),
        sa.Column("previous_until", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_client"),
        sa.UniqueConstraint("secret_hash", name="uq_api_client_secret_hash"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name="fk_api_client_account_id_account"
        ),
        sa.ForeignKeyConstraint(
            ["organisation_id"],
            ["organisation.id"],
            name="fk_api_client_organisation_id_organisation",
        ),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "capability_key",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("retired_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_capability_key"),
    )
    op.create_table(
        "capability_revocation",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("revoked_at", sa.Double(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.Column("revoked_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_capability_revocation"),
    )
    op.create_index("ix_capability_revocation_until", "capability_revocation", ["until"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("REVOKE ALL ON api_client, capability_key FROM yy_app")
