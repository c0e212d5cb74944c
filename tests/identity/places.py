"""A small tree for tests: two counties, three hospitals, a department."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from identity.organisations.domain import Organisation
from identity.organisations.service import Draft, create
from kernel.db.database import Database
from kernel.scope import Scope

SYSTEM = Scope.system("test")


@dataclass(frozen=True, slots=True)
class Places:
    """Numbers of the organisations."""

    prefecture: int
    county_a: int
    county_b: int
    hospital_a1: int
    hospital_a2: int
    hospital_b1: int
    department: int


async def make(
    session: AsyncSession, kind: str, code: str, parent: int | None, name: str = ""
) -> Organisation:
    """An active organisation."""
    draft = Draft(kind, code, name or f"{kind} {code}")
    return await create(session, SYSTEM, draft, parent, state="active")


async def make_places(database: Database) -> Places:
    """Make them."""
    async with database.session(SYSTEM, write=True) as session:
        prefecture = (await make(session, "prefecture", "5226", None)).id
        county_a = (await make(session, "county", "522601", prefecture)).id
        county_b = (await make(session, "county", "522632", prefecture)).id
        hospital_a1 = (await make(session, "institution", "H0001", county_a)).id
        hospital_a2 = (await make(session, "institution", "H0002", county_a)).id
        hospital_b1 = (await make(session, "institution", "H0101", county_b)).id
        department = (await make(session, "department", "D01", hospital_a1)).id
    return Places(prefecture, county_a, county_b, hospital_a1, hospital_a2, hospital_b1, department)
