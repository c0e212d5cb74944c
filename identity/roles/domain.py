"""Roles and conflicts, read from `roles.toml`, and the permissions that patterns stand for."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from kernel.errors import Conflict, Invalid
from kernel.i18n.catalog import Word
from kernel.web.guard import PERMISSIONS, PUBLIC

_CODE = re.compile(r"[a-z][a-z0-9_]{1,39}")


@dataclass(frozen=True, slots=True)
class Role:
    """What its holder may do, and what its holder may pass on to others."""

    code: str
    title: str
    permissions: frozenset[str]
    delegates: frozenset[str] = frozenset()

    @property
    def grantable(self) -> frozenset[str]:
        """Permissions that a holder who may grant can give to others."""
        return self.permissions | self.delegates


@dataclass(frozen=True, slots=True)
class RoleConflict:
    """Two roles that nobody holds over the same organisation; `reason` is a msgid."""

    roles: frozenset[str]
    reason: str


@dataclass(frozen=True, slots=True)
class Duties:
    """Permissions that nobody holds together over the same organisation; `reason` is a msgid.

    They bind the roles that an installation makes itself; those of `roles.toml` are named there.
    """

    one: frozenset[str]
    other: frozenset[str]
    reason: str

    def parts(self, held: frozenset[str], also: frozenset[str]) -> bool:
        """Whether `held` is of the one duty and `also` of the other."""
        return bool(held & self.one and also & self.other)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All roles by code, and what excludes what: roles, and permissions of an installation's own
    roles."""

    roles: Mapping[str, Role]
    conflicts: tuple[RoleConflict, ...]
    duties: tuple[Duties, ...] = ()

    def role(self, code: str) -> Role:
        """One role; raises Invalid `role.unknown`."""
        found = self.roles.get(code)
        if found is None:
            raise Invalid("role.unknown", "There is no role {code}.", code=code)
        return found

    def conflict(self, one: str, other: str) -> RoleConflict | None:
        """Why two roles exclude each other, or None."""
        pair = frozenset({one, other})
        found = next((each for each in self.conflicts if each.roles == pair), None)
        if found is not None or pair <= built_in().roles.keys():
            return found
        held = [self.roles[code].permissions for code in pair if code in self.roles]
        for each in self.duties:
            if len(held) == 2 and (each.parts(*held) or each.parts(*reversed(held))):
                return RoleConflict(pair, each.reason)
        return None

    def check_own(self, role: Role) -> None:
        """Raise Conflict `role.duties` for an own role that joins what no one person may do."""
        for each in self.duties:
            if each.parts(role.permissions, role.permissions):
                raise Conflict(
                    "role.duties",
                    "One role cannot hold both “{one}” and “{other}”: {reason}.",
                    one=Word(PERMISSIONS[min(each.one & role.permissions)]),
                    other=Word(PERMISSIONS[min(each.other & role.permissions)]),
                    reason=Word(each.reason),
                )

    def with_roles(self, roles: Iterable[Role]) -> Catalogue:
        """The catalogue with roles that an installation has made itself; ours stay as they are."""
        return Catalogue(
            {**{one.code: one for one in roles}, **self.roles}, self.conflicts, self.duties
        )


@cache
def permissions() -> frozenset[str]:
    """Every permission that a role can hold."""
    return frozenset(PERMISSIONS) - {PUBLIC}


def expand(patterns: Iterable[str]) -> frozenset[str]:
    """The permissions that patterns stand for; raises Invalid `role.permission` for none."""
    found: set[str] = set()
    for pattern in patterns:
        meant = {one for one in permissions() if fnmatchcase(one, pattern)}
        if not meant:
            raise Invalid("role.permission", "There is no permission {name}.", name=pattern)
        found |= meant
    return frozenset(found)


def check_code(code: str) -> str:
    """The code of a role; raises Invalid `role.code`."""
    if not _CODE.fullmatch(code):
        raise Invalid(
            "role.code", "“{code}” is not a code: small letters and underscores.", code=code
        )
    return code


def check_title(title: str) -> str:
    """The name of a role; raises Invalid `role.title`."""
    plain = " ".join(title.split())
    if not 0 < len(plain) <= 60:
        raise Invalid("role.title", "A role needs a name of at most 60 characters.")
    return plain


@cache
def built_in() -> Catalogue:
    """The roles of `roles.toml`."""
    with (Path(__file__).parent / "roles.toml").open("rb") as file:
        tree = tomllib.load(file)
    roles = [
        Role(
            check_code(one["code"]),
            one["title"],
            expand(one["permissions"]),
            expand(one.get("delegates", ())),
        )
        for one in tree["role"]
    ]
    conflicts = [RoleConflict(frozenset(one["roles"]), one["reason"]) for one in tree["conflict"]]
    duties = [
        Duties(expand(one["permissions"]), expand(one["without"]), one["reason"])
        for one in tree["duties"]
    ]
    return Catalogue({one.code: one for one in roles}, tuple(conflicts), tuple(duties))
