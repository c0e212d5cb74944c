"""The second factor: one-time codes by time (RFC 6238) and recovery codes for a lost phone."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable

import pyotp
from sqlalchemy import CursorResult, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity.accounts.tables import account_secret, recovery_code
from identity.tokens.domain import fingerprint
from kernel.audit.domain import AuditRecord
from kernel.audit.service import append
from kernel.errors import Conflict, Invalid
from kernel.scope import Actor

STEP_S = 30
RECOVERY_CODES = 10
ISSUER = "云影 Yunying"
ACTION = "identity.second_factor"
_DRIFT = (-1, 0, 1)


async def begin(session: AsyncSession, account_id: int, login: str) -> tuple[str, str]:
    """A new secret that is not in force yet: (base32 text, `otpauth:` address for a QR code).

    Raises Conflict `totp.on` when a second factor is in force.
    """
    secret = pyotp.random_base32()
    begun = (
        update(account_secret)
        .where(account_secret.c.account_id == account_id)
        .where(account_secret.c.totp_confirmed.is_(False))
        .values(totp_secret=secret, totp_last_step=0)
        .returning(account_secret.c.account_id)
    )
    if await session.scalar(begun) is None:
        raise Conflict("totp.on", "The second factor is in force already.")
    return secret, _address(secret, login)


async def pending(session: AsyncSession, account_id: int, login: str) -> tuple[str, str] | None:
    """The secret that was begun and is not in force yet, as `begin` gave it."""
    mine = select(account_secret.c.totp_secret).where(
        account_secret.c.account_id == account_id, account_secret.c.totp_confirmed.is_(False)
    )
    secret = await session.scalar(mine)
    return (secret, _address(secret, login)) if secret else None


async def confirm(
    session: AsyncSession, account_id: int, code: str, clock: Callable[[], float] = time.time
) -> list[str]:
    """Put the begun secret in force; recovery codes, which are shown once.

    Raises Invalid `totp.wrong`.
    """
    await check_code(session, account_id, code, clock)
    await session.execute(
        update(account_secret)
        .where(account_secret.c.account_id == account_id)
        .values(totp_confirmed=True)
    )
    await _note(session, account_id, "on")
    return await renew_recovery_codes(session, account_id)


async def renew_recovery_codes(session: AsyncSession, account_id: int) -> list[str]:
    """Fresh recovery codes instead of all earlier ones."""
    codes = [_recovery_code() for _ in range(RECOVERY_CODES)]
    await session.execute(delete(recovery_code).where(recovery_code.c.account_id == account_id))
    rows = [{"account_id": account_id, "code_hash": fingerprint(code)} for code in codes]
    await session.execute(insert(recovery_code), rows)
    await _note(session, account_id, "recovery codes renewed")
    return codes


async def switch_off(session: AsyncSession, account_id: int) -> None:
    """Do without the second factor; the caller has asked for the password."""
    await session.execute(
        update(account_secret)
        .where(account_secret.c.account_id == account_id)
        .values(totp_secret="", totp_confirmed=False, totp_last_step=0)
    )
    await session.execute(delete(recovery_code).where(recovery_code.c.account_id == account_id))
    await _note(session, account_id, "off")


async def is_on(session: AsyncSession, account_id: int) -> bool:
    """Whether the account needs a code to sign in."""
    mine = select(account_secret.c.totp_confirmed).where(account_secret.c.account_id == account_id)
    return bool(await session.scalar(mine))


async def check_code(
    session: AsyncSession, account_id: int, code: str, clock: Callable[[], float] = time.time
) -> None:
    """Accept a code once, or use up a recovery code. Raises Invalid `totp.wrong`.

    A code of the step before or after counts too; one that was used, or is older, does not.
    """
    plain = "".join(code.split()).upper()
    mine = account_secret.c.account_id == account_id
    secret = await session.scalar(select(account_secret.c.totp_secret).where(mine))
    if secret and plain.isdigit():
        totp, now = pyotp.TOTP(secret), int(clock()) // STEP_S
        for step in (now + drift for drift in _DRIFT):
            if secrets.compare_digest(totp.generate_otp(step), plain):
                used = (
                    update(account_secret)
                    .where(mine, account_secret.c.totp_last_step < step)
                    .values(totp_last_step=step)
                    .returning(account_secret.c.account_id)
                )
                if await session.scalar(used) is not None:
                    return
    elif secret:
        gone = delete(recovery_code).where(
            recovery_code.c.account_id == account_id,
            recovery_code.c.code_hash == fingerprint(_grouped(plain)),
        )
        done = await session.execute(gone)
        if isinstance(done, CursorResult) and done.rowcount == 1:
            return
    raise Invalid("totp.wrong", "The code is not right, or was used already.")


async def _note(session: AsyncSession, account_id: int, change: str) -> None:
    actor = Actor("session", str(account_id))
    await append(session, AuditRecord(actor, ACTION, "ok", detail={"change": change}))


def _address(secret: str, login: str) -> str:
    return pyotp.TOTP(secret).provisioning_uri(name=login, issuer_name=ISSUER)


def _recovery_code() -> str:
    return _grouped(base64.b32encode(secrets.token_bytes(10)).decode())


def _grouped(plain: str) -> str:
    letters = plain.replace("-", "")
    return "-".join(letters[i : i + 4] for i in range(0, len(letters), 4))
