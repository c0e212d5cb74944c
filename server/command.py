"""What every command of the command line shares: where it works, and saying errors in words."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kernel.audit.domain import ASKED_FROM
from kernel.errors import AppError
from kernel.log import configure
from kernel.scope import Scope
from kernel.settings import Settings, load

if TYPE_CHECKING:
    from kernel.db.database import Database

Result = TypeVar("Result")
SCOPE = Scope.system("command line")


@dataclass(frozen=True, slots=True)
class Where:
    """The settings file and what the command line overrides, and the settings they make."""

    config: Path | None
    overrides: dict[str, str]
    settings: Settings

    @property
    def wanted(self) -> dict[str, Any]:
        """What another process needs to make the same settings."""
        config = str(self.config.resolve()) if self.config else None
        return {"config": config, "overrides": self.overrides}


def settings_options(command: Callable[..., None]) -> Callable[..., None]:
    @click.option("--data", metavar="DIR", help="Data folder (default: var).")
    @click.option(
        "--config", type=click.Path(dir_okay=False, path_type=Path), help="Settings file (TOML)."
    )
    @functools.wraps(command)
    def with_where(data: str | None, config: Path | None, **options: Any) -> None:
        run_in_words(lambda: command(where=where_from(config, {"data": data}), **options))

    return with_where


def where_from(config: Path | None, options: dict[str, str | None]) -> Where:
    overrides = {name: value for name, value in options.items() if value is not None}
    if "data" in overrides:
        overrides["data"] = str(Path(overrides["data"]).resolve())
    settings = load(config, os.environ, overrides)
    overrides["data"] = str(settings.data.resolve())
    return Where(config, overrides, load(config, os.environ, overrides))


def run_in_words(work: Callable[[], None]) -> None:
    """Say an error in one sentence, without a traceback; exit code 1."""
    try:
        work()
    except AppError as error:
        click.echo(f"Error: {error} [{error.code}]", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        sys.exit(130)


def configure_quietly(settings: Settings) -> None:
    """Log warnings and worse only: a command's own words are its output."""
    level = "warning" if settings.log.level == "info" else settings.log.level
    configure(replace(settings, log=replace(settings.log, level=level)))


def ready(where: Where) -> Settings:
    """Settings of a data folder that exists and whose database has the newest schema."""
    from server.folder import create_folder
    from server.migrations.run import upgrade

    configure_quietly(where.settings)
    create_folder(where.settings)
    asyncio.run(upgrade(where.settings))
    return where.settings


def with_database(where: Where, work: Callable[[Settings, Database], Awaitable[Result]]) -> Result:
    from kernel.db.database import Database

    settings = ready(where)

    async def run() -> Result:
        ASKED_FROM.set("command line")
        database = await Database.open(settings)
        try:
            return await work(settings, database)
        finally:
            await database.close()

    return asyncio.run(run())
