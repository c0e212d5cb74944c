"""Keeping numbers so that the database alone shows none, and finding whose they are."""

from __future__ import annotations

import time

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity.phones.tables import citizen_phone
from kernel.sealing.domain import Sealer

PURPOSE = "phone number"


def digest_of(sealer: Sealer, number: str) -> str:
    """What a number is found by."""
    return sealer.index(number, PURPOSE)


async def number_of(session: AsyncSession, sealer: Sealer, account_id: int) -> str:
    """The proven number of an account; empty for none."""
    mine = select(citizen_phone.c.sealed).where(citizen_phone.c.account_id == account_id)
    sealed = await session.scalar(mine)
    return sealer.open(sealed, PURPOSE) if sealed else ""


async def account_of(session: AsyncSession, sealer: Sealer, number: str) -> int | None:
    """Whose number it is."""
    wanted = select(citizen_phone.c.account_id).where(
        citizen_phone.c.digest == digest_of(sealer, number)
    )
    found: int | None = await session.scalar(wanted)
    return found


async def keep_number(session: AsyncSession, sealer: Sealer, account_id: int, number: str) -> None:
    """Keep a number that was proven for the first time."""
    await session.execute(
        insert(citizen_phone).values(
            account_id=account_id,
            digest=digest_of(sealer, number),
            sealed=sealer.seal(number, PURPOSE),
            proven_at=time.time(),
        )
    )


async def note_proven(session: AsyncSession, account_id: int) -> None:
    """The number was proven again."""
    await session.execute(
        update(citizen_phone)
        .where(citizen_phone.c.account_id == account_id)
        .values(proven_at=time.time())
    )
