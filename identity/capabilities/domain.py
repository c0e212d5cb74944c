"""Capability tokens in the manner of macaroons (Birgisson et al., NDSS 2014).

A token is a chain of statements. The first one is sealed with a key that only we have, each further
one with the seal before it: whoever holds a token can add a statement and so narrow it, nobody can
take one away. Everything is checked from the token, the keys and the revocation list in memory.

    yyc_<statement>.<statement>…<seal>      each in base64url; seal = HMAC-SHA256 chain
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from identity.accounts.domain import is_within
from identity.privacy.domain import ANONYMOUS_PURPOSES
from kernel.errors import Denied, Invalid

PREFIX = "yyc_"
LONGEST = 8192
MOST_STATEMENTS = 16
SEAL_BYTES = 32


@dataclass(frozen=True, slots=True)
class Caveat:
    """One narrowing; None leaves a side as it is. `until` in seconds since 1970."""

    studies: frozenset[str] | None = None
    permissions: frozenset[str] | None = None
    until: float | None = None
    purpose: str | None = None
    networks: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Capability:
    """What a good token opens: exactly these studies of these owners, until then.

    `revocation_ids` name the token and every wider one that it was made from; `issuer` is the
    account that gave it.
    """

    owners: frozenset[int]
    issuer: int
    studies: frozenset[str]
    permissions: frozenset[str]
    until: float
    purpose: str
    networks: tuple[tuple[str, ...], ...]
    revocation_ids: tuple[str, ...]

    @property
    def id(self) -> str:
        """The name of the token for the audit: that of the widest one it was made from."""
        return self.revocation_ids[0]


def mint(
    key_id: str,
    key: bytes,
    *,
    owners: Collection[int],
    issuer: int,
    caveat: Caveat,
) -> str:
    """A new token. The caveat must name studies, permissions, an end and a purpose."""
    if not (caveat.studies and caveat.permissions and caveat.until and caveat.purpose and owners):
        raise ValueError("a capability names owners, studies, permissions, an end and a purpose")
    head = {
        "k": key_id,
        "i": secrets.token_urlsafe(12),
        "o": sorted(owners),
        "a": issuer,
        **_to_json(caveat),
    }
    statement = _dump(head)
    return _join([statement], _seal(key, statement))


def attenuate(token: str, caveat: Caveat) -> str:
    """The token narrowed by one more caveat; needs no key.

    Raises Denied `capability.damaged`, Invalid `capability.long`.
    """
    statements, seal = _split(token)
    statement = _dump(_to_json(caveat))
    made = _join([*statements, statement], _seal(seal, statement))
    if len(made) > LONGEST or len(statements) >= MOST_STATEMENTS:
        raise Invalid("capability.long", "This token cannot be narrowed further.")
    return made


def verify(token: str, keys: Mapping[str, bytes], revoked: Set[str], now: float) -> Capability:
    """What a token opens now.

    Raises Denied `capability.damaged` for one that we did not seal, `capability.expired`,
    `capability.revoked`.
    """
    statements, seal = _split(token)
    texts = [_load(statement) for statement in statements]
    head = texts[0]
    current = keys.get(head.get("k", ""))
    if current is None:
        raise _damaged()
    names = []
    for statement in statements:
        current = _seal(current, statement)
        names.append(hashlib.sha256(current).hexdigest()[:24])
    if not hmac.compare_digest(current, seal):
        raise _damaged()
    found = _narrowed(head, [_from_json(text) for text in texts], tuple(names))
    if now >= found.until:
        raise Denied("capability.expired", "This link has expired.")
    if not revoked.isdisjoint(names):
        raise Denied("capability.revoked", "This link was withdrawn.")
    return found


def check_use(found: Capability, permission: str, study: str | None, address: str) -> None:
    """Whether a capability opens this; raises Denied `capability.beyond`, `capability.network`.

    Routes that name no study are beyond it: a search over all studies is never shared.
    """
    if permission not in found.permissions or study is None:
        raise Denied("capability.beyond", "This link does not open that.")
    if not all(is_within(address, networks) for networks in found.networks):
        raise Denied("capability.network", "This link does not open from this network.")


def _narrowed(
    head: Mapping[str, Any], caveats: Sequence[Caveat], names: tuple[str, ...]
) -> Capability:
    first = caveats[0]
    try:
        owners = frozenset(int(one) for one in head["o"])
        issuer = int(head["a"])
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged() from error
    studies, permissions = first.studies or frozenset(), first.permissions or frozenset()
    until, purpose = first.until or 0.0, first.purpose or ""
    for one in caveats[1:]:
        studies = studies if one.studies is None else studies & one.studies
        permissions = permissions if one.permissions is None else permissions & one.permissions
        until = until if one.until is None else min(until, one.until)
        purpose = _narrowed_purpose(purpose, one.purpose)
    networks = tuple(one.networks for one in caveats if one.networks is not None)
    return Capability(owners, issuer, studies, permissions, until, purpose, networks, names)


def _narrowed_purpose(purpose: str, wanted: str | None) -> str:
    """A holder may turn the purpose into one that needs no names, not into another one."""
    if wanted is None or wanted == purpose:
        return purpose
    if wanted not in ANONYMOUS_PURPOSES:
        raise _damaged()
    return wanted


def _to_json(caveat: Caveat) -> dict[str, Any]:
    sides = {
        "s": None if caveat.studies is None else sorted(caveat.studies),
        "p": None if caveat.permissions is None else sorted(caveat.permissions),
        "e": caveat.until,
        "u": caveat.purpose,
        "n": None if caveat.networks is None else list(caveat.networks),
    }
    return {name: value for name, value in sides.items() if value is not None}


def _from_json(text: Mapping[str, Any]) -> Caveat:
    """The caveat of a statement; one that cannot be read closes the token (fail closed)."""
    try:
        return Caveat(
            studies=_texts(text["s"]) if "s" in text else None,
            permissions=_texts(text["p"]) if "p" in text else None,
            until=float(text["e"]) if "e" in text else None,
            purpose=str(text["u"]) if "u" in text else None,
            networks=tuple(sorted(_texts(text["n"]))) if "n" in text else None,
        )
    except (TypeError, ValueError) as error:
        raise _damaged() from error


def _texts(values: Any) -> frozenset[str]:
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise TypeError("a list of texts")
    return frozenset(values)


def _seal(key: bytes, statement: bytes) -> bytes:
    return hmac.digest(key, statement, hashlib.sha256)


def _join(statements: Sequence[bytes], seal: bytes) -> str:
    parts = [*statements, seal]
    return PREFIX + ".".join(base64.urlsafe_b64encode(one).decode().rstrip("=") for one in parts)


def _split(token: str) -> tuple[list[bytes], bytes]:
    if not token.startswith(PREFIX) or len(token) > LONGEST or not token.isascii():
        raise _damaged()
    try:
        parts = [
            base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
            for part in token.removeprefix(PREFIX).split(".")
        ]
    except (binascii.Error, ValueError) as error:
        raise _damaged() from error
    *statements, seal = parts
    if not 1 <= len(statements) <= MOST_STATEMENTS or len(seal) != SEAL_BYTES:
        raise _damaged()
    return statements, seal


def _dump(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


_KNOWN = frozenset("kioaspeun")


def _load(statement: bytes) -> dict[str, Any]:
    try:
        value = json.loads(statement)
    except (ValueError, RecursionError) as error:
        raise _damaged() from error
    # A side that we do not know is a narrowing that we cannot keep: the token is refused.
    if not isinstance(value, dict) or not _KNOWN.issuperset(value):
        raise _damaged()
    return value


def _damaged() -> Denied:
    return Denied("capability.damaged", "This link is incomplete or was changed.")
