"""Residents: codes that were sent to phones, and the outbox of short messages.

Revision ID: 0016
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

BIG_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "citizen_code",
        sa.Column("id", BIG_KEY, nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("number_digest", sa.Text(), nullable=False),
        sa.Column("number_sealed", sa.Text(), nullable=False),
        sa.Column("code_digest", sa.Text(), nullable=False),
        sa.Column("address_digest", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("attempted_at", sa.Double(), nullable=True),
        sa.Column("used_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_citizen_code"),
        sa.UniqueConstraint("request_id", name="uq_citizen_code_request_id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_citizen_code_address_digest_created_at",
        "citizen_code",
        ["address_digest", "created_at"],
    )
    op.create_index("ix_citizen_code_created_at", "citizen_code", ["created_at"])
    op.create_index(
        "ix_citizen_code_number_digest_created_at", "citizen_code", ["number_digest", "created_at"]
    )
    op.create_table(
        "sms_message",
        sa.Column("id", BIG_KEY, nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("address_digest", sa.Text(), nullable=False),
        sa.Column("number_sealed", sa.Text(), nullable=False),
        sa.Column("number_masked", sa.Text(), nullable=False),
        sa.Column("words_sealed", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=False),
        sa.Column("provider_code", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("sent_at", sa.Double(), nullable=True),
        sa.Column("reported_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_sms_message"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_sms_message_provider_provider_id", "sms_message", ["provider", "provider_id"]
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("REVOKE ALL ON citizen_code, sms_message FROM yy_app")
