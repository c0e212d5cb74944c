"""Alembic's entry: runs the revisions on the connection that `run.upgrade` gives, sync or async."""

from alembic import context
from sqlalchemy import Connection, text

from kernel.db.base import metadata
from server.migrations.roles import ensure_roles


def run(connection: Connection) -> None:
    """Run the wanted revisions inside the connection's transaction."""
    if connection.dialect.name == "postgresql":
        ensure_roles(connection)
        connection.execute(text("SET LOCAL ROLE yy_owner"))
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_type=True,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


run(context.config.attributes["connection"])
