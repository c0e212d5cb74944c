"""The rows that a scrub compares with the stored bytes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from archive.index.tables import (
    decision,
    instance,
    instance_version,
    pack,
    pack_copy,
    quarantine,
    series,
    study,
)
from archive.settle.pack import EntryKind


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy of a live pack, metadata object or segment as the index knows it."""

    pack_id: int
    kind: str
    series_id: int | None
    size: int
    sha256: bytes | None
    store: str
    key: str


@dataclass(frozen=True, slots=True)
class File:
    """One row that points into a pack."""

    kind: EntryKind
    row_id: int
    owner_id: int
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    byte_offset: int
    byte_length: int


def _due(store: str, before_ms: int) -> ColumnElement[bool]:
    return and_(
        pack.c.state == "live",
        pack.c.kind.in_(("pack", "metadata")),
        pack_copy.c.store == store,
        pack_copy.c.verified_ms < before_ms,
    )


async def count_due(session: AsyncSession, store: str, before_ms: int) -> int:
    """How many objects of a store were not verified since `before_ms`."""
    joined = (
        select(func.count()).select_from(pack).join(pack_copy, pack_copy.c.pack_id == pack.c.id)
    )
    return int(await session.scalar(joined.where(_due(store, before_ms))) or 0)


async def due(session: AsyncSession, store: str, before_ms: int, limit: int) -> list[Copy]:
    """Those of them that were verified longest ago."""
    chosen = (
        _copies()
        .where(_due(store, before_ms))
        .order_by(pack_copy.c.verified_ms, pack.c.id)
        .limit(limit)
    )
    return [Copy(*row) for row in await session.execute(chosen)]


async def segments(session: AsyncSession, node: str) -> list[Copy]:
    """The segments of a node that rows may point into."""
    chosen = _copies().where(
        pack.c.kind == "journal", pack.c.state != "dying", pack_copy.c.node_id == node
    )
    return [Copy(*row) for row in await session.execute(chosen.order_by(pack.c.id))]


def _copies() -> Select[Any]:
    return select(
        pack.c.id,
        pack.c.kind,
        pack.c.series_fk,
        pack.c.bytes,
        pack.c.sha256,
        pack_copy.c.store,
        pack_copy.c.key,
    ).join(pack_copy, pack_copy.c.pack_id == pack.c.id)


async def files_in(session: AsyncSession, pack_id: int) -> list[File]:
    """Every row that points into a pack."""
    uids = (study.c.study_instance_uid, series.c.series_instance_uid, instance.c.sop_instance_uid)
    instances = await session.execute(
        select(
            instance.c.id,
            instance.c.owner_id,
            *uids,
            instance.c.byte_offset,
            instance.c.byte_length,
        )
        .join(series, series.c.id == instance.c.series_fk)
        .join(study, study.c.id == series.c.study_fk)
        .where(instance.c.pack_id == pack_id)
    )
    found = [File("instance", *row) for row in instances]
    version = instance_version
    versions = await session.execute(
        select(
            version.c.id, version.c.owner_id, *uids, version.c.byte_offset, version.c.byte_length
        )
        .join(instance, instance.c.id == version.c.instance_fk)
        .join(series, series.c.id == instance.c.series_fk)
        .join(study, study.c.id == series.c.study_fk)
        .where(version.c.pack_id == pack_id)
    )
    found += [File("version", *row) for row in versions]
    kept = await session.execute(
        select(
            quarantine.c.id,
            quarantine.c.owner_id,
            quarantine.c.sop_instance_uid,
            quarantine.c.byte_offset,
            quarantine.c.byte_length,
        ).where(quarantine.c.pack_id == pack_id)
    )
    return found + [File("quarantine", row[0], row[1], "", "", *row[2:]) for row in kept]


async def still_live(session: AsyncSession, pack_id: int) -> bool:
    """Whether a pack is in use: settling may have replaced it since."""
    return await session.scalar(select(pack.c.state).where(pack.c.id == pack_id)) == "live"


async def conclude(session: AsyncSession, copy: Copy, state: str, now_ms: int) -> None:
    """Note that a copy was read: it is good, or readers skip it."""
    await session.execute(
        update(pack_copy)
        .where(pack_copy.c.pack_id == copy.pack_id, pack_copy.c.store == copy.store)
        .values(state=state, verified_ms=now_ms)
    )


async def drop_metadata(session: AsyncSession, copy: Copy, now_ms: int) -> None:
    """Take a damaged metadata object out of use; readers describe the instances themselves."""
    await session.execute(
        update(series)
        .where(series.c.id == copy.series_id, series.c.metadata_pack_id == copy.pack_id)
        .values(metadata_pack_id=None, pack_version=series.c.pack_version + 1)
    )
    await session.execute(
        update(pack).where(pack.c.id == copy.pack_id).values(state="dying", dying_ms=now_ms)
    )


async def known_keys(session: AsyncSession, store: str, keys: Collection[str]) -> set[str]:
    """Those of `keys` that a pack or a decision is kept under."""
    packs = select(pack_copy.c.key).where(pack_copy.c.store == store, pack_copy.c.key.in_(keys))
    logs = select(decision.c.log_key).where(decision.c.log_key.in_(keys))
    return {*(await session.scalars(packs)).all(), *(await session.scalars(logs)).all()}
