"""PostgreSQL roles and row-level security, for the revisions.

yy_owner   owns the tables and changes the schema
yy_app     serves people; sees only rows of the owners in `app.owners` (policies are forced)
yy_svc     the system itself (gateway, worker); sees every row

Roles belong to the whole server, so they are ensured before each upgrade, not only by revision 1:
a dump restored on another server works. The policies are the second wall behind the filters of
the queries.
"""

from alembic.operations import Operations
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from kernel.errors import Unavailable

ROLES = ("yy_owner", "yy_app", "yy_svc")

# An unset `app.owners` is NULL, one set by an earlier transaction is empty: both see nothing. The
# list is hashed once for each statement and asked once for each row. It never drives an index: that
# is left to the filter of the query, since two lists on one index are tried in every combination.
OWNERS = "IN (SELECT unnest(NULLIF(current_setting('app.owners', true), '')::int[]))"


def ensure_roles(connection: Connection) -> None:
    """Create missing roles, let the login role become them, and let yy_owner create tables.

    Raises Unavailable `database.roles` with the commands to run when the login role may not.
    """
    try:
        with connection.begin_nested():
            for role in _missing(connection):
                connection.execute(text(f"CREATE ROLE {role} NOLOGIN"))
            for role in _foreign(connection):
                connection.execute(text(f"GRANT {role} TO CURRENT_USER"))
            if not _may_create(connection):
                connection.execute(text("GRANT USAGE, CREATE ON SCHEMA public TO yy_owner"))
    except ProgrammingError as error:
        raise Unavailable(
            "database.roles",
            "The database administrator must run once: {commands}",
            commands=_commands(connection),
        ) from error


def restrict_rows(op: Operations, table: str, column: str = "owner_id") -> None:
    """Let yy_app see and write only rows of its owners; nothing on SQLite.

    Example, in a revision: `restrict_rows(op, "study")`.
    """
    if op.get_bind().dialect.name != "postgresql":
        return
    allowed = f"{column} {OWNERS}"
    enable_row_security(op, table)
    op.execute(
        f"CREATE POLICY {table}_app ON {table} TO yy_app USING ({allowed}) WITH CHECK ({allowed})"
    )


def enable_row_security(op: Operations, table: str) -> None:
    """Force row-level security on a table, with every row open to yy_owner and yy_svc."""
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY {table}_svc ON {table} TO yy_owner, yy_svc USING (true) WITH CHECK (true)"
    )


def _missing(connection: Connection) -> list[str]:
    known = set(connection.scalars(text("SELECT rolname FROM pg_roles")))
    return [role for role in ROLES if role not in known]


def _foreign(connection: Connection) -> list[str]:
    member = text("SELECT pg_has_role(current_user, :role, 'MEMBER')")
    return [role for role in ROLES if not connection.scalar(member, {"role": role})]


def _may_create(connection: Connection) -> bool:
    may = text("SELECT has_schema_privilege('yy_owner', 'public', 'CREATE')")
    return bool(connection.scalar(may))


def _commands(connection: Connection) -> str:
    login = connection.scalar(text("SELECT quote_ident(current_user)"))
    lines = [f"CREATE ROLE {role} NOLOGIN;" for role in _missing(connection)]
    lines.append(f"GRANT {', '.join(ROLES)} TO {login};")
    lines.append("GRANT USAGE, CREATE ON SCHEMA public TO yy_owner;")
    return " ".join(lines)
