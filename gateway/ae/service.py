"""Use cases of application entities, and the look-up that every association makes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from typing import Protocol

from sqlalchemy import bindparam, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from archive.versions.domain import SameUid
from gateway.ae.domain import LOCAL_OWNER, Ae, check_address, check_same_uid, check_title
from gateway.ae.tables import ae
from kernel.db.database import Database
from kernel.db.statement import Statement
from kernel.errors import Conflict, NotFound
from kernel.scope import Scope

_COLUMNS = (
    ae.c.title,
    ae.c.host,
    ae.c.port,
    ae.c.owner_id,
    ae.c.charset,
    ae.c.state,
    ae.c.same_uid,
)
_EVERY = Scope.system("nodes")
_BY_TITLE = Statement(select(*_COLUMNS).where(ae.c.title == bindparam("title")))


class Directory(Protocol):
    """Finds application entities by title."""

    async def find(self, title: str) -> Ae | None:
        """The AE of that title; None when it is not registered."""


# The owners whose data the nodes of one owner may see.
Reach = Callable[[int], Awaitable[frozenset[int]]]


async def only_itself(owner_id: int) -> frozenset[int]:
    """The narrowest reach: an owner's nodes see that owner's data."""
    return frozenset({owner_id})


class AeDirectory:
    """The rows as they are now: a change by the command line holds from the next association on."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, title: str) -> Ae | None:
        """The AE of that title; None when it is not registered."""
        rows = await self._database.fetch(_BY_TITLE, {"title": title})
        return Ae(*rows[0]) if rows else None

    async def same_uid_of(self, owner_id: int, source: str) -> SameUid:
        """The policy for what an owner's node sends under a known UID."""
        found = await self.find(source)
        return found.same_uid if found is not None and found.owner_id == owner_id else "first"


async def add_ae(
    session: AsyncSession,
    title: str,
    host: str,
    port: int,
    *,
    owner_id: int = LOCAL_OWNER,
    charset: str = "",
    same_uid: str = "first",
) -> Ae:
    """Register a node.

    Raises:
        Invalid: ``ae.title``, ``ae.address`` or ``ae.same_uid``.
        Conflict: ``ae.exists``.
    """
    added = Ae(
        check_title(title),
        host.strip(),
        port,
        owner_id,
        charset.strip(),
        same_uid=check_same_uid(same_uid),
    )
    check_address(added.host, port)
    values = {
        "title": added.title,
        "host": added.host,
        "port": port,
        "owner_id": owner_id,
        "charset": added.charset,
        "state": added.state,
        "same_uid": added.same_uid,
        "created_at": datetime.now(UTC),
    }
    try:
        async with session.begin_nested():
            await session.execute(insert(ae).values(values))
    except IntegrityError as error:
        if await _row(session, added.title) is None:
            raise NotFound("owner.not_found", "There is no owner {id}.", id=owner_id) from error
        raise Conflict(
            "ae.exists", "AE title {title} is registered already.", title=added.title
        ) from error
    return added


async def change_ae(session: AsyncSession, new: Ae) -> None:
    """Change everything of a node but its title; holds from the next association on.

    Raises:
        Invalid: ``ae.address`` or ``ae.same_uid``.
        NotFound: ``ae.not_found`` or ``owner.not_found``.
    """
    await get_ae(session, new.title)
    check_address(new.host, new.port)
    values = {
        "host": new.host.strip(),
        "port": new.port,
        "owner_id": new.owner_id,
        "charset": new.charset.strip(),
        "state": new.state,
        "same_uid": check_same_uid(new.same_uid),
    }
    try:
        async with session.begin_nested():
            await session.execute(update(ae).where(ae.c.title == new.title).values(values))
    except IntegrityError as error:
        raise NotFound("owner.not_found", "There is no owner {id}.", id=new.owner_id) from error


async def remove_ae(session: AsyncSession, title: str) -> Ae:
    """Forget a node; what it sent stays. Raises ``NotFound`` ``ae.not_found``."""
    found = await get_ae(session, title)
    await session.execute(delete(ae).where(ae.c.title == found.title))
    return found


async def get_ae(session: AsyncSession, title: str) -> Ae:
    """One node by title. Raises ``NotFound`` ``ae.not_found``."""
    found = await _row(session, title.strip(" "))
    if found is None:
        raise NotFound("ae.not_found", "AE title {title} is not registered.", title=title)
    return found


async def list_aes(
    session: AsyncSession,
    scope: Scope = _EVERY,
    *,
    text: str = "",
    owners: Collection[int] = (),
    after: str = "",
    limit: int | None = None,
) -> list[Ae]:
    """The nodes within `scope` by title, after `after`.

    `text` is part of a title or an address; the nodes of `owners` match as well.
    """
    wanted = select(*_COLUMNS).where(ae.c.title > after).order_by(ae.c.title).limit(limit)
    if scope.owners is not None:
        wanted = wanted.where(ae.c.owner_id.in_(scope.owners))
    if text:
        words = [one.icontains(text, autoescape=True) for one in (ae.c.title, ae.c.host)]
        wanted = wanted.where(or_(*words, ae.c.owner_id.in_(owners)))
    return [Ae(*row) for row in await session.execute(wanted)]


async def _row(session: AsyncSession, title: str) -> Ae | None:
    row = (await session.execute(select(*_COLUMNS).where(ae.c.title == title))).first()
    return None if row is None else Ae(*row)
