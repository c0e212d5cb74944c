"""The steps of signing in. Each runs in transactions of its own: a failure must be counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity.accounts import totp
from identity.accounts.domain import Account, is_locked, is_within, password_expired
from identity.accounts.passwords import Hashing, is_outdated
from identity.accounts.service import check_new_password, replace_password
from identity.accounts.tables import account, account_secret
from identity.sessions.domain import Session, Stage
from identity.sessions.service import NEXT_STEP, begin_session, end_session, end_sessions
from kernel.audit.domain import AuditRecord, Outcome
from kernel.audit.service import append
from kernel.db.database import Database
from kernel.errors import AppError, Denied
from kernel.scope import Actor, Scope
from kernel.settings import AccessSettings

ACTION = "identity.sign_in"
_SCOPE = Scope.system("sign in")


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who knocks: the address and what the browser calls itself."""

    peer: str
    agent: str


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session that has begun: the token for the cookie, and its row."""

    token: str
    session: Session


@dataclass(slots=True)
class SignIn:
    """Signing in against one database."""

    database: Database
    policy: AccessSettings
    hashing: Hashing = field(default_factory=Hashing)
    clock: Callable[[], float] = time.time

    async def with_password(self, login: str, password: str, visitor: Visitor) -> SignedIn:
        """The first step. The session's stage says what is still to do.

        Raises Denied `sign_in.wrong` (whatever was wrong), `sign_in.locked`, `sign_in.suspended`,
        `sign_in.network`. The last two are only said to who knows the password.
        """
        found = await self._attempt(login.strip().lower(), visitor)
        hashed = found.hashed if found is not None else None
        right = await self.hashing.matches(password, hashed)
        if found is None or not right:
            raise await self._refused(found, "sign_in.wrong", visitor)
        if found.account.state != "active":
            raise await self._refused(found, "sign_in.suspended", visitor)
        networks = (self.policy.networks, found.account.networks.split(","))
        if not all(is_within(visitor.peer, some) for some in networks):
            raise await self._refused(found, "sign_in.network", visitor)
        fresh = await self.hashing.hash(password) if is_outdated(found.hashed) else found.hashed
        async with self.database.session(_SCOPE, write=True) as session:
            if fresh != found.hashed:
                await _update(session, found.account.id, password_hash=fresh)
            if await totp.is_on(session, found.account.id):
                return await self._begin(session, found.account.id, "code", visitor)
            return await self._through(session, found.account.id, visitor)

    async def with_code(
        self, session_id: int, account_id: int, code: str, visitor: Visitor
    ) -> SignedIn:
        """The second step, of a session in stage `code`, which it ends.

        Raises Denied `sign_in.code`, or `sign_in.locked` after too many.
        """
        found = await self._attempt_again(account_id, visitor)
        try:
            async with self.database.session(_SCOPE, write=True) as session:
                await totp.check_code(session, found.account.id, code, self.clock)
                await end_session(session, found.account.id, session_id, NEXT_STEP)
                return await self._through(session, found.account.id, visitor, "pwd otp")
        except AppError as error:
            if error.code != "totp.wrong":
                raise
        raise await self._refused(found, "sign_in.code", visitor)

    async def change_password(
        self, account_id: int, old: str, new: str, visitor: Visitor, amr: str = "pwd"
    ) -> SignedIn:
        """Change one's own password; every session ends and a new one begins, `amr` as before.

        Raises Invalid `password.*`, Denied `sign_in.locked` after too many wrong ones.
        """
        found = await self._attempt_again(account_id, visitor)
        try:
            current_hash = await check_new_password(
                self.database, found.account.id, old, new, self.policy, self.hashing
            )
        except AppError as error:
            await self._note_refusal(found, error.code, visitor)
            raise
        hashed = await self.hashing.hash(new)
        async with self.database.session(_SCOPE, write=True) as session:
            await replace_password(
                session, found.account.id, current_hash, hashed, self.policy, self._now()
            )
            await end_sessions(session, found.account.id, "password changed")
            return await self._through(session, found.account.id, visitor, amr)

    async def check_password(self, account_id: int, password: str, visitor: Visitor) -> None:
        """Ask for the password again before something weighty; raises Denied `sign_in.wrong`."""
        found = await self._attempt_again(account_id, visitor)
        if not await self.hashing.matches(password, found.hashed):
            raise await self._refused(found, "sign_in.wrong", visitor)
        async with self.database.session(_SCOPE, write=True) as session:
            await _update(session, account_id, attempts=0)

    async def _through(
        self, session: AsyncSession, account_id: int, visitor: Visitor, amr: str = "pwd"
    ) -> SignedIn:
        """All factors were right: the session is full, or only for changing the password."""
        secret = account_secret.c
        row = (
            await session.execute(
                select(secret.must_change, secret.changed_at).where(secret.account_id == account_id)
            )
        ).one()
        due = row.must_change or password_expired(row.changed_at, self._now(), self.policy)
        await _update(session, account_id, attempts=0)
        return await self._begin(session, account_id, "password" if due else "full", visitor, amr)

    async def _begin(
        self,
        session: AsyncSession,
        account_id: int,
        stage: Stage,
        visitor: Visitor,
        amr: str = "pwd",
    ) -> SignedIn:
        token, begun = await begin_session(
            session,
            account_id,
            stage,
            self.policy.session_s,
            peer=visitor.peer,
            agent=visitor.agent,
            amr=amr,
        )
        detail = {"stage": stage, "session": begun.id}
        await append(session, _record(account_id, "ok", visitor.peer, detail))
        return SignedIn(token, begun)

    async def _attempt(self, login: str, visitor: Visitor) -> _Known | None:
        """Count the attempt before the password is looked at: many at once count as many."""
        return await self._counted(account.c.login == login, visitor)

    async def _attempt_again(self, account_id: int, visitor: Visitor) -> _Known:
        found = await self._counted(account.c.id == account_id, visitor)
        if found is None:
            raise await self._refused(None, "sign_in.wrong", visitor)
        return found

    async def _counted(self, condition: object, visitor: Visitor) -> _Known | None:
        async with self.database.session(_SCOPE, write=True) as session:
            found = await _known(session, condition)
            if found is None:
                return None
            now = self._now()
            locked = is_locked(found.attempts, found.last_attempt_at, now, self.policy)
            if not locked:
                old = (now - found.last_attempt_at).total_seconds() >= self.policy.lockout_s
                found = replace(found, attempts=1 if old else found.attempts + 1)
                counted = {"attempts": found.attempts, "last_attempt_at": now}
                await _update(session, found.account.id, **counted)
        if locked:
            raise await self._refused(found, "sign_in.locked", visitor)
        return found

    async def _refused(self, found: _Known | None, code: str, visitor: Visitor) -> Denied:
        await self._note_refusal(found, code, visitor)
        return _denied(code)

    async def _note_refusal(self, found: _Known | None, code: str, visitor: Visitor) -> None:
        account_id = found.account.id if found else None
        detail: dict[str, object] = {"code": code}
        if found is not None and found.attempts >= self.policy.lockout_failures:
            detail["locked"] = True
        async with self.database.session(_SCOPE, write=True) as session:
            await append(session, _record(account_id, "denied", visitor.peer, detail))

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)


@dataclass(frozen=True, slots=True)
class _Known:
    account: Account
    hashed: str
    attempts: int
    last_attempt_at: datetime


async def _known(session: AsyncSession, condition: object) -> _Known | None:
    secret = account_secret.c
    names = Account.__dataclass_fields__
    wanted = (
        select(
            *(account.c[name] for name in names),
            secret.password_hash,
            secret.attempts,
            secret.last_attempt_at,
        )
        .join(account_secret, secret.account_id == account.c.id)
        .where(condition)  # type: ignore[arg-type]
        .with_for_update()
    )
    row = (await session.execute(wanted)).first()
    if row is None:
        return None
    facts = {name: row._mapping[name] for name in names}
    return _Known(Account(**facts), row.password_hash, row.attempts, row.last_attempt_at)


async def _update(session: AsyncSession, account_id: int, **values: object) -> None:
    await session.execute(
        update(account_secret).where(account_secret.c.account_id == account_id).values(**values)
    )


def _record(
    account_id: int | None, outcome: Outcome, peer: str, detail: Mapping[str, object]
) -> AuditRecord:
    actor = Actor("session", str(account_id) if account_id is not None else "")
    return AuditRecord(actor, ACTION, outcome, peer=peer, detail=detail)


def _denied(code: str) -> Denied:
    if code == "sign_in.locked":
        return Denied(code, "Too many wrong attempts: the account is locked for some minutes.")
    if code == "sign_in.suspended":
        return Denied(code, "This account is not in use. Ask your administrator.")
    if code == "sign_in.network":
        return Denied(code, "This account may not sign in from this network.")
    if code == "sign_in.code":
        return Denied(code, "The code is not right, or was used already.")
    return Denied(code, "Login name or password is not right.")
