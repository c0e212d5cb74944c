"""The ledger, and audit rows that are chained into it.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _ledger()
    op.add_column("audit", sa.Column("seq", sa.BigInteger(), nullable=True))
    op.create_index("uq_audit_seq", "audit", ["seq"], unique=True)
    unsealed = sa.text("seq IS NULL")
    op.create_index(
        "ix_audit_unsealed", "audit", ["id"], sqlite_where=unsealed, postgresql_where=unsealed
    )
    op.create_index("ix_audit_at", "audit", ["at"])
    if op.get_bind().dialect.name == "postgresql":
        # What is sealed is never changed; retention works as yy_owner.
        op.execute("REVOKE UPDATE ON audit FROM yy_svc")
        op.execute("GRANT UPDATE (count, fold_key, seq) ON audit TO yy_svc")
        op.execute("REVOKE ALL ON ledger_stream, ledger_entry, ledger_volume FROM yy_app")
        op.execute("REVOKE UPDATE, DELETE ON ledger_entry, ledger_volume FROM yy_svc")
        op.execute("REVOKE INSERT ON ledger_volume FROM yy_svc")
        op.execute("REVOKE DELETE ON ledger_stream FROM yy_svc")


def _ledger() -> None:
    op.create_table(
        "ledger_stream",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("base_seq", sa.BigInteger(), nullable=False),
        sa.Column("base_hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_stream"),
        sa.UniqueConstraint("name", name="uq_ledger_stream_name"),
    )
    op.create_table(
        "ledger_entry",
        sa.Column("stream_id", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("marks", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_at", sa.Double(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("stream_id", "seq", name="pk_ledger_entry"),
        sa.ForeignKeyConstraint(
            ["stream_id"], ["ledger_stream.id"], name="fk_ledger_entry_stream_id_ledger_stream"
        ),
    )
    op.create_table(
        "ledger_volume",
        sa.Column("stream_id", sa.Integer(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_hash", sa.LargeBinary(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("made_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("stream_id", "first_seq", name="pk_ledger_volume"),
        sa.ForeignKeyConstraint(
            ["stream_id"], ["ledger_stream.id"], name="fk_ledger_volume_stream_id_ledger_stream"
        ),
    )
