"""Row-level security hashes the owners once a statement; yy_app cannot read or write what rights
are made of.

Revision ID: 0010
Revises: 0009
"""

from alembic import op

from server.migrations.roles import OWNERS

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

OWNED = (
    "ae",
    "decision",
    "event",
    "instance",
    "instance_version",
    "job",
    "merged_patient",
    "mismatch",
    "patient",
    "quarantine",
    "series",
    "study",
)
SECRET = ("account", "break_glass", "capability_revocation", "role", "role_grant")
READ_ONLY = ("access_version", "node", "organisation", "organisation_version", "owner")


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for table in OWNED:
        allowed = f"owner_id {OWNERS}"
        op.execute(f"ALTER POLICY {table}_app ON {table} USING ({allowed}) WITH CHECK ({allowed})")
    op.execute(f"ALTER POLICY audit_app ON audit USING (owner_id {OWNERS})")
    op.execute(f"REVOKE ALL ON {', '.join(SECRET)} FROM yy_app")
    op.execute(f"REVOKE INSERT, UPDATE, DELETE ON {', '.join(READ_ONLY)} FROM yy_app")
