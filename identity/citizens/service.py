"""Sending a code and signing in with it. Each runs in transactions of its own: failures count."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity.accounts.tables import account
from identity.citizens.domain import (
    ATTEMPTS,
    CODE_S,
    LOCKED_S,
    PAUSE_S,
    Counts,
    check_code_form,
    check_counts,
    new_code,
)
from identity.citizens.tables import citizen_code
from identity.phones.domain import check_number, masked
from identity.phones.service import account_of, digest_of, keep_number, note_proven, number_of
from identity.sessions.service import begin_session
from identity.sign_in.service import ACTION, SignedIn, Visitor
from kernel.audit.domain import AuditRecord, Outcome
from kernel.audit.service import append
from kernel.db.database import Database
from kernel.errors import Denied
from kernel.notify.service import Cause, Outbox
from kernel.scope import Actor, Scope
from kernel.sealing.domain import Sealer
from kernel.settings import CitizenSettings

CODE = "identity.citizen_code"
KEPT_S = 7 * 86400.0

_SCOPE = Scope.system("citizens")
_NUMBER = "number of a code"
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(74207281)")


@dataclass(slots=True)
class Citizens:
    """Signing residents in."""

    database: Database
    sealer: Sealer
    outbox: Outbox
    settings: CitizenSettings
    clock: Callable[[], float] = field(default=time.time)

    async def send_code(self, typed: str, visitor: Visitor) -> tuple[str, str]:
        """Send a code: the name of the request, and the number as it may be shown.

        Raises Invalid `sms.number`, Denied `citizen.wait`, `citizen.limit`, `citizen.locked`.
        """
        number, now = check_number(typed), self.clock()
        code, request_id = new_code(), secrets.token_urlsafe(24)
        digest, address = digest_of(self.sealer, number), self._address(visitor)
        row = {
            "request_id": request_id,
            "number_digest": digest,
            "number_sealed": self.sealer.seal(number, _NUMBER),
            "code_digest": self._code_digest(request_id, code),
            "address_digest": address,
            "created_at": now,
            "expires_at": now + CODE_S,
            "attempts": 0,
        }
        refusal: Denied | None = None
        async with self.database.session(_SCOPE, write=True) as session:
            if self.database.dialect == "postgresql":
                await session.execute(_ONE_AT_A_TIME)  # what is counted must not change meanwhile
            try:
                await self._check_lock(session, digest)
                check_counts(await self._counts(session, digest, address), self.settings)
            except Denied as error:
                refusal = error
                await self._note(session, CODE, "denied", "", visitor, {"code": error.code})
            else:
                await session.execute(insert(citizen_code).values(row))
                cause = Cause("sign_in", request_id, visitor.peer)
                await self.outbox.put(
                    session, number, masked(number), {"code": code}, cause, CODE_S
                )
                await self._note(session, CODE, "ok", "", visitor, {"request": request_id[:12]})
        if refusal is not None:
            raise refusal
        return request_id, masked(number)

    async def with_code(self, request_id: str, typed: str, visitor: Visitor) -> SignedIn:
        """Sign in; the first time makes the resident's account.

        Raises Invalid `citizen.code`, Denied `citizen.wrong`, `citizen.old`, `citizen.locked`,
        `sign_in.suspended`.
        """
        code = check_code_form(typed)
        row, refusal = await self._attempt(request_id)
        if refusal is None and not hmac.compare_digest(
            self._code_digest(request_id, code), row.code_digest
        ):
            refusal = Denied("citizen.wrong", "The code is not right.")
        async with self.database.session(_SCOPE, write=True) as session:
            if refusal is None:
                used = (
                    update(citizen_code)
                    .where(citizen_code.c.id == row.id, citizen_code.c.used_at.is_(None))
                    .values(used_at=self.clock())
                    .returning(citizen_code.c.id)
                )
                if await session.scalar(used) is None:
                    refusal = _old()
            if refusal is None:
                number = self.sealer.open(row.number_sealed, _NUMBER)
                account_id = await self._account(session, number)
                if account_id is not None:
                    return await self._begin(session, account_id, visitor)
                refusal = Denied("sign_in.suspended", "This account is not in use.")
            await self._note(session, ACTION, "denied", "", visitor, {"code": refusal.code})
        raise refusal

    async def shown_number(self, account_id: int) -> str:
        """The number of a resident as it may be shown."""
        async with self.database.session(_SCOPE) as session:
            number = await number_of(session, self.sealer, account_id)
        return masked(number) if number else ""

    async def shown_request(self, request_id: str) -> str:
        """The number that a code went to, as it may be shown; empty for none."""
        if not request_id.isprintable():
            return ""
        wanted = select(citizen_code.c.number_sealed).where(citizen_code.c.request_id == request_id)
        async with self.database.session(_SCOPE) as session:
            sealed = await session.scalar(wanted)
        return masked(self.sealer.open(sealed, _NUMBER)) if sealed else ""

    async def forget_old(self) -> None:
        """Delete what is not counted any more; the audit keeps what was."""
        limit = self.clock() - KEPT_S
        async with self.database.session(_SCOPE, write=True) as session:
            await session.execute(delete(citizen_code).where(citizen_code.c.created_at < limit))

    async def _attempt(self, request_id: str) -> tuple[Any, Denied | None]:
        """The code's row, its attempt counted before the code is looked at."""
        table = citizen_code
        if not request_id.isprintable():
            return None, _old()
        async with self.database.session(_SCOPE, write=True) as session:
            wanted = select(table).where(table.c.request_id == request_id).with_for_update()
            row = (await session.execute(wanted)).first()
            now = self.clock()
            if row is None or row.used_at is not None or row.expires_at.timestamp() <= now:
                return row, _old()
            try:
                await self._check_lock(session, row.number_digest)
            except Denied as error:
                return row, error
            await session.execute(
                update(table)
                .where(table.c.id == row.id)
                .values(attempts=table.c.attempts + 1, attempted_at=now)
            )
        return row, None

    async def _check_lock(self, session: AsyncSession, digest: str) -> None:
        tried = select(func.count()).where(
            citizen_code.c.number_digest == digest,
            citizen_code.c.attempts >= ATTEMPTS,
            citizen_code.c.used_at.is_(None),
            citizen_code.c.attempted_at > self.clock() - LOCKED_S,
        )
        if await session.scalar(tried):
            raise Denied(
                "citizen.locked", "Too many wrong codes. Try again in a quarter of an hour."
            )

    async def _counts(self, session: AsyncSession, digest: str, address: str) -> Counts:
        table, now = citizen_code, self.clock()

        async def count(within_s: float, *conditions: Any) -> int:
            wanted = select(func.count()).where(table.c.created_at > now - within_s, *conditions)
            return int(await session.scalar(wanted) or 0)

        number, peer = table.c.number_digest == digest, table.c.address_digest == address
        return Counts(
            await count(PAUSE_S, number),
            await count(3600, number),
            await count(86400, number),
            await count(3600, peer),
            await count(86400, peer),
            await count(60),
        )

    async def _account(self, session: AsyncSession, number: str) -> int | None:
        """The resident with that number, made the first time; None for one that is not active."""
        known = await account_of(session, self.sealer, number)
        if known is not None:
            state = await session.scalar(select(account.c.state).where(account.c.id == known))
            await note_proven(session, known)
            return known if state == "active" else None
        made = await session.execute(
            insert(account)
            .values(
                login=f"c-{secrets.token_hex(12)}",
                display_name=masked(number),
                kind="citizen",
                state="active",
                created_at=datetime.fromtimestamp(self.clock(), UTC),
            )
            .returning(account.c.id)
        )
        account_id = int(made.scalar_one())
        await keep_number(session, self.sealer, account_id, number)
        return account_id

    async def _begin(self, session: AsyncSession, account_id: int, visitor: Visitor) -> SignedIn:
        token, begun = await begin_session(
            session,
            account_id,
            "full",
            self.settings.session_s,
            peer=visitor.peer,
            agent=visitor.agent,
            amr="sms",
        )
        await self._note(session, ACTION, "ok", str(account_id), visitor, {"session": begun.id})
        return SignedIn(token, begun)

    async def _note(
        self,
        session: AsyncSession,
        action: str,
        outcome: Outcome,
        who: str,
        visitor: Visitor,
        detail: Mapping[str, Any],
    ) -> None:
        actor = Actor("citizen", who)
        record = AuditRecord(actor, action, outcome, peer=visitor.peer, detail=detail)
        await append(session, record)

    def _address(self, visitor: Visitor) -> str:
        return self.sealer.index(visitor.peer, "address")

    def _code_digest(self, request_id: str, code: str) -> str:
        return self.sealer.index(f"{request_id} {code}", "sign-in code")


def _old() -> Denied:
    return Denied("citizen.old", "This code does not count any more. Ask for a new one.")
