"""Granting and withdrawing roles, making roles, and loading everything that is granted."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from dataclasses import dataclass, replace

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity.changes.service import touch
from identity.grants.domain import (
    GRANT,
    Grant,
    Owners,
    Rights,
    Subject,
    check_definition,
    check_grant,
    check_holders,
    check_withdrawal,
)
from identity.grants.tables import role, role_grant
from identity.roles.domain import Catalogue, Role, built_in, check_code, check_title, expand
from kernel.audit.domain import AuditRecord
from kernel.audit.service import append
from kernel.db.owners import all_owners
from kernel.errors import Conflict, Denied, NotFound
from kernel.scope import Actor

_SYSTEM = Actor("system", "grants")


@dataclass(frozen=True, slots=True)
class NewGrant:
    """What is said about a grant; times in seconds since 1970, None: from now, and for ever."""

    subject: Subject
    role: str
    organisation_id: int | None
    reason: str = ""
    valid_from: float | None = None
    valid_until: float | None = None


async def load_rights(session: AsyncSession) -> Rights:
    """Everything that is granted now or later, in three queries."""
    paths = {one.id: one.path for one in (await all_owners(session)).values()}
    wanted = (
        select(
            role_grant.c.id,
            role_grant.c.subject_kind,
            role_grant.c.subject_id,
            role_grant.c.role,
            role_grant.c.organisation_id,
            role_grant.c.valid_from,
            role_grant.c.valid_until,
        )
        .where(role_grant.c.withdrawn_at.is_(None))
        .where(or_(role_grant.c.valid_until.is_(None), role_grant.c.valid_until > time.time()))
    )
    grants = [
        Grant(
            row.id,
            Subject(row.subject_kind, row.subject_id),
            row.role,
            row.organisation_id,
            row.valid_from.timestamp(),
            row.valid_until.timestamp() if row.valid_until else None,
        )
        for row in await session.execute(wanted)
    ]
    return Rights(Owners(paths), await load_catalogue(session), grants)


async def load_catalogue(session: AsyncSession) -> Catalogue:
    """The built-in roles and those of this installation."""
    own = [
        Role(
            row.code,
            row.title,
            frozenset(json.loads(row.permissions)),
            frozenset(json.loads(row.delegates)),
        )
        for row in await session.execute(select(role))
    ]
    return built_in().with_roles(own)


async def grant(
    session: AsyncSession, by: Subject | None, new: NewGrant, *, actor: Actor | None = None
) -> Grant:
    """Give a role; None as `by` is the system itself. Raises what `check_grant` raises."""
    now = time.time()
    rights = await load_rights(session)
    wanted = Grant(
        0,
        new.subject,
        new.role,
        new.organisation_id,
        now if new.valid_from is None else new.valid_from,
        new.valid_until,
    )
    check_grant(rights, by, wanted, now)
    doer = actor or _actor(by)
    row = {
        "subject_kind": new.subject.kind,
        "subject_id": new.subject.id,
        "role": new.role,
        "organisation_id": new.organisation_id,
        "valid_from": wanted.valid_from,
        "valid_until": wanted.valid_until,
        "reason": new.reason,
        "granted_at": now,
        "granted_by": f"{doer.kind}:{doer.id}",
    }
    made = await session.scalar(insert(role_grant).values(row).returning(role_grant.c.id))
    given = replace(wanted, id=int(made or 0))
    await _changed(session, doer, given, "granted")
    return given


async def withdraw(session: AsyncSession, by: Subject | None, grant_id: int) -> Grant:
    """End a grant now. Raises NotFound `grant.not_found`, Denied `grant.*`."""
    now = time.time()
    rights = await load_rights(session)
    live = (one for some in rights.grants.values() for one in some)
    found = next((one for one in live if one.id == grant_id), None)
    if found is None:
        raise NotFound("grant.not_found", "There is no such grant.")
    check_withdrawal(rights, by, found, now)
    doer = _actor(by)
    await session.execute(
        update(role_grant)
        .where(role_grant.c.id == grant_id, role_grant.c.withdrawn_at.is_(None))
        .values(withdrawn_at=now, withdrawn_by=f"{doer.kind}:{doer.id}")
    )
    await _changed(session, doer, found, "withdrawn")
    return found


async def define_role(
    session: AsyncSession,
    code: str,
    title: str,
    patterns: Collection[str],
    delegates: Collection[str] = (),
    *,
    by: Subject | None = None,
) -> Role:
    """Make a role of this installation's own; None as `by` is the system itself.

    Raises Invalid `role.code`, `role.title`, `role.permission`, `role.empty`, Conflict
    `role.exists`, `role.duties`, Denied `role.top`, `role.beyond`.
    """
    made = Role(check_code(code), check_title(title), expand(patterns), expand(delegates))
    rights = await load_rights(session)
    if code in rights.catalogue.roles:
        raise Conflict("role.exists", "There is a role {code} already.", code=code)
    check_definition(rights, by, made, time.time())
    await session.execute(insert(role).values(_role_row(made)))
    await _defined(session, by, code, "defined")
    return made


async def change_role(
    session: AsyncSession,
    code: str,
    title: str,
    patterns: Collection[str],
    delegates: Collection[str] = (),
    *,
    by: Subject | None = None,
) -> Role:
    """Change a role of this installation's own; it counts at once for all who hold it.

    Raises what `define_role` raises, Denied `role.built_in`, `role.own`, Conflict `grant.conflict`
    where somebody who holds it holds what it would exclude.
    """
    changed = Role(code, check_title(title), expand(patterns), expand(delegates))
    rights = await load_rights(session)
    old = _own(rights, code)
    check_definition(rights, by, changed, time.time())
    check_definition(rights, by, old, time.time())
    check_holders(rights, by, changed, time.time())
    await session.execute(update(role).where(role.c.code == code).values(_role_row(changed)))
    await _defined(session, by, code, "changed")
    return changed


async def remove_role(session: AsyncSession, code: str, *, by: Subject | None = None) -> None:
    """Forget a role of this installation's own.

    Raises Invalid `role.unknown`, Denied `role.built_in`, `role.top`, `role.beyond`, Conflict
    `role.held` while somebody holds it.
    """
    rights = await load_rights(session)
    check_definition(rights, by, _own(rights, code), time.time())
    held = sum(one.role == code for some in rights.grants.values() for one in some)
    if held:
        raise Conflict(
            "role.held", "The role is granted {number} times: withdraw it first.", number=held
        )
    await session.execute(delete(role).where(role.c.code == code))
    await _defined(session, by, code, "removed")


def _own(rights: Rights, code: str) -> Role:
    found = rights.catalogue.role(code)
    if code in built_in().roles:
        raise Denied("role.built_in", "The roles of the system cannot be changed.")
    return found


def _role_row(one: Role) -> dict[str, str]:
    return {
        "code": one.code,
        "title": one.title,
        "permissions": json.dumps(sorted(one.permissions)),
        "delegates": json.dumps(sorted(one.delegates)),
    }


async def _defined(session: AsyncSession, by: Subject | None, code: str, change: str) -> None:
    detail = {"change": f"role {change}", "role": code}
    await append(session, AuditRecord(_actor(by), GRANT, "ok", detail=detail))
    await touch(session, "rights")


def _actor(by: Subject | None) -> Actor:
    if by is None:
        return _SYSTEM
    return Actor("session" if by.kind == "account" else "client", str(by.id))


async def _changed(session: AsyncSession, doer: Actor, given: Grant, change: str) -> None:
    detail = {
        "change": change,
        "grant": given.id,
        "role": given.role,
        given.subject.kind: given.subject.id,
    }
    record = AuditRecord(doer, GRANT, "ok", owner_id=given.organisation_id, detail=detail)
    await append(session, record)
    await touch(session, "rights")
