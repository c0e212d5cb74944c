"""The data folder."""

from __future__ import annotations

from kernel.errors import Unavailable
from kernel.settings import Settings


def create_folder(settings: Settings) -> None:
    """Make the data folder, for its owner only. Raises Unavailable `data.folder`."""
    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        (settings.data / "run").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            "data.folder",
            "The data folder {folder} cannot be used: {why}.",
            folder=str(settings.data),
            why=error.strerror or str(error),
        ) from error
