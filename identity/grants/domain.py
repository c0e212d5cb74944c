"""Who holds which role where and when, which owners that covers, and who may grant what."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from identity.organisations.domain import covers
from identity.roles.domain import Catalogue, Role
from kernel.errors import Conflict, Denied, Invalid
from kernel.i18n.catalog import Word

SubjectKind = Literal["account", "client"]
GRANT = "identity.role.grant"


class Subject(NamedTuple):
    """Who can hold a role: an account or an API client."""

    kind: str
    id: int


@dataclass(frozen=True, slots=True)
class Grant:
    """A role at an organisation (None: everywhere), in force from `valid_from` before
    `valid_until`, in seconds since 1970."""

    id: int
    subject: Subject
    role: str
    organisation_id: int | None
    valid_from: float = 0.0
    valid_until: float | None = None

    def in_force(self, now: float) -> bool:
        """Whether it holds at that moment."""
        return self.valid_from <= now and (self.valid_until is None or now < self.valid_until)


class Held(NamedTuple):
    """A role in force at a path."""

    role: Role
    path: str
    grant: Grant


class Owners:
    """The paths of all owners, and who stands below a path."""

    def __init__(self, paths: Mapping[int, str]) -> None:
        self.paths = paths
        self.all = frozenset(paths)
        self._sorted = sorted((path, owner_id) for owner_id, path in paths.items())

    def path(self, organisation_id: int | None) -> str | None:
        """The path of an organisation, '' for the top; None for one that is not known."""
        return "" if organisation_id is None else self.paths.get(organisation_id)

    def below(self, path: str) -> frozenset[int]:
        """The owners at `path` and below it."""
        if not path:
            return self.all
        start = bisect_left(self._sorted, (path, -1))
        found = []
        if start < len(self._sorted) and self._sorted[start][0] == path:
            found.append(self._sorted[start][1])
        # Everything below begins with the path and a slash; "0" is the letter after the slash.
        first = bisect_left(self._sorted, (path + "/", -1))
        last = bisect_left(self._sorted, (path + "0", -1))
        found += [owner_id for _, owner_id in self._sorted[first:last]]
        return frozenset(found)


class Rights:
    """Everything that is granted, at one moment of its history. Never changed once made."""

    def __init__(self, owners: Owners, catalogue: Catalogue, grants: Iterable[Grant]) -> None:
        self.owners = owners
        self.catalogue = catalogue
        self.grants: dict[Subject, list[Grant]] = {}
        for one in grants:
            self.grants.setdefault(one.subject, []).append(one)
        self._known: dict[tuple[Subject, str], tuple[frozenset[int], float]] = {}

    def held(self, subject: Subject, now: float) -> Iterator[Held]:
        """The roles of a subject that are in force; those at an unknown place are not."""
        for one in self.grants.get(subject, ()):
            path = self.owners.path(one.organisation_id)
            role = self.catalogue.roles.get(one.role)
            if path is not None and role is not None and one.in_force(now):
                yield Held(role, path, one)

    def owners_for(self, subject: Subject, permission: str, now: float) -> frozenset[int]:
        """The owners for whose data the subject has the permission; kept until grants change it."""
        known = self._known.get((subject, permission))
        if known is not None and now < known[1]:
            return known[0]
        found: frozenset[int] = frozenset()
        for one in self.held(subject, now):
            if permission in one.role.permissions:
                found |= self.owners.below(one.path)
        self._known[subject, permission] = (found, self._next_change(subject, now))
        return found

    def is_at_top(self, subject: Subject, permission: str, now: float) -> bool:
        """Whether the subject has the permission by a role at the top of the tree."""
        held = self.held(subject, now)
        return any(not one.path and permission in one.role.permissions for one in held)

    def grantable_at(self, subject: Subject, path: str, now: float) -> frozenset[str]:
        """What a subject who may grant at `path` can give there; empty where it may not grant."""
        there = [one.role for one in self.held(subject, now) if covers(one.path, path)]
        if not any(GRANT in role.permissions for role in there):
            return frozenset()
        return frozenset().union(*(role.grantable for role in there))

    def _next_change(self, subject: Subject, now: float) -> float:
        moments = [
            moment
            for one in self.grants.get(subject, ())
            for moment in (one.valid_from, one.valid_until)
            if moment is not None and moment > now
        ]
        return min(moments, default=float("inf"))


def check_grant(rights: Rights, by: Subject | None, new: Grant, now: float) -> None:
    """Whether `by` may grant this; None is the system itself, which the tree bounds alone.

    Raises Denied `grant.self`, `grant.scope`, `grant.beyond`; Invalid `role.unknown`,
    `grant.place`, `grant.time`; Conflict `grant.conflict` (separation of duties).
    """
    role = rights.catalogue.role(new.role)
    path = rights.owners.path(new.organisation_id)
    if path is None:
        raise Invalid("grant.place", "There is no organisation {id}.", id=new.organisation_id)
    if new.valid_until is not None and new.valid_until <= max(new.valid_from, now):
        raise Invalid("grant.time", "The grant would end before it begins.")
    if by is not None:
        _check_granter(rights, by, new, role, path, now)
    check_duties(rights, new, path, now)


def check_duties(rights: Rights, new: Grant, path: str, now: float) -> None:
    """Raise Conflict `grant.conflict` when the subject holds an excluding role over that place.

    Grants to come count as well as those in force.
    """
    for other in rights.grants.get(new.subject, ()):
        if other is new:
            continue
        conflict = rights.catalogue.conflict(new.role, other.role)
        there = rights.owners.path(other.organisation_id)
        if conflict is None or there is None:
            continue
        overlap = covers(path, there) or covers(there, path)
        over = other.valid_until is not None and other.valid_until <= max(now, new.valid_from)
        later = new.valid_until is not None and new.valid_until <= other.valid_from
        if overlap and not over and not later:
            raise Conflict(
                "grant.conflict",
                "{role} and {other} exclude each other: {reason}.",
                role=Word(rights.catalogue.role(new.role).title),
                other=Word(rights.catalogue.role(other.role).title),
                reason=Word(conflict.reason),
            )


def check_withdrawal(rights: Rights, by: Subject | None, old: Grant, now: float) -> None:
    """Whether `by` may withdraw a grant: as who may give it. Raises Denied `grant.*`."""
    path = rights.owners.path(old.organisation_id)
    role = rights.catalogue.roles.get(old.role)
    if by is not None and role is not None:
        _check_granter(rights, by, old, role, path or "", now)


def check_takeover(rights: Rights, by: Subject, subject: Subject, now: float) -> None:
    """Whether `by` may give `subject` a new password: as who may give it every role that it has.

    Otherwise whoever administers a hospital could sign in as a colleague who may do more, or
    elsewhere. Raises Denied `account.beyond`.
    """
    for one in rights.grants.get(subject, ()):
        try:
            check_withdrawal(rights, by, one, now)
        except Denied as error:
            raise Denied(
                "account.beyond",
                "You cannot reset this password: its owner has roles that you may not give.",
            ) from error


def check_definition(rights: Rights, by: Subject | None, role: Role, now: float) -> None:
    """Whether `by` may make a role of this installation's own, which holds everywhere.

    Raises Invalid `role.empty`, Denied `role.top`, `role.beyond`, Conflict `role.duties`.
    """
    if not role.grantable:
        raise Invalid("role.empty", "Choose at least one permission.")
    rights.catalogue.check_own(role)
    if by is None:
        return
    own = rights.grantable_at(by, "", now)
    if not own:
        raise Denied("role.top", "Only who grants roles everywhere makes roles.")
    beyond = sorted(role.grantable - own)
    if beyond:
        raise Denied(
            "role.beyond",
            "You cannot put {permissions} into a role: you do not have it everywhere.",
            permissions=", ".join(beyond),
        )


def check_holders(rights: Rights, by: Subject | None, changed: Role, now: float) -> None:
    """Whether those who hold a role may hold it as `changed`.

    Raises Denied `role.own` for one's own role, Conflict `grant.conflict` (separation of duties).
    """
    after = Rights(
        rights.owners,
        Catalogue(
            {**rights.catalogue.roles, changed.code: changed},
            rights.catalogue.conflicts,
            rights.catalogue.duties,
        ),
        (),
    )
    after.grants = rights.grants
    for subject, some in rights.grants.items():
        for one in some:
            path = rights.owners.path(one.organisation_id)
            if one.role != changed.code or path is None:
                continue
            if subject == by:
                raise Denied("role.own", "Nobody changes a role of their own.")
            check_duties(after, one, path, now)


def _check_granter(
    rights: Rights, by: Subject, new: Grant, role: Role, path: str, now: float
) -> None:
    if new.subject == by:
        raise Denied("grant.self", "Nobody changes their own roles.")
    own = rights.grantable_at(by, path, now)
    if not own:
        raise Denied("grant.scope", "You may not grant roles at this organisation.")
    beyond = sorted(role.grantable - own)
    if beyond:
        raise Denied(
            "grant.beyond",
            "You cannot grant {role}: it includes {permissions}, which you do not have there.",
            role=Word(role.title),
            permissions=", ".join(beyond),
        )
