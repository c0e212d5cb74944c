"""The rows that settling reads and switches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    ScalarSelect,
    Table,
    and_,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from archive.index.tables import (
    instance,
    instance_version,
    pack,
    pack_copy,
    quarantine,
    series,
    study,
    uid_code,
)
from archive.nodes.rows import lies, within_reach
from archive.settle.build import Source
from archive.settle.pack import EntryKind, ManifestEntry

LEASE_MS = 6 * 3600 * 1000
_TABLES: dict[EntryKind, Table] = {
    "instance": instance,
    "version": instance_version,
    "quarantine": quarantine,
}
_class_code = uid_code.alias("class_code")
_syntax_code = uid_code.alias("syntax_code")


@dataclass(frozen=True, slots=True)
class SeriesToSettle:
    """A series with what its objects need to know."""

    id: int
    owner_id: int
    study_id: int
    study_instance_uid: str
    series_instance_uid: str
    metadata_pack_id: int | None
    pack_version: int
    unsettled: int


async def due(
    session: AsyncSession, node: str, quiet_before_ms: int, since_before_ms: int, limit: int
) -> list[int]:
    """The ids of series at rest, or with instances waiting too long, that `node` can work on.

    Those are series with a share in its journal, and those with none in the journal of another.
    """
    at_rest = or_(
        series.c.last_received_ms < quiet_before_ms,
        series.c.unsettled_since_ms < since_before_ms,
    )
    chosen = (
        select(series.c.id)
        .where(series.c.unsettled > 0, at_rest, or_(_share(node), ~_share(node, elsewhere=True)))
        .order_by(series.c.last_received_ms)
        .limit(limit)
    )
    return list((await session.scalars(chosen)).all())


def _share(node: str, *, elsewhere: bool = False) -> ColumnElement[bool]:
    """Whether instances of a series lie in the journal of `node`, or of others."""
    return exists().where(
        instance.c.series_fk == series.c.id,
        pack_copy.c.pack_id == instance.c.pack_id,
        lies(node, elsewhere=elsewhere),
    )


async def load_series(session: AsyncSession, series_id: int) -> SeriesToSettle | None:
    """One series, None where it was deleted."""
    chosen = (
        select(
            series.c.id,
            series.c.owner_id,
            study.c.id,
            study.c.study_instance_uid,
            series.c.series_instance_uid,
            series.c.metadata_pack_id,
            series.c.pack_version,
            series.c.unsettled,
        )
        .join(study, study.c.id == series.c.study_fk)
        .where(series.c.id == series_id)
    )
    row = (await session.execute(chosen)).first()
    return None if row is None else SeriesToSettle(*row)


async def journal_sources(
    session: AsyncSession, found: SeriesToSettle, limit: int, node: str
) -> list[Source]:
    """What of a series `node` has in its journal: instances in order, then compared versions."""
    return await sources(session, found, limit, kinds=("journal",), node=node)


async def sources(
    session: AsyncSession, found: SeriesToSettle, limit: int, kinds: Sequence[str], node: str
) -> list[Source]:
    """The stored files of a series that lie in packs of these kinds, where `node` can read them."""
    rows = await session.execute(
        _of(instance)
        .where(instance.c.series_fk == found.id, pack.c.kind.in_(kinds), within_reach(node))
        .order_by(instance.c.instance_number, instance.c.sop_instance_uid)
        .limit(limit)
    )
    listed = [_source(row, "instance", found) for row in rows]
    versions = await session.execute(
        _of(instance_version, instance_version.c.relation, instance.c.sop_instance_uid)
        .join(instance, instance.c.id == instance_version.c.instance_fk)
        .where(
            instance.c.series_fk == found.id,
            instance_version.c.compared_ms > 0,
            pack.c.kind.in_(kinds),
            within_reach(node),
        )
        .order_by(instance_version.c.id)
        .limit(limit)
    )
    return listed + [_source(row, "version", found) for row in versions]


def _of(table: Any, *more: Any) -> Any:
    uid = more[1] if more else table.c.sop_instance_uid
    relation = more[0] if more else func.coalesce(None, "")
    return (
        select(
            table.c.id,
            table.c.pack_id,
            pack_copy.c.store,
            pack_copy.c.key,
            table.c.byte_offset,
            table.c.byte_length,
            uid,
            _class_code.c.uid,
            _syntax_code.c.uid,
            table.c.received_ms,
            relation,
        )
        .select_from(table)
        .join(pack, pack.c.id == table.c.pack_id)
        .join(pack_copy, and_(pack_copy.c.pack_id == pack.c.id, pack_copy.c.state == "good"))
        .join(_class_code, _class_code.c.id == table.c.sop_class_id)
        .join(_syntax_code, _syntax_code.c.id == table.c.transfer_syntax_id)
    )


def _source(row: Any, kind: Any, found: SeriesToSettle) -> Source:
    row_id, pack_id, store, key, offset, length, uid, class_uid, syntax, received, relation = row
    return Source(
        row_id,
        kind,
        pack_id,
        store,
        key,
        offset,
        length,
        found.study_instance_uid,
        found.series_instance_uid,
        uid,
        class_uid,
        syntax,
        received,
        reason=relation or "",
    )


async def begin_pack(
    session: AsyncSession,
    kind: str,
    owner_id: int,
    series_id: int | None,
    place: tuple[str, str],
    created_ms: int,
) -> int:
    """The `pack` row, in state writing, that precedes any byte of an object at (store, key)."""
    row = (
        insert(pack)
        .values(
            kind=kind,
            state="writing",
            owner_id=owner_id,
            series_fk=series_id,
            created_ms=created_ms,
            lease_ms=created_ms + LEASE_MS,
        )
        .returning(pack.c.id)
    )
    pack_id = (await session.execute(row)).scalar_one()
    store, key = place
    await session.execute(
        insert(pack_copy).values(pack_id=pack_id, store=store, key=key, node_id="", state="good")
    )
    return int(pack_id)


async def finish_pack(session: AsyncSession, pack_id: int, size: int, sha256: bytes) -> None:
    """The object is durable: its row is live."""
    await session.execute(
        update(pack)
        .where(pack.c.id == pack_id)
        .values(state="live", bytes=size, sha256=sha256, lease_ms=0)
    )


async def kill_pack(session: AsyncSession, pack_id: int, now_ms: int) -> None:
    """Nobody points at the pack any more: it is deleted when its time has passed."""
    await session.execute(
        update(pack)
        .where(pack.c.id == pack_id, pack.c.state != "dying")
        .values(state="dying", dying_ms=now_ms)
    )


async def switch(
    session: AsyncSession, placed: Sequence[tuple[Source, ManifestEntry]], pack_id: int
) -> int:
    """Point rows at their new place; returns how many instances were still where they were read."""
    moved = 0
    for source, entry in placed:
        table = _TABLES[source.kind]
        result = await session.execute(
            update(table)
            .where(
                table.c.id == source.row_id,
                table.c.pack_id == source.pack_id,
                table.c.byte_offset == source.byte_offset,
            )
            .values(pack_id=pack_id, byte_offset=entry.offset, byte_length=entry.length)
        )
        if source.kind == "instance":
            moved += int(result.rowcount)  # type: ignore[attr-defined]
    return moved


async def settled_instances(session: AsyncSession, found: SeriesToSettle) -> list[Source]:
    """The instances of a series that lie in packs, in their order."""
    rows = await session.execute(
        _of(instance)
        .where(instance.c.series_fk == found.id, pack.c.kind == "pack")
        .order_by(instance.c.instance_number, instance.c.sop_instance_uid)
    )
    return [_source(row, "instance", found) for row in rows]


async def latest_metadata(session: AsyncSession, series_id: int) -> tuple[str, str, int] | None:
    """The newest metadata object of a series, in use or not: store, key, time of its making."""
    row = (
        await session.execute(
            select(pack_copy.c.store, pack_copy.c.key, pack.c.created_ms)
            .join(pack, pack.c.id == pack_copy.c.pack_id)
            .where(
                pack.c.series_fk == series_id,
                pack.c.kind == "metadata",
                pack.c.state != "writing",
                pack_copy.c.state == "good",
            )
            .order_by(pack.c.created_ms.desc(), pack.c.id.desc())
            .limit(1)
        )
    ).first()
    return None if row is None else (row[0], row[1], row[2])


async def lock(session: AsyncSession, series_id: int) -> int | None:
    """Keep other nodes from switching places of a series; returns its pack version.

    None where it was deleted. Receiving is not kept from adding instances.
    """
    chosen = select(series.c.pack_version).where(series.c.id == series_id)
    version: int | None = await session.scalar(chosen.with_for_update(key_share=True))
    return version


async def take_metadata(
    session: AsyncSession, found: SeriesToSettle, pack_id: int, described: int
) -> bool:
    """Make `pack_id`, with `described` instances, the metadata of a series.

    Not where the series changed since it was loaded, or another node has settled more of it.
    Whatever is left in the journal is counted anew: the series is settled when this is committed,
    not before, so that a crash leaves it due.
    """
    if await lock(session, found.id) != found.pack_version:
        return False
    settled = (
        select(func.count())
        .select_from(instance)
        .join(pack, pack.c.id == instance.c.pack_id)
        .join(pack_copy, and_(pack_copy.c.pack_id == pack.c.id, pack_copy.c.state == "good"))
        .where(instance.c.series_fk == found.id, pack.c.kind == "pack")
    )
    if await session.scalar(settled) != described:
        return False
    await session.execute(
        update(series)
        .where(series.c.id == found.id)
        .values(
            metadata_pack_id=pack_id,
            pack_version=found.pack_version + 1,
            unsettled=waiting(found.id),
        )
    )
    return True


def waiting(series_id: int | Column[int]) -> ScalarSelect[int]:
    """How many instances of a series lie in the journal, whichever node has it."""
    return (
        select(func.count())
        .select_from(instance)
        .join(pack, pack.c.id == instance.c.pack_id)
        .where(instance.c.series_fk == series_id, pack.c.kind == "journal")
        .scalar_subquery()
    )


async def waiting_here(session: AsyncSession, series_id: int, node: str) -> tuple[int, int]:
    """How many instances of a series lie in the journal, and how many of them not on others."""
    elsewhere = (
        select(func.count())
        .select_from(instance)
        .join(pack_copy, pack_copy.c.pack_id == instance.c.pack_id)
        .where(instance.c.series_fk == series_id, lies(node, elsewhere=True))
        .scalar_subquery()
    )
    everywhere = waiting(series_id)
    row = (await session.execute(select(everywhere, everywhere - elsewhere))).one()
    return row[0], row[1]


async def live_packs(session: AsyncSession, series_id: int) -> list[tuple[int, int, int]]:
    """The live packs of a series as (id, bytes, bytes still pointed at)."""
    used = (
        select(func.coalesce(func.sum(instance.c.byte_length), 0))
        .where(instance.c.pack_id == pack.c.id)
        .scalar_subquery()
    )
    versions = (
        select(func.coalesce(func.sum(instance_version.c.byte_length), 0))
        .where(instance_version.c.pack_id == pack.c.id)
        .scalar_subquery()
    )
    rows = await session.execute(
        select(pack.c.id, pack.c.bytes, used + versions)
        .where(pack.c.series_fk == series_id, pack.c.kind == "pack", pack.c.state == "live")
        .order_by(pack.c.id)
    )
    return [(row[0], row[1], int(row[2])) for row in rows]
