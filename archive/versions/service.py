"""The same SOP Instance UID received again: compared in the background, kept where it differs.

C-STORE answered success already. Equal bytes are a duplicate and go; another encoding of the same
content is noted; another header or other pixels are kept as a version beside the first, which stays
the primary one until somebody decides otherwise.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog
from sqlalchemy import and_, delete, select, update

from archive.index.tables import instance, instance_version, pack_copy
from archive.nodes.rows import within_reach
from archive.settle.clock import now_ms
from archive.store.service import Stores
from dataset.compare import compare
from dataset.part10 import parse_head
from kernel.db.database import Database
from kernel.errors import AppError, Invalid
from kernel.events.service import emit
from kernel.scope import Scope

INSTANCE_CONFLICT = "instance.conflict.v1"
_SCOPE = Scope.system("versions")
_AT_ONCE = 50

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Pending:
    id: int
    owner_id: int
    sop_instance_uid: str
    first: tuple[str, str, int, int]  # store, key, offset, length
    again: tuple[str, str, int, int]


async def compare_pending(database: Database, stores: Stores) -> int:
    """Compare what waits and this node can read; returns how many were.

    What another node has in its journal waits for that node, or until it is settled.
    """
    pending = await _load(database, stores.node)
    for one in pending:
        try:
            relation = await asyncio.to_thread(_compare, stores, one)
        except AppError as error:
            _log.error("version_not_compared", version_id=one.id, why=str(error))
            relation = "unreadable"
        await _conclude(database, one, relation)
    return len(pending)


async def _conclude(database: Database, one: _Pending, relation: str) -> None:
    async with database.session(_SCOPE, write=True) as session:
        if relation == "equal":
            await session.execute(delete(instance_version).where(instance_version.c.id == one.id))
            return
        noted = await session.execute(
            update(instance_version)
            .where(instance_version.c.id == one.id, instance_version.c.compared_ms == 0)
            .values(relation=relation, compared_ms=now_ms())
        )
        first = bool(noted.rowcount)  # type: ignore[attr-defined]
        if first and relation in ("header", "pixels", "unreadable"):
            payload = {"sop_instance_uid": one.sop_instance_uid, "relation": relation}
            await emit(
                session,
                INSTANCE_CONFLICT,
                payload,
                owner_id=one.owner_id,
                key=one.sop_instance_uid,
            )


async def _load(database: Database, node: str) -> list[_Pending]:
    first, again = pack_copy.alias("first_copy"), pack_copy.alias("again_copy")
    chosen = (
        select(
            instance_version.c.id,
            instance_version.c.owner_id,
            instance.c.sop_instance_uid,
            first.c.store,
            first.c.key,
            instance.c.byte_offset,
            instance.c.byte_length,
            again.c.store,
            again.c.key,
            instance_version.c.byte_offset,
            instance_version.c.byte_length,
        )
        .join(instance, instance.c.id == instance_version.c.instance_fk)
        .join(first, and_(first.c.pack_id == instance.c.pack_id, first.c.state == "good"))
        .join(again, and_(again.c.pack_id == instance_version.c.pack_id, again.c.state == "good"))
        .where(
            instance_version.c.compared_ms == 0,
            within_reach(node, first),
            within_reach(node, again),
        )
        .order_by(instance_version.c.id)
        .limit(_AT_ONCE)
    )
    async with database.session(_SCOPE) as session:
        rows = (await session.execute(chosen)).all()
    return [
        _Pending(
            row[0],
            row[1],
            row[2],
            (row[3], row[4], row[5], row[6]),
            (row[7], row[8], row[9], row[10]),
        )
        for row in rows
    ]


def _compare(stores: Stores, one: _Pending) -> str:
    a_body, a_syntax = _body(stores, one.first)
    b_body, b_syntax = _body(stores, one.again)
    return compare([a_body], a_syntax, [b_body], b_syntax)


def _body(stores: Stores, place: tuple[str, str, int, int]) -> tuple[memoryview, str]:
    """A data set without preamble and group 0002, and its transfer syntax."""
    store, key, offset, length = place
    named = stores.named(store)
    if named is stores.journal:
        view = stores.journal.view(key, offset, length)
    else:
        view = memoryview(named.read(key, offset, length))
    head = parse_head(view)
    if head is None:
        raise Invalid("part10.not_dicom", "the stored file is too short to be one")
    return view[head.dataset_offset :], head.transfer_syntax_uid


async def versions_of(
    database: Database, scope: Scope, sop_instance_uid: str
) -> list[tuple[int, str, int]]:
    """The versions kept of an instance as (id, relation, received at in ms)."""
    chosen = (
        select(instance_version.c.id, instance_version.c.relation, instance_version.c.received_ms)
        .join(instance, instance.c.id == instance_version.c.instance_fk)
        .where(instance.c.sop_instance_uid == sop_instance_uid)
        .order_by(instance_version.c.id)
    )
    if scope.owners is not None:
        chosen = chosen.where(instance_version.c.owner_id.in_(sorted(scope.owners)))
    async with database.session(scope) as session:
        return [(row[0], row[1], row[2]) for row in await session.execute(chosen)]
