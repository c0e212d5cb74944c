"""Series UIDs that stand in more than one study: flagged in all but the earliest of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from archive.index.mismatch import SERIES_IN_TWO_STUDIES
from archive.index.tables import instance, mismatch, series, study


@dataclass(frozen=True, slots=True)
class _Place:
    """One series in one study, by its first instance."""

    received_ms: int
    instance_id: int
    study_id: int
    study_instance_uid: str
    sop_instance_uid: str


async def renew_shared(
    session: AsyncSession, owner_id: int, study_id: int, series_uids: Sequence[str]
) -> None:
    """Flag these series anew, after instances of theirs in `study_id` went."""
    for uid in series_uids:
        places = await _places(session, owner_id, uid)
        studies = {place.study_id for place in places} | {study_id}
        await session.execute(
            delete(mismatch).where(
                mismatch.c.study_fk.in_(sorted(studies)),
                mismatch.c.kind == SERIES_IN_TWO_STUDIES,
                mismatch.c.series_instance_uid == uid,
            )
        )
        places.sort(key=lambda place: (place.received_ms, place.instance_id))
        for place in places[1:]:
            flag = {
                "owner_id": owner_id,
                "study_fk": place.study_id,
                "kind": SERIES_IN_TWO_STUDIES,
                "series_instance_uid": uid,
                "sop_instance_uid": place.sop_instance_uid,
                "stored": places[0].study_instance_uid,
                "received": place.study_instance_uid,
                "noted_ms": place.received_ms,
            }
            await session.execute(insert(mismatch).values(flag))


async def _places(session: AsyncSession, owner_id: int, series_uid: str) -> list[_Place]:
    where = (series.c.owner_id == owner_id, series.c.series_instance_uid == series_uid)
    found = await session.execute(
        select(series.c.id, study.c.id, study.c.study_instance_uid)
        .join(study, study.c.id == series.c.study_fk)
        .where(*where)
    )
    listed = found.all()
    if len(listed) < 2:  # as a rule: its first instance is of no interest then
        return [_Place(0, 0, row[1], row[2], "") for row in listed]
    places = []
    for series_id, study_id, study_uid in listed:
        first = (
            select(instance.c.received_ms, instance.c.id, instance.c.sop_instance_uid)
            .where(instance.c.series_fk == series_id)
            .order_by(instance.c.received_ms, instance.c.id)
            .limit(1)
        )
        received_ms, instance_id, sop_uid = (await session.execute(first)).one()
        places.append(_Place(received_ms, instance_id, study_id, study_uid, sop_uid))
    return places
