"""Opening the doors: accounts at the first start, and which addresses may be listened on."""

from __future__ import annotations

from identity.accounts.passwords import Hashing
from identity.accounts.service import password_is_due
from identity.first_start.service import ensure_admin
from kernel.db.database import Database
from kernel.errors import Invalid
from kernel.scope import Scope
from kernel.settings import Settings, split_address
from kernel.web.safety import is_loopback

_SCOPE = Scope.system("doors")


async def prepare_accounts(settings: Settings) -> str | None:
    """Make the account `admin` where no account is: its password, which is to be shown once."""
    database = await Database.open(settings)
    try:
        made = await ensure_admin(database, settings.access, Hashing())
    finally:
        await database.close()
    return None if made is None else made[1]


async def refuse_open_doors(settings: Settings) -> None:
    """Keep to loopback while `admin` has the password that was generated.

    Raises Invalid `settings.address`, `serve.beyond_loopback`, `serve.shows_codes`.
    """
    found = beyond_loopback(settings)
    if found is None:
        return
    if settings.sms.show_texts:
        raise Invalid(
            "serve.shows_codes",
            "{name} is {value}, which other machines can reach, and sms.show_texts shows sign-in"
            " codes: that is for demonstrations on this machine only.",
            name=found[0],
            value=found[1],
        )
    database = await Database.open(settings)
    try:
        async with database.session(_SCOPE) as session:
            due = await password_is_due(session)
    finally:
        await database.close()
    if due:
        name, bind = found
        raise Invalid(
            "serve.beyond_loopback",
            "{name} is {value}, which other machines can reach, and the account admin still has"
            " the password that was generated for it. Start on 127.0.0.1, sign in, change it.",
            name=name,
            value=bind,
        )


def beyond_loopback(settings: Settings) -> tuple[str, str] | None:
    """The first address, with its setting's name, that other machines can reach."""
    for name, bind in (("http.bind", settings.http.bind), ("dicom.bind", settings.dicom.bind)):
        split_address(bind)
        if not is_loopback(bind):
            return name, bind
    return None
