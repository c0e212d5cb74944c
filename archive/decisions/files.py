"""The stored files of a study in the order of receiving, read as far as the index needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Select, Table, and_, select
from sqlalchemy.ext.asyncio import AsyncSession

from archive.index.arrival import Arrival
from archive.index.tables import instance, instance_version, pack_copy, series
from archive.journal.domain import Origin
from archive.receive.stored import read_arrival
from archive.store.service import JOURNAL, Stores
from kernel.errors import Invalid, NotFound, Unavailable

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """Where a stored file lies, when it was received, and its rank among those of that time.

    `version` says that it is one of another file.
    """

    store: str
    key: str
    byte_offset: int
    byte_length: int
    received_ms: int
    row_id: int
    node: str
    version: bool = False

    def as_version(self) -> StoredFile:
        """The same, said to be a version."""
        return replace(self, version=True)


async def first(session: AsyncSession, where: ColumnElement[bool]) -> list[StoredFile]:
    """The instance received first of the series for which `where` is true; empty without one."""
    chosen = (
        _files(instance)
        .join(series, series.c.id == instance.c.series_fk)
        .where(where)
        .order_by(instance.c.received_ms, instance.c.id)
        .limit(1)
    )
    return [StoredFile(*row) for row in await session.execute(chosen)]


async def shown(session: AsyncSession, instance_id: int) -> list[StoredFile]:
    """The file that is shown of an instance: its chosen version, else the first one."""
    chosen = await session.scalar(select(instance.c.version_fk).where(instance.c.id == instance_id))
    if chosen is None:
        found = await session.execute(_files(instance).where(instance.c.id == instance_id))
    else:
        found = await session.execute(
            _files(instance_version).where(instance_version.c.id == chosen)
        )
    return [StoredFile(*row) for row in found][:1]


async def of_study(
    session: AsyncSession, owner_id: int, study_id: int, study_uid: str
) -> list[StoredFile]:
    """All instances of a study and the versions that name it, in the order of receiving.

    A version counts after its instance, whatever the clocks said.
    """
    instances = await session.execute(
        _files(instance)
        .join(series, series.c.id == instance.c.series_fk)
        .where(series.c.study_fk == study_id)
    )
    ranked = [((row[4], 0, row[5]), StoredFile(*row)) for row in instances]
    versions = await session.execute(
        _files(instance_version)
        .add_columns(instance.c.received_ms.label("first_ms"))
        .join(instance, instance.c.id == instance_version.c.instance_fk)
        .where(
            instance_version.c.owner_id == owner_id,
            instance_version.c.study_instance_uid == study_uid,
        )
    )
    ranked += [
        ((max(row[4], row[7]), 1, row[5]), StoredFile(*row[:7]).as_version()) for row in versions
    ]
    return [file for _, file in sorted(ranked, key=lambda pair: pair[0])]


def read(
    stores: Stores, owner_id: int, files: Sequence[StoredFile]
) -> list[tuple[StoredFile, Arrival]]:
    """What the files say; those that are lost or damaged are left out.

    Raises `Unavailable` where a store does not answer, and ``node.elsewhere`` where a file lies in
    the journal of another node: it can be read there, and everywhere once it is settled.
    """
    found = []
    for file in files:
        try:
            found.append((file, _read(stores, owner_id, file)))
        except (NotFound, Invalid) as error:
            _log.warning("stored_file_unreadable", key=file.key, code=error.code)
        except Unavailable as error:
            if error.code != "objects.short":
                raise
            _log.warning("stored_file_unreadable", key=file.key, code=error.code)
    return found


def _read(stores: Stores, owner_id: int, file: StoredFile) -> Arrival:
    if file.store == JOURNAL and file.node != stores.node:
        raise Unavailable(
            "node.elsewhere", "the bytes lie in the journal of node {node}", node=file.node
        )
    store = stores.named(file.store)

    def part(start: int, length: int) -> bytes:
        return store.read(file.key, file.byte_offset + start, length)

    arrival = read_arrival(part, file.byte_length, Origin(owner_id, "import", "", ""))
    arrival.received_ms, arrival.order = file.received_ms, file.row_id
    return arrival


def _files(table: Table) -> Select[Any]:
    return (
        select(
            pack_copy.c.store,
            pack_copy.c.key,
            table.c.byte_offset,
            table.c.byte_length,
            table.c.received_ms,
            table.c.id,
            pack_copy.c.node_id,
        )
        .select_from(table)
        .join(pack_copy, and_(pack_copy.c.pack_id == table.c.pack_id, pack_copy.c.state == "good"))
    )
