"""Decisions about access from what is granted and open, and the reasons for them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from identity.break_glass.domain import OPENS, BreakGlass
from identity.grants.domain import Rights, Subject
from identity.organisations.domain import covers
from identity.privacy.domain import CLOSED, Mask, mask_for
from identity.roles.domain import permissions
from kernel.errors import Denied, NotFound
from kernel.scope import EMERGENCY, Actor, Scope

# What must be done besides answering.
AUDIT_FIRST = "audit_first"
REVIEW_AFTER = "review_after"
MASKED = "masked"


@dataclass(frozen=True, slots=True)
class Resource:
    """What is asked for: data of one owner and of sensitive kinds; without an owner a search."""

    owner_id: int | None = None
    sensitivity: frozenset[str] = frozenset()


ANYTHING = Resource()


@dataclass(frozen=True, slots=True)
class Decision:
    """A yes: which owners' data, what is masked in the answer, what must be done besides."""

    scope: Scope
    mask: Mask
    obligations: frozenset[str]


class Access:
    """Grants and open emergencies at one moment."""

    def __init__(self, rights: Rights, emergencies: Iterable[BreakGlass] = ()) -> None:
        self.rights = rights
        self._open: dict[int, list[tuple[str, float, str]]] = {}
        for one in emergencies:
            path = rights.owners.path(one.organisation_id)
            if path is not None:
                opened = (path, one.expires_at.timestamp(), one.study_instance_uid)
                self._open.setdefault(one.account_id, []).append(opened)

    def emergencies(self, subject: Subject, now: float, study: str | None = None) -> list[str]:
        """The paths that a subject has open in an emergency.

        One that was opened for a study counts for that `study` only; None asks for all of them.
        """
        if subject.kind != "account" or subject.id not in self._open:
            return []
        return [
            path
            for path, until, opened in self._open[subject.id]
            if now < until and (study is None or opened in ("", study))
        ]

    def owners_for(
        self, subject: Subject, action: str, now: float, study: str | None = None
    ) -> tuple[frozenset[int], bool]:
        """The owners for whose data an action is allowed, and whether an emergency added some.

        `study` as in `emergencies`: a request that names no study asks with ''.
        """
        granted = self.rights.owners_for(subject, action, now)
        if action not in OPENS or not self._open:
            return granted, False
        opened: frozenset[int] = frozenset()
        for path in self.emergencies(subject, now, study):
            opened |= self.rights.owners.below(path)
        return granted | opened, not opened <= granted

    def permissions_at(self, subject: Subject, path: str, now: float) -> frozenset[str]:
        """Every permission of a subject for data of the owner at `path`."""
        found: set[str] = set()
        for one in self.rights.held(subject, now):
            if covers(one.path, path):
                found |= one.role.permissions
        if any(covers(opened, path) for opened in self.emergencies(subject, now)):
            found |= OPENS
        return frozenset(found)


def allow(
    access: Access,
    actor: Actor,
    subject: Subject,
    action: str,
    resource: Resource,
    purpose: str,
    now: float,
) -> Decision:
    """What an actor may see for an action.

    A mask answers a search over several owners only when it holds for all of them, so rows are to
    be asked for one by one where kinds or owners differ. Raises Denied `access.denied` for an
    action that is not allowed anywhere, NotFound `access.not_found` for data of an owner that the
    actor does not see: whether they exist is not told.
    """
    owners, emergency = access.owners_for(subject, action, now)
    if not owners:
        raise Denied("access.denied", "You may not do this.")
    if resource.owner_id is not None:
        if resource.owner_id not in owners:
            raise NotFound("access.not_found", "There is nothing at this address.")
        granted = access.rights.owners_for(subject, action, now)
        emergency = emergency and resource.owner_id not in granted
        owners = frozenset({resource.owner_id})
    purpose = EMERGENCY if emergency else purpose
    mask = _mask(access, subject, owners, resource.sensitivity, purpose, now)
    obligations = {
        AUDIT_FIRST: emergency,
        REVIEW_AFTER: emergency,
        MASKED: not mask.is_open,
    }
    return Decision(
        Scope(owners, actor, purpose),
        mask,
        frozenset(name for name, needed in obligations.items() if needed),
    )


def _mask(
    access: Access,
    subject: Subject,
    owners: frozenset[int],
    sensitivity: Collection[str],
    purpose: str,
    now: float,
) -> Mask:
    held: frozenset[str] | None = None
    for permission in permissions():
        if permission.startswith(("archive.identifiers.", "archive.sensitive.")):
            seen, _ = access.owners_for(subject, permission, now)
            if owners <= seen:
                held = (held or frozenset()) | {permission}
    return CLOSED if held is None else mask_for(held, sensitivity, purpose)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a subject sees data: a role at a path until a moment, or an open emergency."""

    subject: Subject
    role: str
    path: str
    valid_until: float | None
    mask: Mask
    emergency: bool = False


def explain(
    access: Access,
    action: str,
    owner_id: int,
    now: float,
    *,
    sensitivity: Collection[str] = (),
    purpose: str = "care",
) -> list[Reason]:
    """Everybody who may do `action` with data of an owner, with each reason, and what is masked.

    Raises NotFound `organisation.not_found`.
    """
    path = access.rights.owners.path(owner_id)
    if path is None:
        raise NotFound("organisation.not_found", "There is no organisation {id}.", id=owner_id)
    return sorted(
        _reasons(access, action, path, now, sensitivity, purpose),
        key=lambda one: (one.subject, one.path, one.role),
    )


def _reasons(
    access: Access, action: str, path: str, now: float, sensitivity: Collection[str], purpose: str
) -> Iterator[Reason]:
    for subject in list(access.rights.grants):
        held = access.permissions_at(subject, path, now)
        mask = mask_for(held, sensitivity, purpose)
        for one in access.rights.held(subject, now):
            if action in one.role.permissions and covers(one.path, path):
                yield Reason(subject, one.role.code, one.path, one.grant.valid_until, mask)
        if action in OPENS:
            for opened in access.emergencies(subject, now):
                if covers(opened, path):
                    yield Reason(subject, "", opened, None, mask, emergency=True)
