"""What an application is, where it may send people back to, and what it may be told."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from yarl import URL

from kernel.errors import Invalid
from kernel.i18n.catalog import marked

Kind = Literal["confidential", "public"]
Audience = Literal["staff", "citizen"]

NAME_LENGTH = 64
MOST_URIS = 20
URI_LENGTH = 500
_CLIENT_ID = re.compile(r"[a-z0-9][a-z0-9._-]{1,63}")
_PRIVATE_SCHEME = re.compile(r"[a-z][a-z0-9+-]*(\.[a-z0-9+-]+)+")
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

OPENID = "openid"
# What is told about a person (OpenID Connect Core 5.4), and what may be done in their name.
SCOPES: Mapping[str, str] = {
    OPENID: marked("Know who you are"),
    "profile": marked("See your name and login name"),
    "phone": marked("See your phone number"),
    "org": marked("See where you work"),
    "roles": marked("See which roles you have"),
    "studies.read": marked("See and download the studies that you may see"),
    "studies.write": marked("Store studies for your institution"),
}
# What a token opens: these permissions, as far as the person has them.
PERMISSIONS_OF: Mapping[str, frozenset[str]] = {
    "studies.read": frozenset(
        {
            "archive.study.search",
            "archive.study.read",
            "archive.identifiers.read",
            "archive.sensitive.vip",
            "archive.sensitive.mental_health",
            "archive.sensitive.hiv",
        }
    ),
    "studies.write": frozenset({"archive.study.store"}),
}
# What residents have nothing of.
STAFF_SCOPES = frozenset({"org", "roles", "studies.read", "studies.write"})


@dataclass(frozen=True, slots=True)
class Application:
    """A registered program. `first_party` ones ask nobody for consent.

    `audience` says who signs in there: staff, or residents.
    """

    id: int
    client_id: str
    name_zh: str
    name_en: str
    kind: str
    audience: str
    first_party: bool
    redirect_uris: tuple[str, ...]
    post_logout_uris: tuple[str, ...]
    backchannel_uri: str
    scopes: frozenset[str]
    state: str

    def name(self, language: str) -> str:
        """What people read."""
        return self.name_zh if language == "zh-CN" else self.name_en


def permissions_of(scopes: Iterable[str]) -> frozenset[str]:
    """The permissions that a token with these scopes opens."""
    return frozenset().union(*(PERMISSIONS_OF.get(one, frozenset()) for one in scopes))


def check_client_id(client_id: str) -> str:
    """The id in its normal form; raises Invalid `application.client_id`."""
    plain = client_id.strip().lower()
    if not _CLIENT_ID.fullmatch(plain):
        raise Invalid(
            "application.client_id",
            "“{value}” is not an id: 2 to 64 small letters, digits, dots, dashes or underscores.",
            value=client_id,
        )
    return plain


def check_name(name: str) -> str:
    """A name without outer space; raises Invalid `application.name`."""
    plain = " ".join(name.split())
    if not 1 <= len(plain) <= NAME_LENGTH:
        raise Invalid("application.name", "An application's name has 1 to 64 characters.")
    return plain


def check_uris(uris: Iterable[str], code: str, *, private: bool = False) -> tuple[str, ...]:
    """Addresses as they will be compared, letter by letter (RFC 9700 2.1).

    https, or http on this machine; with `private` also a scheme of an app on a phone such as
    `cn.example.app:/signed-in` (RFC 8252 7.1). Raises Invalid with `code`.
    """
    found = tuple(dict.fromkeys(one.strip() for one in uris if one.strip()))
    if len(found) > MOST_URIS:
        raise Invalid(code, "At most {number} addresses.", number=MOST_URIS)
    for one in found:
        if not _is_address(one, private=private):
            raise Invalid(
                code,
                "“{value}” cannot be used: a whole https address without a fragment is needed"
                " (http on this machine only).",
                value=one,
            )
    return found


def check_scopes(scopes: Collection[str], audience: str) -> frozenset[str]:
    """The scopes with `openid`; raises Invalid `application.scope`."""
    wanted = frozenset(scopes) | {OPENID}
    allowed = frozenset(SCOPES) - (STAFF_SCOPES if audience == "citizen" else frozenset())
    if not wanted <= allowed:
        unknown = ", ".join(sorted(wanted - allowed))
        raise Invalid("application.scope", "There is no scope {name} here.", name=unknown)
    return wanted


def origin_of(uri: str) -> str:
    """Scheme, host and port of an address, for people to read; the scheme of an app's own one."""
    parsed = URL(uri)
    return str(parsed.origin()) if parsed.scheme in ("http", "https") else f"{parsed.scheme}:"


def _is_address(uri: str, *, private: bool) -> bool:
    if len(uri) > URI_LENGTH or not uri.isascii() or not uri.isprintable() or " " in uri:
        return False
    try:
        parsed = URL(uri, encoded=True)
        has_host = bool(parsed.host)
    except ValueError:
        return False
    if "#" in uri or "*" in uri or "\\" in uri or parsed.user is not None:
        return False
    if parsed.scheme == "https":
        return has_host
    if parsed.scheme == "http":
        return parsed.host in _LOOPBACK
    return private and _PRIVATE_SCHEME.fullmatch(parsed.scheme) is not None
