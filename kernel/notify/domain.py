"""What a message is, who carries it, and how a carrier refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from kernel.errors import AppError, Invalid, Unavailable
from kernel.i18n.catalog import marked

STATES: Mapping[str, str] = {
    "queued": marked("Waiting"),
    "kept": marked("Kept here"),
    "sent": marked("Sent"),
    "delivered": marked("Delivered"),
    "undelivered": marked("Not delivered"),
    "failed": marked("Refused"),
    "expired": marked("Too late"),
}
PURPOSES: Mapping[str, str] = {"sign_in": marked("Sign-in code")}


@dataclass(frozen=True, slots=True)
class Letter:
    """One message for a carrier: eleven digits, what it is for, its words, our reference."""

    number: str
    purpose: str
    parameters: Mapping[str, str]
    reference: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message as an administrator sees it; `text` only where it may be shown."""

    id: int
    purpose: str
    request_id: str
    number_masked: str
    state: str
    provider: str
    provider_code: str
    attempts: int
    created_at: datetime
    sent_at: datetime | None
    reported_at: datetime | None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a message: the carrier's number for it, and whether it arrived."""

    provider_id: str
    number: str
    delivered: bool
    code: str


class SmsSender(Protocol):
    """Who carries messages."""

    @property
    def name(self) -> str:
        """What the carrier is called in the settings."""

    async def send(self, letter: Letter) -> str:
        """Hand a message over: the carrier's number for it.

        Raises Invalid `sms.refused` for good, Unavailable `sms.unavailable` for now; both have the
        carrier's own `reason`, which names no person.
        """


def refused(reason: str) -> AppError:
    """The carrier will not take it, however often it is asked."""
    return Invalid("sms.refused", "The carrier refused the message: {reason}.", reason=reason)


def unavailable(reason: str) -> AppError:
    """The carrier may take it later."""
    return Unavailable("sms.unavailable", "The carrier did not answer: {reason}.", reason=reason)
