"""Making the first account, which can make all others."""

from __future__ import annotations

from identity.accounts.domain import ADMIN, Account, generate_password
from identity.accounts.passwords import Hashing
from identity.accounts.service import NewAccount, any_account, create_account
from identity.capabilities.service import add_key, load_keys
from identity.grants.domain import Subject
from identity.grants.service import NewGrant, grant
from kernel.db.database import Database
from kernel.scope import Scope
from kernel.settings import AccessSettings

ADMIN_ROLE = "platform_admin"
_SCOPE = Scope.system("first start")


async def ensure_admin(
    database: Database, policy: AccessSettings, hashing: Hashing
) -> tuple[Account, str] | None:
    """The account `admin`, role included, and its generated password, where no account is yet.

    Also makes the first key for capabilities. None when it was all there: a password is shown once.
    """
    async with database.session(_SCOPE) as session:
        complete = await any_account(session) and bool((await load_keys(session)).current)
    if complete:
        return None
    password = generate_password(policy)
    hashed = await hashing.hash(password)
    async with database.session(_SCOPE, write=True) as session:
        if not (await load_keys(session)).current:
            await add_key(session)
        if await any_account(session):
            return None
        made = await create_account(session, _SCOPE, NewAccount(ADMIN, "管理员"), hashed)
        new = NewGrant(Subject("account", made.id), ADMIN_ROLE, None, "first start")
        await grant(session, None, new)
    return made, password
