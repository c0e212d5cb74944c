"""Decisions on the rows of a study: what is hidden, and which version of an instance is shown."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from archive.decisions.domain import Decision
from archive.decisions.overlay import STUDY, Overlay, Place
from archive.index.tables import instance, instance_version, series, study
from kernel.errors import Conflict, NotFound


async def show(session: AsyncSession, study_id: int, overlay: Overlay) -> None:
    """Make the flags of a study and of what is in it those of `overlay`; its version goes up."""
    await _hide(session, study_id, overlay)
    chosen = await _choose(session, study_id, overlay)
    values: dict[str, Any] = {
        "rejected": 2 if STUDY in overlay.rejected else int(bool(overlay.rejected)),
        "chosen": int(chosen),
        "sensitivity": ",".join(overlay.sensitivity),
        "overlay_version": study.c.overlay_version + 1,
    }
    if overlay.corrections:
        values["corrected"] = 1
    await session.execute(update(study).where(study.c.id == study_id).values(values))


async def _hide(session: AsyncSession, study_id: int, overlay: Overlay) -> None:
    mine = instance.c.series_fk.in_(select(series.c.id).where(series.c.study_fk == study_id))
    shown = update(series).where(series.c.study_fk == study_id, series.c.rejected == 1)
    await session.execute(shown.values(rejected=0))
    await session.execute(update(instance).where(mine, instance.c.rejected == 1).values(rejected=0))
    for place in overlay.rejected:
        if place[1]:
            hidden = update(instance).where(instance.c.id.in_(named(study_id, place)))
            await session.execute(hidden.values(rejected=1))
        elif place[0]:
            hidden = update(series).where(
                series.c.study_fk == study_id, series.c.series_instance_uid == place[0]
            )
            await session.execute(hidden.values(rejected=1))


async def _choose(session: AsyncSession, study_id: int, overlay: Overlay) -> bool:
    mine = instance.c.series_fk.in_(select(series.c.id).where(series.c.study_fk == study_id))
    await session.execute(
        update(instance).where(mine, instance.c.version_fk.is_not(None)).values(version_fk=None)
    )
    done = False
    for place, version in overlay.chosen.items():
        row = (await session.execute(version_row(study_id, place, version))).first()
        if row is not None:
            done = True
            chosen = update(instance).where(instance.c.id == row[0])
            await session.execute(chosen.values(version_fk=row[1]))
    return done


async def check_version(session: AsyncSession, study_id: int, made: Decision) -> None:
    """Whether the version that a decision chooses is there, and says that it belongs there.

    Raises `NotFound('version.not_found')` and `Conflict('version.elsewhere')`.
    """
    if not made.detail["version"]:
        return
    place = (made.series_instance_uid, made.sop_instance_uid)
    received_ms, length = made.detail["version"]
    row = (await session.execute(version_row(study_id, place, (received_ms, length)))).first()
    if row is None:
        raise NotFound("version.not_found", "there is no such version of the instance")
    if (row[2], row[3]) != (made.study_instance_uid, made.series_instance_uid):
        raise Conflict("version.elsewhere", "the version names another study or series")


def version_row(study_id: int, place: Place, version: tuple[int, int]) -> Any:
    """Selects the row ids of an instance and of its version received then, of that many bytes, and
    whether it names the same series: (instance, version, study UID, series UID).
    """
    return (
        select(
            instance.c.id,
            instance_version.c.id,
            instance_version.c.study_instance_uid,
            instance_version.c.series_instance_uid,
        )
        .join(instance_version, instance_version.c.instance_fk == instance.c.id)
        .where(
            instance.c.id.in_(named(study_id, place)),
            instance_version.c.received_ms == version[0],
            instance_version.c.byte_length == version[1],
        )
        .order_by(instance_version.c.id)
        .limit(1)
    )


def named(study_id: int, place: Place) -> Any:
    """Selects the row id of the instance at a place in a study."""
    return (
        select(instance.c.id)
        .join(series, series.c.id == instance.c.series_fk)
        .where(
            and_(
                series.c.study_fk == study_id,
                series.c.series_instance_uid == place[0],
                instance.c.sop_instance_uid == place[1],
            )
        )
    )
