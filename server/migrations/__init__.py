"""The schema's history: one line of Alembic revisions for both back ends."""
