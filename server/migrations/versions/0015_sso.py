"""Single sign-on: applications, keys that sign, authorisations and their tokens, signing in
elsewhere; sessions say how their person signed in.

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

BIG_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
SECRET = (
    "application",
    "authorisation",
    "authorisation_code",
    "authorisation_token",
    "citizen_phone",
    "consent",
    "signing_key",
    "upstream_identity",
    "upstream_session",
)


def upgrade() -> None:
    op.add_column("session", sa.Column("amr", sa.Text(), nullable=False, server_default="pwd"))
    op.create_table(
        "application",
        sa.Column("id", BIG_KEY, nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("name_zh", sa.Text(), nullable=False),
        sa.Column("name_en", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("audience", sa.Text(), nullable=False),
        sa.Column("first_party", sa.Boolean(), nullable=False),
        sa.Column("redirect_uris", sa.Text(), nullable=False),
        sa.Column("post_logout_uris", sa.Text(), nullable=False),
        sa.Column("backchannel_uri", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("secret_hash", sa.Text(), nullable=True),
        sa.Column("previous_hash", sa.Text(), nullable=True),
        sa.Column("previous_until", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_application"),
        sa.CheckConstraint(
            "audience IN ('staff', 'citizen')", name=op.f("ck_application_audience")
        ),
        sa.CheckConstraint("state IN ('active', 'disabled')", name=op.f("ck_application_state")),
        sa.CheckConstraint("kind IN ('confidential', 'public')", name=op.f("ck_application_kind")),
        sa.UniqueConstraint("client_id", name="uq_application_client_id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "signing_key",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("public", sa.Text(), nullable=False),
        sa.Column("private_sealed", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("signs_from", sa.Double(), nullable=False),
        sa.Column("published_until", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_signing_key"),
    )
    op.create_table(
        "authorisation",
        sa.Column("id", BIG_KEY, nullable=False),
        sa.Column("application_id", BIG_KEY, nullable=False),
        sa.Column("session_id", BIG_KEY, nullable=False),
        sa.Column("account_id", BIG_KEY, nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("sid", sa.Text(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("auth_time", sa.Double(), nullable=False),
        sa.Column("amr", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("begun_at", sa.Double(), nullable=True),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("ended_why", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_authorisation"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name="fk_authorisation_account_id_account"
        ),
        sa.ForeignKeyConstraint(
            ["application_id"],
            ["application.id"],
            name="fk_authorisation_application_id_application",
        ),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["session.id"],
            name="fk_authorisation_session_id_session",
            ondelete="CASCADE",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_authorisation_application_id", "authorisation", ["application_id"])
    op.create_index("ix_authorisation_session_id", "authorisation", ["session_id"])
    op.create_table(
        "authorisation_code",
        sa.Column("code_hash", sa.Text(), nullable=False),
        sa.Column("authorisation_id", BIG_KEY, nullable=False),
        sa.Column("redirect_uri", sa.Text(), nullable=False),
        sa.Column("challenge", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("used_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("code_hash", name="pk_authorisation_code"),
        sa.ForeignKeyConstraint(
            ["authorisation_id"],
            ["authorisation.id"],
            name="fk_authorisation_code_authorisation_id_authorisation",
            ondelete="CASCADE",
        ),
    )
    op.create_index(
        "ix_authorisation_code_authorisation_id", "authorisation_code", ["authorisation_id"]
    )
    op.create_table(
        "authorisation_token",
        sa.Column("id", BIG_KEY, nullable=False),
        sa.Column("authorisation_id", BIG_KEY, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("used_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_authorisation_token"),
        sa.CheckConstraint(
            "kind IN ('access', 'refresh')", name=op.f("ck_authorisation_token_kind")
        ),
        sa.ForeignKeyConstraint(
            ["authorisation_id"],
            ["authorisation.id"],
            name="fk_authorisation_token_authorisation_id_authorisation",
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint("token_hash", name="uq_authorisation_token_token_hash"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_authorisation_token_authorisation_id", "authorisation_token", ["authorisation_id"]
    )
    op.create_index("ix_authorisation_token_expires_at", "authorisation_token", ["expires_at"])
    op.create_table(
        "consent",
        sa.Column("account_id", BIG_KEY, nullable=False),
        sa.Column("application_id", BIG_KEY, nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("given_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "application_id", name="pk_consent"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name="fk_consent_account_id_account"
        ),
        sa.ForeignKeyConstraint(
            ["application_id"], ["application.id"], name="fk_consent_application_id_application"
        ),
    )
    op.create_table(
        "upstream_identity",
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("account_id", BIG_KEY, nullable=False),
        sa.Column("linked_at", sa.Double(), nullable=False),
        sa.Column("linked_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("issuer", "subject", name="pk_upstream_identity"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name="fk_upstream_identity_account_id_account"
        ),
    )
    op.create_index("ix_upstream_identity_account_id", "upstream_identity", ["account_id"])
    op.create_table(
        "upstream_session",
        sa.Column("session_id", BIG_KEY, nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("sid", sa.Text(), nullable=False),
        sa.Column("id_token_sealed", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="pk_upstream_session"),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["session.id"],
            name="fk_upstream_session_session_id_session",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_upstream_session_issuer_sid", "upstream_session", ["issuer", "sid"])
    op.create_table(
        "citizen_phone",
        sa.Column("account_id", BIG_KEY, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("proven_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name="pk_citizen_phone"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name="fk_citizen_phone_account_id_account"
        ),
        sa.UniqueConstraint("digest", name="uq_citizen_phone_digest"),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"REVOKE ALL ON {', '.join(SECRET)} FROM yy_app")
