"""Accounts, their secrets, and sessions.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

BIG_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
SECRET = ("account_secret", "password_history", "recovery_code", "session")


def upgrade() -> None:
    _account()
    _secrets()
    _session()
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"REVOKE ALL ON {', '.join(SECRET)} FROM yy_app")


def _account() -> None:
    op.create_table(
        "account",
        sa.Column("id", BIG_KEY, nullable=False),
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("organisation_id", sa.Integer(), nullable=True),
        sa.Column("title", sa.Text(), server_default="", nullable=False),
        sa.Column("licence_number", sa.Text(), server_default="", nullable=False),
        sa.Column("licence_until", sa.Date(), nullable=True),
        sa.Column("practice_scope", sa.Text(), server_default="", nullable=False),
        sa.Column("phone", sa.Text(), server_default="", nullable=False),
        sa.Column("networks", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_account"),
        sa.UniqueConstraint("login", name="uq_account_login"),
        sa.ForeignKeyConstraint(
            ["organisation_id"], ["organisation.id"], name="fk_account_organisation_id_organisation"
        ),
        sa.CheckConstraint("state IN ('active', 'suspended', 'left')", name=op.f("ck_account_state")),
        sa.CheckConstraint("kind IN ('staff', 'citizen')", name=op.f("ck_account_kind")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_account_organisation_id", "account", ["organisation_id"])


def _secrets() -> None:
    op.create_table(
        "account_secret",
        sa.Column("account_id", BIG_KEY, autoincrement=False, nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.Column("must_change", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_attempt_at", sa.Double(), nullable=False),
        sa.Column("totp_secret", sa.Text(), server_default="", nullable=False),
        sa.Column("totp_confirmed", sa.Boolean(), nullable=False),
        sa.Column("totp_last_step", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name="pk_account_secret"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name="fk_account_secret_account_id_account"
        ),
    )
    op.create_table(
        "password_history",
        sa.Column("id", BIG_KEY, nullable=False),
        sa.Column("account_id", BIG_KEY, nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("replaced_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_password_history"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name="fk_password_history_account_id_account"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_password_history_account_id_id", "password_history", ["account_id", "id"]
    )
    op.create_table(
        "recovery_code",
        sa.Column("account_id", BIG_KEY, nullable=False),
        sa.Column("code_hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "code_hash", name="pk_recovery_code"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name="fk_recovery_code_account_id_account"
        ),
    )


def _session() -> None:
    op.create_table(
        "session",
        sa.Column("id", BIG_KEY, nullable=False),
        sa.Column("account_id", BIG_KEY, nullable=False),
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("ended_why", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_session"),
        sa.UniqueConstraint("token_hash", name="uq_session_token_hash"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name="fk_session_account_id_account"
        ),
        sa.CheckConstraint(
            "stage IN ('code', 'password', 'full')", name=op.f("ck_session_stage")
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_session_account_id_ended_at", "session", ["account_id", "ended_at"])
    op.create_index("ix_session_ended_at", "session", ["ended_at"])
