"""What an API client is, and which tokens count for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from identity.grants.domain import Subject
from kernel.errors import Invalid

PREFIX = "yyt_"
GRACE_S = 24 * 3600.0
NAME_LENGTH = 64


@dataclass(frozen=True, slots=True)
class ApiClient:
    """A program that asks with a bearer token.

    With `account_id` it acts with a person's rights, else with roles granted to the client itself.
    `permissions` narrows those; empty means all of them. `networks` as for accounts.
    """

    id: int
    name: str
    account_id: int | None
    organisation_id: int | None
    permissions: frozenset[str]
    networks: str
    expires_at: datetime | None
    revoked_at: datetime | None

    @property
    def subject(self) -> Subject:
        """Whose roles count."""
        if self.account_id is not None:
            return Subject("account", self.account_id)
        return Subject("client", self.id)

    def has_expired(self, now: float) -> bool:
        """Whether its time is over; `now` in seconds since 1970."""
        return self.expires_at is not None and now >= self.expires_at.timestamp()


def check_name(name: str) -> str:
    """The name without outer space; raises Invalid `client.name`."""
    plain = " ".join(name.split())
    if not 1 <= len(plain) <= NAME_LENGTH:
        raise Invalid("client.name", "A client's name has 1 to {length} characters.", length=64)
    return plain
