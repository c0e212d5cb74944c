"""The secret that nodes show each other: from the settings, else a file in the data folder."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from kernel.settings import Settings


def secret_file(settings: Settings) -> Path:
    """Where the secret lies that the first start made."""
    return settings.data / "internal.secret"


def known_secret(settings: Settings) -> str:
    """The secret of this node; empty where it has none yet."""
    if settings.internal.secret:
        return settings.internal.secret
    try:
        return secret_file(settings).read_text("ascii").strip()
    except FileNotFoundError:
        return ""


def make_secret(settings: Settings) -> str:
    """The secret of this node; where it has none, one is made that only its owner can read."""
    known = known_secret(settings)
    if known:
        return known
    file = secret_file(settings)
    aside = file.with_name(f".{file.name}-{os.getpid()}")
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="ascii") as written:
            written.write(secrets.token_urlsafe(32) + "\n")
            written.flush()
            os.fsync(written.fileno())
        try:
            file.hardlink_to(aside)  # of two processes that start together one wins
        except FileExistsError:
            return known_secret(settings)
    finally:
        aside.unlink(missing_ok=True)
    return known_secret(settings)
