"""What an authorisation is, and the rules of codes and tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Any

from kernel.errors import Invalid

ACCESS_PREFIX = "yya_"
REFRESH_PREFIX = "yyr_"
CODE_PREFIX = "yyo_"
CODE_S = 60.0

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")  # RFC 7636 4.1
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")  # 4.2, of SHA-256


class OAuthError(Invalid):
    """A refusal by its registered name: `invalid_grant`, `login_required` … (RFC 6749, OIDC Core).

    The message is English for developers (`error_description`), never for the person.
    """

    def __init__(self, error: str, message: str, /, **fields: Any) -> None:
        super().__init__(f"oauth.{error}", message, **fields)
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return OAuthError, (self.error, self.message)


@dataclass(frozen=True, slots=True)
class Authorisation:
    """What a person allowed an application in one session; moments in seconds since 1970.

    `sid` names the session to applications, `amr` how the person signed in (RFC 8176).
    """

    id: int
    application_id: int
    session_id: int
    account_id: int
    scopes: frozenset[str]
    sid: str
    issuer: str
    nonce: str
    auth_time: float
    amr: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What a bearer token stands for, as the guard knows it."""

    authorisation_id: int
    session_id: int
    account_id: int
    scopes: frozenset[str]
    expires_at: float
    client_id: str
    login: str
    display_name: str
    kind: str
    networks: str
    organisation_id: int | None


def is_challenge(challenge: str) -> bool:
    """Whether it can be the SHA-256 of a verifier."""
    return _CHALLENGE.fullmatch(challenge) is not None


def fits(verifier: str, challenge: str) -> bool:
    """Whether who began is who goes on (RFC 7636 4.6, S256)."""
    if not _VERIFIER.fullmatch(verifier):
        return False
    digest = hashlib.sha256(verifier.encode("ascii")).digest()
    made = base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
    return hmac.compare_digest(made, challenge)


def subject_of(kind: str, account_id: int) -> str:
    """The name of a person for applications: stable, never given again, and says nothing else."""
    return f"{kind[0]}{account_id}"


def acr_of(amr: tuple[str, ...]) -> str:
    """The strongest of the ways of signing in that were taken."""
    return next((one for one in ("otp", "sms", "pwd") if one in amr), "pwd")
