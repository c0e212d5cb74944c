"""Person names that nobody bears any more leave the dictionary: a deleted name is not kept."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import delete, exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from archive.index.tables import name_gram, patient, person_name, study


async def names_of(session: AsyncSession, study_id: int) -> set[int]:
    """The ids of the names that a study and its patient refer to."""
    row = (
        await session.execute(
            select(study.c.name_id, study.c.referring_name_id, patient.c.name_id)
            .join(patient, patient.c.id == study.c.patient_fk)
            .where(study.c.id == study_id)
        )
    ).first()
    return set() if row is None else set(row)


async def drop_names(session: AsyncSession, name_ids: Collection[int]) -> None:
    """Remove those of the names that no row refers to."""
    idle = select(person_name.c.id).where(
        person_name.c.id.in_(sorted(name_ids)),
        ~exists().where(study.c.name_id == person_name.c.id),
        ~exists().where(study.c.referring_name_id == person_name.c.id),
        ~exists().where(patient.c.name_id == person_name.c.id),
    )
    going = list((await session.scalars(idle)).all())
    await session.execute(delete(name_gram).where(name_gram.c.name_id.in_(going)))
    await session.execute(delete(person_name).where(person_name.c.id.in_(going)))
