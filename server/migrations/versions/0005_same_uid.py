"""What is shown when a node sends another data set under a known UID.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ae", sa.Column("same_uid", sa.Text(), server_default="first", nullable=False))
