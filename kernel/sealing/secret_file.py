"""Secrets that the first start makes: one file each, which only its owner can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def known_secret(file: Path) -> str:
    """What the file holds; empty where there is none yet."""
    try:
        return file.read_text("ascii").strip()
    except FileNotFoundError:
        return ""


def make_secret(file: Path) -> str:
    """What the file holds; where there is none, 256 bits of chance are put there for good."""
    known = known_secret(file)
    if known:
        return known
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
            return known_secret(file)
    finally:
        aside.unlink(missing_ok=True)
    return known_secret(file)
