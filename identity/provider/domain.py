"""What an application asks when it sends a person here (OpenID Connect Core 3.1.2.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from multidict import MultiMapping

from identity.applications.domain import OPENID, Application
from identity.authorisations.domain import OAuthError, is_challenge
from kernel.errors import Invalid

AUTHORIZE = "/sso/authorize"
TOKEN = "/sso/token"  # noqa: S105 - an address
USERINFO = "/sso/userinfo"
JWKS = "/sso/jwks"
REVOKE = "/sso/revoke"
INTROSPECT = "/sso/introspect"
LOGOUT = "/sso/logout"
CONSENT = "/sso/consent"

PROMPTS = frozenset({"none", "login", "consent", "select_account"})
# Set and sealed by ourselves after `prompt=login`: the sign-in must be younger than this (ms).
SINCE = "signed_in_since"
SINCE_COUNTS_S = 600.0
_LONGEST_STATE = 2000
_CLAIMS = (
    "sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "sid", "name",
    "preferred_username", "phone_number", "phone_number_verified", "org", "org_name", "roles",
)  # fmt: skip


# A query or a form, in which a name may come more than once.
Parameters = MultiMapping[Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A checked request: what is asked for, and how the person is to be asked."""

    redirect_uri: str
    scopes: frozenset[str]
    state: str
    nonce: str
    challenge: str
    prompts: frozenset[str]
    max_age: float | None
    since: float
    login_hint: str


def one_of_each(parameters: Parameters) -> dict[str, str]:
    """The parameters by name; raises OAuthError for one that comes twice (RFC 6749 3.1).

    One without a value counts as not sent.
    """
    found: dict[str, str] = {}
    for name in dict.fromkeys(parameters.keys()):
        values = parameters.getall(name)
        if len(values) > 1 or not isinstance(values[0], str):
            raise OAuthError("invalid_request", "A parameter is there more than once.")
        if values[0]:
            found[name] = values[0]
    return found


def target_of(application: Application, parameters: Parameters) -> str:
    """Where the person may be led back to, letter by letter as registered.

    Raises Invalid `sso.redirect_uri`: then nobody is led anywhere (RFC 6749 4.1.2.1).
    """
    wanted = parameters.getall("redirect_uri", [])
    if len(wanted) != 1 or wanted[0] not in application.redirect_uris:
        raise Invalid(
            "sso.redirect_uri",
            "The application asks to lead you to an address that is not registered for it.",
        )
    return str(wanted[0])


def read_request(
    application: Application, target: str, parameters: Parameters, since: float = 0.0
) -> Wanted:
    """What is asked; raises OAuthError, which the application is told at `target`.

    `since` is the moment (s) from which on a sign-in counts as made for this request; 0: none.
    """
    given = one_of_each(parameters)
    for name in ("request", "request_uri", "registration"):
        if name in given:
            raise OAuthError(f"{name}_not_supported", "{name} is not supported.", name=name)
    if given.get("response_type") is None:
        raise OAuthError("invalid_request", "response_type is missing.")
    if given["response_type"] != "code":
        raise OAuthError("unsupported_response_type", "Only response_type=code is answered.")
    if given.get("response_mode", "query") != "query":
        raise OAuthError("invalid_request", "Only response_mode=query is answered.")
    challenge = given.get("code_challenge", "")
    if given.get("code_challenge_method", "plain") != "S256" or not is_challenge(challenge):
        raise OAuthError("invalid_request", "A code_challenge with method S256 is needed.")
    scopes = frozenset(given.get("scope", "").split())
    if not scopes or not scopes <= application.scopes:
        raise OAuthError("invalid_scope", "The scope is not registered for this application.")
    nonce = given.get("nonce", "")
    if len(given.get("state", "")) > _LONGEST_STATE or len(nonce) > 500 or not nonce.isprintable():
        raise OAuthError("invalid_request", "state or nonce cannot be kept.")
    return Wanted(
        target,
        scopes,
        given.get("state", ""),
        nonce,
        challenge,
        _prompts(given.get("prompt", "")),
        _number(given, "max_age"),
        since,
        given.get("login_hint", "")[:64],
    )


def must_sign_in(wanted: Wanted, auth_time: float, now: float) -> bool:
    """Whether a person who is signed in must sign in again."""
    if wanted.since and auth_time >= wanted.since:
        return False  # just now, because of this request
    if wanted.max_age is not None and now - auth_time > wanted.max_age:
        return True
    return bool(wanted.prompts & {"login", "select_account"})


def back_to(target: str, issuer: str, state: str, **parameters: str) -> str:
    """The address that leads back: with `state` as it came, and `iss` (RFC 9207)."""
    sent = {**parameters, **({"state": state} if state else {}), "iss": issuer}
    joint = "&" if urlsplit(target).query else "?"
    return f"{target}{joint}{urlencode(sent)}"


def discovery(issuer: str, scopes: list[str]) -> Mapping[str, Any]:
    """What applications read first (OpenID Connect Discovery 3)."""
    return {
        "issuer": issuer,
        "authorization_endpoint": issuer + AUTHORIZE,
        "token_endpoint": issuer + TOKEN,
        "userinfo_endpoint": issuer + USERINFO,
        "jwks_uri": issuer + JWKS,
        "revocation_endpoint": issuer + REVOKE,
        "introspection_endpoint": issuer + INTROSPECT,
        "end_session_endpoint": issuer + LOGOUT,
        "scopes_supported": scopes,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported": [
            "client_secret_basic",
            "client_secret_post",
            "none",
        ],
        "code_challenge_methods_supported": ["S256"],
        "prompt_values_supported": sorted(PROMPTS),
        "acr_values_supported": ["pwd", "otp", "sms"],
        "claims_supported": list(_CLAIMS),
        "ui_locales_supported": ["zh-CN", "en"],
        "claims_parameter_supported": False,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "authorization_response_iss_parameter_supported": True,
        "backchannel_logout_supported": True,
        "backchannel_logout_session_supported": True,
    }


def _prompts(text: str) -> frozenset[str]:
    prompts = frozenset(text.split())
    if not prompts <= PROMPTS or ("none" in prompts and len(prompts) > 1):
        raise OAuthError("invalid_request", "prompt cannot be understood.")
    return prompts


def _number(given: Mapping[str, str], name: str) -> float | None:
    text = given.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise OAuthError("invalid_request", "{name} is not a number of seconds.", name=name)
    return float(text)


def asks_openid(scopes: frozenset[str]) -> bool:
    """Whether an ID token is wanted; without it this is OAuth 2.0 alone."""
    return OPENID in scopes
