"""Bringing a database to the newest schema."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from kernel.db.database import migration_engine
from kernel.errors import Unavailable
from kernel.settings import Settings

# Held while one process upgrades; the number is the word "yunying" on a phone's keys.
_UPGRADE_LOCK = 9869464


async def upgrade(settings: Settings, revision: str = "head") -> None:
    """Upgrade the database of `settings`; several processes may do so at once, one works.

    On PostgreSQL the login role must be able to become `yy_owner`; roles that are missing are
    created where the login role may, otherwise Unavailable `database.roles` says what to run.
    """
    engine = migration_engine(settings)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_upgrade, revision)
    except OSError as error:
        raise Unavailable("database.unreachable", "The database server does not answer.") from error
    finally:
        await engine.dispose()


def alembic_config(connection: Connection) -> Config:
    """Alembic's configuration, with the connection that `env.py` works on."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _upgrade(connection: Connection, revision: str) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _UPGRADE_LOCK})
    command.upgrade(alembic_config(connection), revision)
