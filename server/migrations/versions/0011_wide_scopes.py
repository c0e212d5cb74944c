"""Studies, series and patients are found without their owner, for scopes of thousands of owners.

Revision ID: 0011
Revises: 0010
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_patient_patient_id", "patient", ["patient_id", "id"])
    op.create_index("ix_study_date", "study", ["study_date", "id"])
    op.create_index("ix_study_uid", "study", ["study_instance_uid"])
    op.create_index("ix_study_accession", "study", ["accession_number", "owner_id"])
    op.drop_index("ix_study_owner_accession", "study")
    op.create_index("ix_series_uid", "series", ["series_instance_uid", "owner_id"])
    op.drop_index("ix_series_owner_uid", "series")
