"""The rows of `owner`: paths and states, kept by whoever manages the organisations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, insert, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from kernel.db.tables import owner


@dataclass(frozen=True, slots=True)
class Owner:
    """One owner: `path` is its place in the tree, `state` a state of its organisation's life."""

    id: int
    path: str
    state: str


async def all_owners(session: AsyncSession) -> Mapping[int, Owner]:
    """Every owner by its number."""
    rows = await session.execute(select(owner.c.id, owner.c.path, owner.c.state))
    return {row.id: Owner(*row) for row in rows}


async def add_owners(session: AsyncSession, places: Sequence[tuple[str, str]]) -> list[int]:
    """Add owners for (path, state); their numbers in the same order."""
    if not places:
        return []
    rows = [{"path": path, "state": state} for path, state in places]
    added = await session.execute(insert(owner).returning(owner.c.id, owner.c.path), rows)
    by_path = {row.path: row.id for row in added}
    return [by_path[path] for path, _ in places]


async def set_owner_state(session: AsyncSession, owner_id: int, state: str) -> None:
    """Change the state of one owner."""
    await session.execute(update(owner).where(owner.c.id == owner_id).values(state=state))


async def move_owners(session: AsyncSession, old: str, new: str) -> None:
    """Give the owner at path `old` and everything below it the path `new`."""
    rest = func.substr(owner.c.path, len(old) + 1)
    below = or_(owner.c.path == old, owner.c.path.startswith(f"{old}/", autoescape=True))
    await session.execute(update(owner).where(below).values(path=literal(new).concat(rest)))
