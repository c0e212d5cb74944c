"""Use cases of accounts: making them, their staff data, their life, and their passwords."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, exists, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from identity.accounts.domain import (
    ADMIN,
    FACTS,
    Account,
    AccountKind,
    check_login,
    check_networks,
    check_password,
    step,
)
from identity.accounts.passwords import Hashing
from identity.accounts.tables import account, account_secret, password_history
from identity.changes.service import touch
from identity.sessions.service import end_sessions
from kernel.audit.domain import AuditRecord
from kernel.audit.service import append
from kernel.db.database import Database
from kernel.errors import Conflict, Invalid, NotFound
from kernel.scope import Actor, Scope
from kernel.settings import AccessSettings

MANAGE = "identity.account.manage"
_COLUMNS = [column for column in account.c if column.name != "created_at"]
_NEVER = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What is said about a new account."""

    login: str
    display_name: str
    organisation_id: int | None = None
    kind: AccountKind = "staff"
    facts: Mapping[str, Any] | None = None


async def create_account(
    session: AsyncSession,
    scope: Scope,
    new: NewAccount,
    hashed: str,
    *,
    must_change: bool = True,
) -> Account:
    """Add an account. The caller has checked or generated the password, and hashed it.

    Raises Invalid `account.*`, NotFound `organisation.not_found` for a place out of scope,
    Conflict `account.exists`.
    """
    login = check_login(new.login)
    _check_place(scope, new.organisation_id)
    facts = check_facts({"display_name": new.display_name, **(new.facts or {})})
    if await session.scalar(select(exists().where(account.c.login == login))):
        raise _exists(login)
    now = datetime.now(UTC)
    row = {
        "login": login,
        "kind": new.kind,
        "state": "active",
        "organisation_id": new.organisation_id,
        "created_at": now,
        **facts,
    }
    try:
        async with session.begin_nested():
            made = await session.execute(insert(account).values(row).returning(*_COLUMNS))
            created = Account(**made.one()._mapping)
    except IntegrityError as error:
        raise _exists(login) from error
    secret = {
        "account_id": created.id,
        "password_hash": hashed,
        "changed_at": now,
        "must_change": must_change,
        "attempts": 0,
        "last_attempt_at": _NEVER,
        "totp_secret": "",
        "totp_confirmed": False,
        "totp_last_step": 0,
    }
    await session.execute(insert(account_secret).values(secret))
    await _changed(session, scope, created, "created")
    return created


async def any_account(session: AsyncSession) -> bool:
    """Whether there is an account at all."""
    return bool(await session.scalar(select(exists().where(account.c.id > 0))))


async def get_account(session: AsyncSession, scope: Scope, account_id: int) -> Account:
    """One account within `scope`; raises NotFound `account.not_found`."""
    return await _one(session, scope, account.c.id == account_id, account_id)


async def find_account(session: AsyncSession, scope: Scope, login: str) -> Account:
    """One account by its login name; raises NotFound `account.not_found`."""
    return await _one(session, scope, account.c.login == login.strip().lower(), login)


async def list_accounts(
    session: AsyncSession, scope: Scope, *, text: str = "", after: str = "", limit: int = 50
) -> list[Account]:
    """Accounts of staff within `scope` by login name, after `after`; `text` is part of a name."""
    wanted = select(*_COLUMNS).where(account.c.login > after, account.c.kind == "staff")
    wanted = wanted.order_by(account.c.login).limit(limit)
    if scope.owners is not None:
        wanted = wanted.where(account.c.organisation_id.in_(scope.owners))
    if text:
        names = (account.c.login, account.c.display_name)
        wanted = wanted.where(or_(*(name.icontains(text, autoescape=True) for name in names)))
    return [Account(**row._mapping) for row in await session.execute(wanted)]


async def names_of(session: AsyncSession, account_ids: Collection[int]) -> Mapping[int, str]:
    """The names of some accounts by number, for whoever is told of them."""
    wanted = select(account.c.id, account.c.display_name).where(account.c.id.in_(account_ids))
    return {row.id: row.display_name for row in await session.execute(wanted)}


async def edit_account(
    session: AsyncSession, scope: Scope, account_id: int, changes: Mapping[str, Any]
) -> Account:
    """Correct staff data (`FACTS`), or the place of work as `organisation_id`.

    Raises Invalid `account.*`, NotFound for an account or a place out of scope.
    """
    old = await get_account(session, scope, account_id)
    changes = dict(changes)
    place = changes.pop("organisation_id", old.organisation_id)
    if place != old.organisation_id:
        _check_place(scope, place)
    new = replace(old, organisation_id=place, **check_facts(changes))
    values = {name: getattr(new, name) for name in ("organisation_id", *FACTS)}
    await session.execute(update(account).where(account.c.id == old.id).values(values))
    await _changed(session, scope, new, "edited")
    return new


async def take_step(session: AsyncSession, scope: Scope, account_id: int, taken: str) -> Account:
    """Suspend, resume or let leave; whoever may not sign in is out within five seconds.

    Raises Conflict `account.step`, NotFound `account.not_found`.
    """
    old = await get_account(session, scope, account_id)
    new = replace(old, state=step(old.state, taken))
    await session.execute(update(account).where(account.c.id == old.id).values(state=new.state))
    if new.state != "active":
        await end_sessions(session, new.id, taken)
    await _changed(session, scope, new, taken)
    return new


