"""Putting messages into the outbox, handing them over, and hearing what became of them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import insert as insert_into
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from kernel.db.database import Database
from kernel.errors import Invalid, Unavailable
from kernel.jobs.domain import MAX_ATTEMPTS
from kernel.jobs.runner import JobContext
from kernel.jobs.service import enqueue
from kernel.notify import aliyun, tencent
from kernel.notify.domain import Letter, Message, Report, SmsSender
from kernel.notify.tables import sms_message
from kernel.scope import Scope
from kernel.sealing.domain import Sealer
from kernel.settings import SmsSettings

SEND_JOB = "sms.send"
OUTBOX = "outbox"
MOST_SHOWN = 200

_SCOPE = Scope.system("messages")
_EVERYBODY = 1
_NUMBER, _WORDS = "message number", "message words"
_SHOWN = [sms_message.c[name] for name in Message.__dataclass_fields__ if name != "text"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a message is sent: each can be traced to a request and to where that came from."""

    purpose: str
    request_id: str
    address: str


@dataclass(frozen=True, slots=True)
class Outbox:
    """Messages of this installation and who carries them; without a carrier they stay here."""

    database: Database
    sealer: Sealer
    sender: SmsSender | None
    show_texts: bool = False

    async def put(
        self,
        session: AsyncSession,
        number: str,
        masked: str,
        parameters: Mapping[str, str],
        cause: Cause,
        lasts_s: float,
    ) -> int:
        """Add a message to the session's transaction; it is handed over after the commit."""
        now = time.time()
        row = {
            "purpose": cause.purpose,
            "request_id": cause.request_id,
            "address_digest": self.sealer.index(cause.address, "address"),
            "number_sealed": self.sealer.seal(number, _NUMBER),
            "number_masked": masked,
            "words_sealed": self.sealer.seal(json.dumps(dict(parameters)), _WORDS),
            "state": "queued",
            "provider": self.sender.name if self.sender else OUTBOX,
            "provider_id": "",
            "provider_code": "",
            "attempts": 0,
            "created_at": now,
            "expires_at": now + lasts_s,
        }
        made = await session.execute(
            insert_into(sms_message).values(row).returning(sms_message.c.id)
        )
        message_id = int(made.scalar_one())
        await enqueue(session, SEND_JOB, {"message": message_id}, _EVERYBODY, key=str(message_id))
        return message_id

    async def send(self, context: JobContext) -> Mapping[str, Any] | None:
        """Hand one message over; for the jobs, which try again what was unavailable."""
        message_id = int(context.args["message"])
        async with self.database.session(_SCOPE) as session:
            wanted = select(sms_message).where(sms_message.c.id == message_id)
            row = (await session.execute(wanted)).first()
        if row is None or row.state != "queued":
            return None
        if row.expires_at.timestamp() < time.time():
            await self._note(message_id, state="expired", words_sealed="")
            return {"state": "expired"}
        if self.sender is None:
            await self._note(message_id, state="kept")
            return {"state": "kept"}
        words = json.loads(self.sealer.open(row.words_sealed, _WORDS))
        number = self.sealer.open(row.number_sealed, _NUMBER)
        letter = Letter(number, row.purpose, words, row.request_id)
        attempts = row.attempts + 1
        try:
            provider_id = await self.sender.send(letter)
        except Unavailable as error:
            last = context.attempt >= MAX_ATTEMPTS
            state = {"state": "failed", "words_sealed": ""} if last else {}
            code = str(error.fields["reason"])
            await self._note(message_id, attempts=attempts, provider_code=code, **state)
            raise
        except Invalid as error:
            code = str(error.fields["reason"])
            log.error("sms.refused", provider=self.sender.name, code=code)  # noqa: TRY400
            change = {"state": "failed", "words_sealed": "", "provider_code": code}
            await self._note(message_id, attempts=attempts, **change)
            raise
        change = {"state": "sent", "words_sealed": "", "provider_id": provider_id}
        await self._note(message_id, attempts=attempts, sent_at=time.time(), **change)
        return {"state": "sent"}

    async def hear(self, provider: str, reports: list[Report]) -> int:
        """Note what became of messages; how many of them are ours."""
        known = 0
        async with self.database.session(_SCOPE, write=True) as session:
            for one in reports:
                wanted = select(sms_message.c.id, sms_message.c.number_sealed).where(
                    sms_message.c.provider == provider,
                    sms_message.c.provider_id == one.provider_id,
                )
                for row in (await session.execute(wanted)).all():
                    if self.sealer.open(row.number_sealed, _NUMBER) != one.number[-11:]:
                        continue
                    known += 1
                    await session.execute(
                        update(sms_message)
                        .where(sms_message.c.id == row.id)
                        .values(
                            state="delivered" if one.delivered else "undelivered",
                            provider_code=one.code[:64],
                            reported_at=time.time(),
                        )
                    )
        return known

    async def listed(self, *, before: int | None = None, limit: int = 50) -> list[Message]:
        """Messages, the newest first; numbers are masked, words only where they may be shown."""
        wanted = (
            select(*_SHOWN, sms_message.c.words_sealed)
            .order_by(sms_message.c.id.desc())
            .limit(min(limit, MOST_SHOWN))
        )
        if before is not None:
            wanted = wanted.where(sms_message.c.id < before)
        async with self.database.session(_SCOPE) as session:
            rows = (await session.execute(wanted)).all()
        return [self._message(row._mapping) for row in rows]

    def _message(self, row: Mapping[Any, Any]) -> Message:
        facts = {name: row[name] for name in Message.__dataclass_fields__ if name != "text"}
        return Message(**facts, text=self._words(row["words_sealed"]))

    def _words(self, sealed: str) -> str:
        if not self.show_texts or not sealed:
            return ""
        return " ".join(json.loads(self.sealer.open(sealed, _WORDS)).values())

    async def _note(self, message_id: int, **change: Any) -> None:
        async with self.database.session(_SCOPE, write=True) as session:
            await session.execute(
                update(sms_message).where(sms_message.c.id == message_id).values(change)
            )


def open_outbox(settings: SmsSettings, database: Database, sealer: Sealer) -> Outbox:
    """The outbox with the carrier that the settings name.

    Raises Invalid `sms.settings` where the settings lack what that carrier needs.
    """
    senders = {aliyun.NAME: aliyun.AliyunSender, tencent.NAME: tencent.TencentSender}
    if settings.provider not in senders:
        return Outbox(database, sealer, None, settings.show_texts)
    needed = ["access_key", "secret_key", "sign_name", "template_login"]
    if settings.provider == tencent.NAME:
        needed.append("app_id")
    missing = [f"sms.{name}" for name in needed if not getattr(settings, name)]
    if missing:
        raise Invalid(
            "sms.settings",
            "Sending by {provider} needs {names}.",
            provider=settings.provider,
            names=", ".join(missing),
        )
    return Outbox(database, sealer, senders[settings.provider](settings))
