"""The rows that a rebuild adds and puts right."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import Select, Table, and_, exists, func, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from archive.index.arrival import Arrival
from archive.index.tables import (
    instance,
    instance_version,
    pack,
    pack_copy,
    quarantine,
    series,
    study,
)
from archive.rebuild.ledger import MetadataNote, PackNote
from archive.settle.pack import EntryKind
from archive.settle.rows import waiting
from kernel.db.database import Database
from kernel.scope import Scope

Note = PackNote | MetadataNote
_TABLES: dict[EntryKind, Table] = {
    "instance": instance,
    "version": instance_version,
    "quarantine": quarantine,
}
UNTIL_DONE_MS = 2**62  # a lease: the sweep leaves the pack alone until the rebuild is through
_SCOPE = Scope.system("rebuild")

Gone = Callable[[str, str, str], bool]  # store, key, node: whether the object is not there any more


async def known(
    session: AsyncSession, store: str, keys: Collection[str]
) -> dict[str, tuple[int, bool]]:
    """Row id of the packs that have one; and whether a rebuild that broke off has made it.

    Settling makes the row before it knows the object's hash, so a pack in writing with a hash is
    a rebuild's.
    """
    chosen = (
        select(pack_copy.c.key, pack.c.id, pack.c.state, pack.c.sha256)
        .join(pack, pack.c.id == pack_copy.c.pack_id)
        .where(pack_copy.c.store == store, pack_copy.c.key.in_(keys))
    )
    return {
        row[0]: (row[1], row[2] == "writing" and row[3] is not None)
        for row in await session.execute(chosen)
    }


async def register(session: AsyncSession, kind: str, store: str, note: Note, now_ms: int) -> int:
    """Make the row of an object that was read and verified; it is in use when all is through."""
    row = {
        "kind": kind,
        "state": "writing",
        "owner_id": note.owner_id,
        "bytes": note.size,
        "sha256": note.sha256,
        "created_ms": note.created_ms,
        "lease_ms": UNTIL_DONE_MS,
    }
    pack_id = await session.scalar(insert(pack).values(row).returning(pack.c.id))
    copy = {"pack_id": pack_id, "store": store, "key": note.key, "state": "good"}
    await session.execute(insert(pack_copy).values(copy | {"verified_ms": now_ms}))
    return int(pack_id or 0)


async def conclude_pack(session: AsyncSession, pack_id: int, now_ms: int) -> None:
    """A pack that rows point at is live and its series known; any other is on its way out."""
    series_id = await session.scalar(
        select(func.min(instance.c.series_fk)).where(instance.c.pack_id == pack_id)
    )
    if series_id is None:
        series_id = await session.scalar(
            select(func.min(instance.c.series_fk))
            .join(instance_version, instance_version.c.instance_fk == instance.c.id)
            .where(instance_version.c.pack_id == pack_id)
        )
    kept = select(exists().where(quarantine.c.pack_id == pack_id))
    if series_id is not None or await session.scalar(kept):
        state: dict[str, Any] = {"state": "live", "series_fk": series_id}
    else:
        state = {"state": "dying", "dying_ms": now_ms}
    await session.execute(update(pack).where(pack.c.id == pack_id).values(state | {"lease_ms": 0}))


async def put_right(
    database: Database, kind: EntryKind, arrivals: Sequence[Arrival], gone: Gone
) -> int:
    """What is in the index already: where its bytes are gone, these are its bytes now.

    So it is when the database comes from a backup that is older than the objects. Returns how many
    rows were put right.
    """
    done = 0
    table = _TABLES[kind]
    for arrival in arrivals:
        async with database.session(_SCOPE) as session:
            row = (await session.execute(_place(kind, arrival))).first()
        if row is None or not gone(row[1], row[2], row[3]):
            continue
        done += 1
        place = {"pack_id": arrival.segment.pack_id, "byte_offset": arrival.byte_offset}
        async with database.session(_SCOPE, write=True) as session:
            await session.execute(update(table).where(table.c.id == row[0]).values(place))
            if kind == "instance":
                mine = select(instance.c.series_fk).where(instance.c.id == row[0])
                series_id = int(await session.scalar(mine) or 0)
                await session.execute(
                    update(series)
                    .where(series.c.id == series_id)
                    .values(unsettled=waiting(series_id))
                )
    return done


def _place(kind: EntryKind, arrival: Arrival) -> Select[Any]:
    """Row id and place of the row that tells of just this arrival."""
    table = _TABLES[kind]
    chosen = select(table.c.id, pack_copy.c.store, pack_copy.c.key, pack_copy.c.node_id).join(
        pack_copy, pack_copy.c.pack_id == table.c.pack_id
    )
    owned = table.c.owner_id == arrival.origin.owner_id
    if kind == "quarantine":
        return chosen.where(owned, table.c.checksum == arrival.checksum)
    same = and_(
        owned,
        table.c.received_ms == arrival.received_ms,
        table.c.byte_length == arrival.byte_length,
        instance.c.sop_instance_uid == arrival.sop_instance_uid,
    )
    if kind == "version":
        chosen = chosen.join(instance, instance.c.id == instance_version.c.instance_fk)
    return chosen.where(same)


async def newest_study(session: AsyncSession) -> int:
    """The highest row id of a study; 0 in an empty index."""
    return int(await session.scalar(select(func.max(study.c.id))) or 0)


async def attach_metadata(
    session: AsyncSession, note: MetadataNote, pack_id: int, version: int, now_ms: int
) -> bool:
    """Put a metadata object to use where it describes just what is settled of its series.

    It has to be younger than everything it describes: an instance may have come again under the
    same UID since. `version` makes ETags of before never come back. Else it is on its way out.
    """
    found = (
        await session.execute(
            select(series.c.id, series.c.metadata_pack_id)
            .join(study, study.c.id == series.c.study_fk)
            .where(
                study.c.owner_id == note.owner_id,
                study.c.study_instance_uid == note.study_instance_uid,
                series.c.series_instance_uid == note.series_instance_uid,
            )
        )
    ).first()
    values: dict[str, Any] = {"lease_ms": 0, "state": "dying", "dying_ms": now_ms}
    fits = False
    if found is not None:
        values["series_fk"] = found[0]
        fits = found[1] is None and await _describes(session, note, found[0])
    if fits:
        values |= {"state": "live", "dying_ms": 0}
        await session.execute(
            update(series)
            .where(series.c.id == values["series_fk"])
            .values(metadata_pack_id=pack_id, pack_version=version)
        )
    await session.execute(update(pack).where(pack.c.id == pack_id).values(values))
    return fits


async def _describes(session: AsyncSession, note: MetadataNote, series_id: int) -> bool:
    settled = (
        await session.execute(
            select(instance.c.sop_instance_uid, instance.c.received_ms)
            .join(pack, pack.c.id == instance.c.pack_id)
            .where(instance.c.series_fk == series_id, pack.c.kind == "pack")
        )
    ).all()
    young = all(row[1] <= note.created_ms for row in settled)
    return young and {row[0] for row in settled} == note.uids


async def without_metadata(session: AsyncSession) -> list[int]:
    """Series that are settled, at least in part, and have no metadata object."""
    settled = exists().where(
        and_(
            instance.c.series_fk == series.c.id,
            instance.c.pack_id == pack.c.id,
            pack.c.kind == "pack",
        )
    )
    chosen = select(series.c.id).where(series.c.metadata_pack_id.is_(None), settled)
    return list((await session.scalars(chosen.order_by(series.c.id))).all())


async def series_ids_of(
    session: AsyncSession, owner_id: int, study_uid: str, series_uids: Collection[str]
) -> list[int]:
    """The row ids of series in a study."""
    chosen = (
        select(series.c.id)
        .join(study, study.c.id == series.c.study_fk)
        .where(
            study.c.owner_id == owner_id,
            study.c.study_instance_uid == study_uid,
            series.c.series_instance_uid.in_(series_uids),
        )
    )
    return list((await session.scalars(chosen)).all())


async def shared_series(session: AsyncSession) -> list[tuple[int, str]]:
    """Series UIDs that stand in more than one study of an owner, with that owner."""
    key = (series.c.owner_id, series.c.series_instance_uid)
    chosen = select(*key).group_by(*key).having(func.count() > 1)
    return [(row[0], row[1]) for row in await session.execute(chosen)]


async def older_studies(
    session: AsyncSession, studies: Collection[tuple[int, str]], up_to: int
) -> list[tuple[int, str]]:
    """Those of `studies`, as (owner, UID), that have a row id of at most `up_to`."""
    pair = tuple_(study.c.owner_id, study.c.study_instance_uid)
    chosen = select(study.c.owner_id, study.c.study_instance_uid).where(
        pair.in_(sorted(studies)), study.c.id <= up_to
    )
    return [(row[0], row[1]) for row in await session.execute(chosen)]


async def unsettled_studies(
    session: AsyncSession, above: int, quiet_before_ms: int, limit: int
) -> list[int]:
    """New studies at rest that do not say so."""
    waits = exists().where(series.c.study_fk == study.c.id, series.c.unsettled > 0)
    chosen = (
        select(study.c.id)
        .where(
            study.c.id > above,
            study.c.settled_ms == 0,
            study.c.settlements == 0,
            study.c.last_received_ms < quiet_before_ms,
            ~waits,
        )
        .limit(limit)
    )
    return list((await session.scalars(chosen)).all())


async def settle_studies(session: AsyncSession, study_ids: Collection[int], now_ms: int) -> None:
    """These studies are settled: it was told when it happened."""
    await session.execute(
        update(study)
        .where(study.c.id.in_(study_ids), study.c.settled_ms == 0)
        .values(settled_ms=now_ms, settlements=1)
    )


async def set_overlay(
    session: AsyncSession, above: int, owner_id: int, uid: str, overlay: int
) -> None:
    """Give a new study the overlay version that the last decision left."""
    await session.execute(
        update(study)
        .where(
            study.c.id > above,
            study.c.owner_id == owner_id,
            study.c.study_instance_uid == uid,
        )
        .values(overlay_version=overlay)
    )
