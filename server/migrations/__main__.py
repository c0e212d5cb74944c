"""``python -m server.migrations [--config FILE]``: bring a database to the newest schema."""

import argparse
import asyncio
import os
import sys
from pathlib import Path

from kernel.errors import AppError
from kernel.settings import load
from server.folder import create_folder
from server.migrations.run import upgrade


def main() -> int:
    """Upgrade the database that the settings name; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, help="settings file (TOML)")
    try:
        settings = load(parser.parse_args().config, os.environ)
        create_folder(settings)
        asyncio.run(upgrade(settings))
    except AppError as error:
        sys.stderr.write(f"Error: {error} [{error.code}]\n")
        return 1
    sys.stdout.write("The database has the newest schema.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
