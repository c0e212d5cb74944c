"""How far audit repositories are, and findings of abnormal use.

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op

from server.migrations.roles import restrict_rows

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

BIG_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "audit_feed",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_audit_feed"),
    )
    op.create_table(
        "audit_finding",
        sa.Column("id", BIG_KEY, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("actor_kind", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=True),
        sa.Column("began_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=False),
        sa.Column("found_at", sa.Double(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("most", sa.BigInteger(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("acknowledged_at", sa.Double(), nullable=True),
        sa.Column("acknowledged_by", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_finding"),
        sa.UniqueConstraint("key", name="uq_audit_finding_key"),
        sa.ForeignKeyConstraint(["owner_id"], ["owner.id"], name="fk_audit_finding_owner_id_owner"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_finding_found_at", "audit_finding", ["found_at"])
    restrict_rows(op, "audit_finding")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("REVOKE ALL ON audit_feed FROM yy_app")
        op.execute("REVOKE DELETE ON audit_feed, audit_finding FROM yy_svc")
        op.execute("REVOKE INSERT, DELETE ON audit_finding FROM yy_app")
