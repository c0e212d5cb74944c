"""Making secrets and their fingerprints."""

from __future__ import annotations

import hashlib
import secrets

_BYTES = 32


def new_secret() -> str:
    """256 bits of chance as text for a cookie or a header."""
    return secrets.token_urlsafe(_BYTES)


def fingerprint(secret: str) -> str:
    """SHA-256 of a secret that was generated here, so holds too much chance to be guessed."""
    return hashlib.sha256(secret.encode()).hexdigest()
