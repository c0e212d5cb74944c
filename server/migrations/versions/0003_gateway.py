"""Application entities.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

from server.migrations.roles import restrict_rows

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ae",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("charset", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.Text(), server_default="active", nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ae"),
        sa.UniqueConstraint("title", name="uq_ae_title"),
        sa.ForeignKeyConstraint(["owner_id"], ["owner.id"], name="fk_ae_owner_id_owner"),
        sa.CheckConstraint("port BETWEEN 1 AND 65535", name=op.f("ck_ae_port")),
        sa.CheckConstraint("state IN ('active', 'suspended')", name=op.f("ck_ae_state")),
    )
    restrict_rows(op, "ae")

