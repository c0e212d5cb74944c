"""Which key signs, which keys others may check by, and when a key is due to be followed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

ALGORITHM = "ES256"  # RFC 7518 3.4
CURVE = "P-256"

# Others may keep our list so long (Cache-Control); a key is in it twice as long before it signs.
CACHED_S = 300.0
AHEAD_S = 2 * CACHED_S
# A key stays in the list longer than anything lives that it has signed.
LONGEST_TOKEN_S = 3600.0
KEPT_S = 86400.0


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key; moments are seconds since 1970. `published_until` None: no key follows it yet."""

    id: str
    public: Mapping[str, Any]
    created_at: float
    signs_from: float
    published_until: float | None = None

    def is_published(self, now: float) -> bool:
        """Whether others may check by it."""
        return self.published_until is None or now < self.published_until


def signing(keys: Iterable[SigningKey], now: float) -> SigningKey | None:
    """The newest of the keys that sign by now."""
    ripe = [one for one in keys if one.signs_from <= now and one.is_published(now)]
    return max(ripe, key=lambda one: (one.signs_from, one.id), default=None)


def jwk_set(keys: Iterable[SigningKey], now: float) -> dict[str, Any]:
    """The list that others check by (RFC 7517 5)."""
    listed = [one for one in keys if one.is_published(now)]
    return {
        "keys": [
            {**one.public, "kid": one.id, "use": "sig", "alg": ALGORITHM}
            for one in sorted(listed, key=lambda one: (one.signs_from, one.id))
        ]
    }


def is_due(keys: Iterable[SigningKey], now: float, days: float) -> bool:
    """Whether the newest key is old enough to be followed, or there is none."""
    newest = max((one.created_at for one in keys if one.is_published(now)), default=None)
    return newest is None or now - newest >= days * 86400
