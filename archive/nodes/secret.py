"""The secret that nodes show each other: from the settings, else a file in the data folder."""

from __future__ import annotations

from pathlib import Path

from kernel.sealing import secret_file as files
from kernel.settings import Settings


def secret_file(settings: Settings) -> Path:
    """Where the secret lies that the first start made."""
    return settings.data / "internal.secret"


def known_secret(settings: Settings) -> str:
    """The secret of this node; empty where it has none yet."""
    return settings.internal.secret or files.known_secret(secret_file(settings))


def make_secret(settings: Settings) -> str:
    """The secret of this node; where it has none, one is made that only its owner can read."""
    return settings.internal.secret or files.make_secret(secret_file(settings))