async def reset_password(
    session: AsyncSession, scope: Scope, account_id: int, hashed: str, policy: AccessSettings
) -> Account:
    """Give who forgot theirs a generated password; it must be changed at the next sign-in."""
    found = await get_account(session, scope, account_id)
    await _set_password(session, found.id, hashed, policy, datetime.now(UTC), must_change=True)
    await _changed(session, scope, found, "password reset")
    return found


async def check_new_password(
    database: Database,
    account_id: int,
    old: str,
    new: str,
    policy: AccessSettings,
    hashing: Hashing,
) -> str:
    """The present hash, once the old password is right and the new one may follow it.

    Raises Invalid `password.wrong`, `password.short`, `password.simple`, `password.guessable` or
    `password.again` for one of the last passwords.
    """
    own = Scope.system("own password")
    async with database.session(own) as session:
        found = await get_account(session, own, account_id)
        mine = select(account_secret.c.password_hash).where(
            account_secret.c.account_id == account_id
        )
        current: str = (await session.scalars(mine)).one()
        earlier = (
            select(password_history.c.password_hash)
            .where(password_history.c.account_id == account_id)
            .order_by(password_history.c.id.desc())
            .limit(max(policy.password_history - 1, 0))
        )
        used = [current, *await session.scalars(earlier)]
    if not await hashing.matches(old, current):
        raise _wrong_password()
    check_password(new, policy, login=found.login, display_name=found.display_name)
    for hashed in used:
        if await hashing.matches(new, hashed):
            raise Invalid("password.again", "This password was used before: take another one.")
    return current


async def replace_password(
    session: AsyncSession,
    account_id: int,
    current: str,
    hashed: str,
    policy: AccessSettings,
    now: datetime,
) -> None:
    """A person's own change, after `check_new_password`. The caller ends the other sessions.

    Raises Invalid `password.wrong` when it was changed in between.
    """
    mine = select(account_secret.c.password_hash).where(account_secret.c.account_id == account_id)
    if await session.scalar(mine.with_for_update()) != current:
        raise _wrong_password()
    own = Scope(None, Actor("session", str(account_id)), "own password")
    found = await get_account(session, own, account_id)
    await _set_password(session, account_id, hashed, policy, now, must_change=False)
    await _changed(session, own, found, "password changed")


async def password_is_due(session: AsyncSession, login: str = ADMIN) -> bool:
    """Whether an account still has the password that was generated for it."""
    due = (
        select(account_secret.c.must_change)
        .join(account, account.c.id == account_secret.c.account_id)
        .where(account.c.login == login)
    )
    return bool(await session.scalar(due))


def check_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Staff data in their normal form; raises Invalid `account.name`, `account.networks`."""
    unknown = set(facts) - set(FACTS)
    if unknown:
        raise TypeError(f"not a fact of an account: {unknown}")
    checked = {
        name: " ".join(value.split()) if isinstance(value, str) else value
        for name, value in facts.items()
    }
    if "display_name" in checked and not 1 <= len(checked["display_name"]) <= 64:
        raise Invalid("account.name", "A person's name has 1 to 64 characters.")
    if "networks" in checked:
        checked["networks"] = check_networks(checked["networks"])
    return checked


async def _set_password(
    session: AsyncSession,
    account_id: int,
    hashed: str,
    policy: AccessSettings,
    now: datetime,
    *,
    must_change: bool,
) -> None:
    mine = account_secret.c.account_id == account_id
    old = await session.scalar(select(account_secret.c.password_hash).where(mine))
    await session.execute(
        insert(password_history).values(account_id=account_id, password_hash=old, replaced_at=now)
    )
    kept = (
        select(password_history.c.id)
        .where(password_history.c.account_id == account_id)
        .order_by(password_history.c.id.desc())
        .limit(max(policy.password_history, 1))
    )
    await session.execute(
        delete(password_history)
        .where(password_history.c.account_id == account_id)
        .where(password_history.c.id.not_in(kept))
    )
    change = {"password_hash": hashed, "changed_at": now, "must_change": must_change, "attempts": 0}
    await session.execute(update(account_secret).where(mine).values(change))


async def _one(session: AsyncSession, scope: Scope, condition: Any, named: object) -> Account:
    row = (await session.execute(select(*_COLUMNS).where(condition))).first()
    found = None if row is None else Account(**row._mapping)
    if found is None or not _covers(scope, found.organisation_id):
        raise NotFound("account.not_found", "There is no account {name}.", name=named)
    return found


def _covers(scope: Scope, place: int | None) -> bool:
    return scope.owners is None or (place is not None and scope.covers(place))


def _check_place(scope: Scope, place: int | None) -> None:
    if not _covers(scope, place):
        raise NotFound("organisation.not_found", "There is no organisation {id}.", id=place or "/")


def _wrong_password() -> Invalid:
    return Invalid("password.wrong", "The present password is not right.")


def _exists(login: str) -> Conflict:
    return Conflict("account.exists", "There is an account {login} already.", login=login)


async def _changed(session: AsyncSession, scope: Scope, changed: Account, change: str) -> None:
    detail = {"change": change, "account": changed.id}
    record = AuditRecord(
        scope.actor,
        MANAGE,
        "ok",
        owner_id=changed.organisation_id,
        purpose=scope.purpose,
        detail=detail,
    )
    await append(session, record)
    await touch(session, "rights")
