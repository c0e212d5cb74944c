"""What another provider says, and when it is believed (OpenID Connect Core 3.1.3.7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kernel.errors import Denied

ALGORITHMS = ("ES256", "RS256")
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
CLOCK_MARGIN_S = 60.0
LOGOUT_AGE_S = 600.0


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a provider says about itself."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    end_session_endpoint: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """A person who was signed in there."""

    issuer: str
    subject: str
    login: str
    sid: str
    amr: str
    id_token: str


def check_metadata(said: Mapping[str, Any], issuer: str) -> Metadata:
    """Raises Denied `upstream.metadata` (Discovery 4.3)."""
    names = ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri")
    values = {name: said.get(name) for name in names}
    if said.get("issuer") != issuer or not all(isinstance(one, str) for one in values.values()):
        raise Denied("upstream.metadata", "The sign-in service says that it is another one.")
    ending = said.get("end_session_endpoint")
    return Metadata(
        **{name: str(one) for name, one in values.items()},
        end_session_endpoint=ending if isinstance(ending, str) else "",
    )


def check_id_token(
    claims: Mapping[str, Any], issuer: str, client_id: str, nonce: str, now: float, id_token: str
) -> Arrived:
    """Raises Denied `upstream.token` for one that is not for us, now, and from there."""
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    expires = claims.get("exp")
    good = (
        claims.get("iss") == issuer
        and client_id in audiences
        and (len(audiences) == 1 or claims.get("azp") == client_id)
        and isinstance(expires, int | float)
        and now < expires + CLOCK_MARGIN_S
        and claims.get("nonce") == nonce
        and isinstance(claims.get("sub"), str)
        and bool(claims["sub"])
    )
    if not good:
        raise _token()
    ways = claims.get("amr")
    known = [one for one in ("pwd", "otp", "sms") if isinstance(ways, list) and one in ways]
    return Arrived(
        issuer,
        claims["sub"],
        str(claims.get("preferred_username", "")),
        str(claims.get("sid", "")),
        " ".join(known or ["pwd"]),
        id_token,
    )


def check_logout(
    claims: Mapping[str, Any], issuer: str, client_id: str, now: float
) -> tuple[str, str, float]:
    """Subject, session name and moment of a logout token (Back-Channel Logout 2.6).

    Raises Denied `upstream.token`.
    """
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    events, issued = claims.get("events"), claims.get("iat")
    good = (
        claims.get("iss") == issuer
        and client_id in audiences
        and isinstance(issued, int | float)
        and abs(now - issued) < LOGOUT_AGE_S
        and isinstance(events, dict)
        and isinstance(events.get(LOGOUT_EVENT), dict)
        and "nonce" not in claims
        and bool(claims.get("sub") or claims.get("sid"))
    )
    if not good:
        raise _token()
    return str(claims.get("sub", "")), str(claims.get("sid", "")), float(claims["iat"])


def _token() -> Denied:
    return Denied("upstream.token", "What the sign-in service says cannot be believed.")
