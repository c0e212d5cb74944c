"""What is shown when a node sends another data set under a known UID.

Revision ID: decisions_2
Revises: decisions_1
"""

import sqlalchemy as sa
from alembic import op

revision = "decisions_2"
down_revision = "decisions_1"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ae", sa.Column("same_uid", sa.Text(), server_default="first", nullable=False))
