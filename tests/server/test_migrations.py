"""The schema's history leads from nothing to exactly what the code declares."""

import asyncio
import importlib
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from kernel.db.base import metadata
from kernel.db.database import Database, migration_engine
from kernel.errors import Unavailable
from kernel.scope import Scope
from kernel.settings import DatabaseSettings, Settings
from server.migrations.run import alembic_config, upgrade
from tests import servers
from tests.conftest import ROOT


def declare_all_tables() -> None:
    for file in sorted(ROOT.glob("*/**/tables.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        if not parts[0].startswith(".") and "node_modules" not in parts:
            importlib.import_module(".".join(parts))


async def inspect(settings: Settings, look: Any) -> Any:
    engine = migration_engine(settings)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(look)
    finally:
        await engine.dispose()


def differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, metadata))


def tables(connection: Connection) -> set[str]:
    return set(sa.inspect(connection).get_table_names())


@pytest.mark.backend
async def test_upgrading_an_empty_database_makes_every_table(empty_settings: Settings) -> None:
    declare_all_tables()
    assert await inspect(empty_settings, tables) == set()
    await upgrade(empty_settings)
    assert await inspect(empty_settings, tables) == {*metadata.tables, "alembic_version"}


@pytest.mark.backend
async def test_the_migrated_schema_is_the_declared_one(settings: Settings) -> None:
    declare_all_tables()
    assert await inspect(settings, differences) == []


@pytest.mark.backend
async def test_an_upgrade_can_be_repeated_and_run_by_several_processes(
    empty_settings: Settings,
) -> None:
    await asyncio.gather(*(upgrade(empty_settings) for _ in range(4)))
    await upgrade(empty_settings)
    database = await Database.open(empty_settings)
    async with database.session(Scope.system("test")) as session:
        count = await session.scalar(sa.text("SELECT count(*) FROM owner"))
    await database.close()
    assert count == 1


def test_the_history_is_one_line() -> None:
    config = alembic_config(None)  # type: ignore[arg-type]
    script = ScriptDirectory.from_config(config)
    assert len(script.get_heads()) == 1
    assert len(script.get_bases()) == 1
    assert not any(revision.is_branch_point for revision in script.walk_revisions())


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_every_owned_table_has_forced_row_security(settings: Settings) -> None:
    declare_all_tables()
    # A journal segment holds records of several owners; a pack's row names nobody.
    shared = {"pack"}
    owned = {name for name, table in metadata.tables.items() if "owner_id" in table.columns}
    connection = await asyncpg.connect(settings.database.url)
    rows = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity"
    )
    await connection.close()
    assert owned - {row[0] for row in rows} == shared


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_a_login_without_rights_is_told_what_the_administrator_must_run(
    empty_settings: Settings, postgresql_server: servers.PostgresqlServer
) -> None:
    name = empty_settings.database.url.rsplit("/", 1)[1]
    admin = await asyncpg.connect(postgresql_server.url(name, "postgres"))
    await admin.execute("CREATE ROLE modest LOGIN")
    modest = replace(
        empty_settings, database=DatabaseSettings(url=postgresql_server.url(name, "modest"))
    )
    try:
        with pytest.raises(Unavailable) as caught:
            await upgrade(modest)
        assert caught.value.code == "database.roles"
        commands = str(caught.value.fields["commands"])
        assert "GRANT yy_owner, yy_app, yy_svc TO modest;" in commands
        await admin.execute(commands)
        await upgrade(modest)
        database = await Database.open(modest, "app")
        await database.close()
    finally:
        await admin.execute("DROP OWNED BY modest")
        await admin.execute("DROP ROLE modest")
        await admin.close()


async def test_a_server_that_does_not_answer_is_reported() -> None:
    away = Settings(database=DatabaseSettings(url="postgresql://nobody@127.0.0.1:1/none"))
    with pytest.raises(Unavailable) as caught:
        await upgrade(away)
    assert caught.value.code == "database.unreachable"
