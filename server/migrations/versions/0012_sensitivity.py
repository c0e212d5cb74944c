"""Studies of sensitive kinds.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    key = sa.String().with_variant(sa.String(collation="C"), "postgresql")
    comment = "sensitive kinds of data, joined by commas: who may not see them sees no name"
    op.add_column(
        "study",
        sa.Column("sensitivity", key, nullable=False, server_default=sa.text("''"), comment=comment),
    )
