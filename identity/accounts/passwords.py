"""Password hashes: Argon2id (RFC 9106) with the parameters of OWASP's second choice."""

from __future__ import annotations

import asyncio
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

# 46 MiB, one pass, one lane: about 40 ms. At most so many at a time in one process.
_HASHER = PasswordHasher(time_cost=1, memory_cost=47104, parallelism=1)
_AT_ONCE = 4

# Verified for a login that does not exist, so that the answer takes as long.
_NOBODY = _HASHER.hash(secrets.token_urlsafe(16))


class Hashing:
    """Hashes passwords in threads, a few at a time."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def hash(self, password: str) -> str:
        """The hash with its parameters and salt."""
        async with self._free:
            return await asyncio.to_thread(_HASHER.hash, password)

    async def matches(self, password: str, hashed: str | None) -> bool:
        """Whether `password` belongs to the hash; None takes as long and never matches."""
        async with self._free:
            return await asyncio.to_thread(_matches, password, hashed)


def is_outdated(hashed: str) -> bool:
    """Whether the hash was made with other parameters than today's."""
    return _HASHER.check_needs_rehash(hashed)


def _matches(password: str, hashed: str | None) -> bool:
    try:
        return _HASHER.verify(hashed or _NOBODY, password) and hashed is not None
    except (VerificationError, InvalidHashError):
        return False
