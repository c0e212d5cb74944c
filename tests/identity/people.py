"""Accounts for tests, whose passwords are known."""

from __future__ import annotations

from typing import Any

from identity.accounts.domain import Account
from identity.accounts.passwords import Hashing
from identity.accounts.service import NewAccount, create_account
from kernel.db.database import Database
from tests.identity.places import SYSTEM

PASSWORD = "Miao-7-drums"
_hashed: dict[str, str] = {}


async def hashed(password: str) -> str:
    """The hash, made once for each password."""
    if password not in _hashed:
        _hashed[password] = await Hashing().hash(password)
    return _hashed[password]


async def make_account(
    database: Database,
    login: str,
    organisation_id: int | None = None,
    *,
    must_change: bool = False,
    **facts: Any,
) -> Account:
    """An account with `PASSWORD`."""
    new = NewAccount(login, facts.pop("display_name", login), organisation_id, facts=facts)
    password = await hashed(PASSWORD)
    async with database.session(SYSTEM, write=True) as session:
        return await create_account(session, SYSTEM, new, password, must_change=must_change)
