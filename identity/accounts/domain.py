"""What an account is, which passwords are good, and when an account is locked."""

from __future__ import annotations

import ipaddress
import re
import secrets
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from kernel.errors import Conflict, Denied, Invalid
from kernel.i18n.catalog import Word, marked
from kernel.settings import AccessSettings

AccountState = Literal["active", "suspended", "left"]
AccountStep = Literal["suspend", "resume", "leave"]
AccountKind = Literal["staff", "citizen"]

ADMIN = "admin"
# (state, step) → state. What is not here is refused.
TRANSITIONS: Mapping[tuple[str, str], AccountState] = {
    ("active", "suspend"): "suspended",
    ("suspended", "resume"): "active",
    ("active", "leave"): "left",
    ("suspended", "leave"): "left",
}
STATES: Mapping[str, str] = {
    "active": marked("Active"),
    "suspended": marked("Suspended"),
    "left": marked("Left"),
}
STEPS: Mapping[str, str] = {
    "suspend": marked("Suspend"),
    "resume": marked("Resume"),
    "leave": marked("Leave"),
}
# Staff data that may be edited.
FACTS = (
    "display_name",
    "title",
    "licence_number",
    "licence_until",
    "practice_scope",
    "phone",
    "networks",
)

_LOGIN = re.compile(r"[a-z0-9][a-z0-9._-]{1,31}")
_LOOKALIKES = "0O1lI"
_LETTERS = "".join(c for c in string.ascii_letters + string.digits if c not in _LOOKALIKES)
_COMMON = ("password", "qwert", "123456", "abc123", "admin", "yunying", "111111", "888888")
LONGEST_PASSWORD = 256


@dataclass(frozen=True, slots=True)
class Account:
    """One person who can sign in. `organisation_id` is where the person works, or None.

    `networks` narrows from where: networks in CIDR form, separated by commas.
    """

    id: int
    login: str
    display_name: str
    kind: str
    state: str
    organisation_id: int | None
    title: str = ""
    licence_number: str = ""
    licence_until: date | None = None
    practice_scope: str = ""
    phone: str = ""
    networks: str = ""


def step(state: str, taken: str) -> AccountState:
    """The state after a step; raises Conflict `account.step`."""
    after = TRANSITIONS.get((state, taken))
    if after is None:
        raise Conflict(
            "account.step",
            "An account in state {state} cannot take the step {step}.",
            state=Word(STATES.get(state, state)),
            step=Word(STEPS.get(taken, taken)),
        )
    return after


def check_login(login: str) -> str:
    """The login name in its normal form; raises Invalid `account.login`."""
    plain = login.strip().lower()
    if not _LOGIN.fullmatch(plain):
        raise Invalid(
            "account.login",
            "“{login}” is not a login name: 2 to 32 letters, digits, dots, dashes or underscores.",
            login=login,
        )
    return plain


def check_licence(account: Account, day: date) -> None:
    """Raise Denied `account.licence` when the account has no licence in force on `day`."""
    lapsed = account.licence_until is not None and account.licence_until < day
    if not account.licence_number or lapsed:
        raise Denied("account.licence", "There is no licence to practise in force.")


def check_password(
    password: str, policy: AccessSettings, *, login: str, display_name: str = ""
) -> None:
    """Raise Invalid `password.*` for one that is too short, too simple or too easy to guess."""
    if not policy.password_length <= len(password) <= LONGEST_PASSWORD:
        raise Invalid(
            "password.short",
            "A password has at least {length} characters.",
            length=policy.password_length,
        )
    kinds = {_kind(letter) for letter in password}
    if len(kinds) < policy.password_classes:
        raise Invalid(
            "password.simple",
            "A password needs {kinds} of these: small letters, capitals, digits, other characters.",
            kinds=policy.password_classes,
        )
    plain = password.lower()
    names = [one for one in (login, *display_name.lower().split()) if len(one) > 2]
    if any(one in plain for one in (*names, *_COMMON)) or len(set(plain)) < 5:
        raise Invalid(
            "password.guessable", "This password is too easy to guess: it holds a common word."
        )


def _kind(letter: str) -> str:
    if letter.isascii():
        for kind in (str.islower, str.isupper, str.isdigit):
            if kind(letter):
                return kind.__name__
    return "other"


def generate_password(policy: AccessSettings) -> str:
    """A password that the policy accepts, without letters that look alike."""
    length = max(14, policy.password_length)
    while True:
        made = "".join(secrets.choice(_LETTERS) for _ in range(length - 2))
        made = f"{made[:5]}-{made[5:]}{secrets.randbelow(8) + 2}"
        try:
            check_password(made, policy, login="")
        except Invalid:
            continue
        return made


def is_locked(failures: int, last_failure: datetime, now: datetime, policy: AccessSettings) -> bool:
    """Whether so many attempts, the last then, lock an account now."""
    if failures < policy.lockout_failures:
        return False
    return (now - last_failure).total_seconds() < policy.lockout_s


def password_expired(changed_at: datetime, now: datetime, policy: AccessSettings) -> bool:
    """Whether a password must be changed because of its age."""
    return policy.password_days > 0 and (now - changed_at).days >= policy.password_days


def check_networks(networks: str) -> str:
    """Networks separated by commas in their normal form; raises Invalid `account.networks`."""
    parts = [part.strip() for part in networks.replace("，", ",").split(",") if part.strip()]
    try:
        return ",".join(str(ipaddress.ip_network(part, strict=False)) for part in parts)
    except ValueError as error:
        raise Invalid(
            "account.networks", "“{value}” are not networks such as 10.52.0.0/16.", value=networks
        ) from error


def is_within(address: str, networks: Iterable[str]) -> bool:
    """Whether an address is in one of the networks; no networks mean every address."""
    wanted = [ipaddress.ip_network(one, strict=False) for one in networks if one]
    if not wanted:
        return True
    try:
        host = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped is not None:
        host = host.ipv4_mapped
    return any(host in one for one in wanted)
