"""Database roles' rights, and the kernel's tables.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

from server.migrations.roles import enable_row_security, restrict_rows

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        _default_rights()
    _owner()
    _event()
    _job()
    _audit()


def _default_rights() -> None:
    op.execute("GRANT USAGE ON SCHEMA public TO yy_owner, yy_app, yy_svc")
    op.execute(
        "ALTER DEFAULT PRIVILEGES FOR ROLE yy_owner IN SCHEMA public"
        " GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO yy_app, yy_svc"
    )
    op.execute(
        "ALTER DEFAULT PRIVILEGES FOR ROLE yy_owner IN SCHEMA public"
        " GRANT USAGE, SELECT ON SEQUENCES TO yy_app, yy_svc"
    )


def _owner() -> None:
    op.create_table(
        "owner",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_owner"),
        sa.UniqueConstraint("path", name="uq_owner_path"),
    )
    op.execute("INSERT INTO owner (id, path, state) VALUES (1, '/local', 'active')")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("SELECT setval('owner_id_seq', 1)")


def _event() -> None:
    op.create_table(
        "event",
        sa.Column("id", BIG_KEY, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_event"),
        sa.UniqueConstraint("seq", name="uq_event_seq"),
        sa.ForeignKeyConstraint(["owner_id"], ["owner.id"], name="fk_event_owner_id_owner"),
        sqlite_autoincrement=True,
    )
    unnumbered = sa.text("seq IS NULL")
    op.create_index(
        "ix_event_unnumbered",
        "event",
        ["id"],
        sqlite_where=unnumbered,
        postgresql_where=unnumbered,
    )
    restrict_rows(op, "event")
    op.create_table(
        "event_counter",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_event_counter"),
    )
    op.execute("INSERT INTO event_counter (id, last_seq) VALUES (1, 0)")
    op.create_table(
        "event_subscriber",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_event_subscriber"),
    )
    op.create_table(
        "event_delivery",
        sa.Column("subscriber", sa.Text(), nullable=False),
        sa.Column("event_id", BIG_KEY, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("subscriber", "event_id", name="pk_event_delivery"),
        sa.ForeignKeyConstraint(
            ["subscriber"],
            ["event_subscriber.name"],
            name="fk_event_delivery_subscriber_event_subscriber",
        ),
        sa.ForeignKeyConstraint(
            ["event_id"], ["event.id"], name="fk_event_delivery_event_id_event"
        ),
    )


def _job() -> None:
    op.create_table(
        "job",
        sa.Column("id", BIG_KEY, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("args", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("cancel_asked", sa.Boolean(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
        sa.ForeignKeyConstraint(["owner_id"], ["owner.id"], name="fk_job_owner_id_owner"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_job_state_due_at", "job", ["state", "due_at"])
    live = sa.text("state IN ('queued', 'running') AND key <> ''")
    op.create_index(
        "uq_job_live_key",
        "job",
        ["kind", "key"],
        unique=True,
        sqlite_where=live,
        postgresql_where=live,
    )
    restrict_rows(op, "job")


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", BIG_KEY, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor_kind", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.Text(), nullable=False),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=True),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("refs", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("fold_key", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sa.UniqueConstraint("fold_key", name="uq_audit_fold_key"),
        sa.ForeignKeyConstraint(["owner_id"], ["owner.id"], name="fk_audit_owner_id_owner"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_study_instance_uid_at", "audit", ["study_instance_uid", "at"])
    op.create_index("ix_audit_actor_kind_actor_id_at", "audit", ["actor_kind", "actor_id", "at"])
    op.create_table(
        "audit_file",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_audit_file"),
    )
    if op.get_bind().dialect.name == "postgresql":
        _audit_rights()


def _audit_rights() -> None:
    # Whoever serves people may add to the audit, also about a refused access outside the owners,
    # and read what concerns the owners; nobody but the system folds lines, nobody deletes.
    enable_row_security(op, "audit")
    op.execute("REVOKE UPDATE, DELETE ON audit FROM yy_app")
    op.execute("REVOKE DELETE ON audit FROM yy_svc")
    op.execute("CREATE POLICY audit_app_add ON audit FOR INSERT TO yy_app WITH CHECK (true)")
    op.execute(
        "CREATE POLICY audit_app ON audit FOR SELECT TO yy_app USING (owner_id ="
        " ANY (NULLIF(current_setting('app.owners', true), '')::int[]))"
    )
