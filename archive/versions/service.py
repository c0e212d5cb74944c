"""The same SOP Instance UID received again: compared in the background, kept where it differs.

C-STORE answered success already. Equal bytes are a duplicate and go; anything else is kept as a
version beside the first, which is shown until a person, or the policy of the sender, decides
otherwise: see `domain.ACTIONS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from sqlalchemy import and_, delete, select, update

from archive.decisions.domain import CHOOSE
from archive.decisions.service import Desk
from archive.index.tables import instance, instance_version, pack_copy, series, study
from archive.index.values import charsets_of, text_of
from archive.journal.clock import now_ms
from archive.nodes.rows import within_reach
from archive.store.service import Stores
from archive.versions.domain import ACTIONS, IDENTITY_TAGS, Action, Relation, SameUid
from dataset.compare import compare
from dataset.part10 import parse_head
from dataset.refs import InstanceRef
from dataset.scanner import scan
from kernel.db.database import Database
from kernel.errors import AppError, Conflict, Invalid, NotFound
from kernel.events.service import emit
from kernel.scope import Actor, Scope

INSTANCE_CONFLICT = "instance.conflict.v1"
_SCOPE = Scope.system("versions")
_AT_ONCE = 50

_log = structlog.get_logger(__name__)


SameUidOf = Callable[[int, str], Awaitable[SameUid]]
"""The policy for what came from a source (an AE title) of an owner."""


@dataclass(frozen=True, slots=True)
class Policies:
    """Where policies are looked up, and who takes the decisions that they ask for."""

    desk: Desk
    of: SameUidOf


@dataclass(frozen=True, slots=True)
class _Pending:
    id: int
    owner_id: int
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    source: str
    received_ms: int
    first: tuple[str, str, int, int]  # store, key, offset, length
    again: tuple[str, str, int, int]


async def compare_pending(
    database: Database, stores: Stores, policies: Policies | None = None
) -> int:
    """Compare what waits and this node can read; returns how many were.

    Without `policies` the first data set of each instance stays the one that is shown. What another
    node has in its journal waits for that node, or until it is settled.
    """
    pending = await _load(database, stores.node)
    for one in pending:
        try:
            relation: Relation = await asyncio.to_thread(_compare, stores, one)
        except AppError as error:
            _log.error("version_not_compared", version_id=one.id, why=str(error))
            relation = "unreadable"
        policy = await policies.of(one.owner_id, one.source) if policies else "first"
        action = ACTIONS[policy, relation]
        noted = await _conclude(database, one, relation, action)
        if noted and action.later and policies is not None:
            await _show_later(database, policies.desk, one, policy)
    return len(pending)


async def _conclude(database: Database, one: _Pending, relation: Relation, action: Action) -> bool:
    """Note what came of a comparison; returns whether nobody else did before."""
    async with database.session(_SCOPE, write=True) as session:
        if not action.kept:
            await session.execute(delete(instance_version).where(instance_version.c.id == one.id))
            return False
        noted = await session.execute(
            update(instance_version)
            .where(instance_version.c.id == one.id, instance_version.c.compared_ms == 0)
            .values(relation=relation, compared_ms=now_ms())
        )
        first = bool(noted.rowcount)  # type: ignore[attr-defined]
        if first and action.told:
            payload = {"sop_instance_uid": one.sop_instance_uid, "relation": relation}
            await emit(
                session,
                INSTANCE_CONFLICT,
                payload,
                owner_id=one.owner_id,
                key=one.sop_instance_uid,
            )
        return first


async def _show_later(database: Database, desk: Desk, one: _Pending, policy: SameUid) -> None:
    """Choose a version as the policy of its sender says; not before one that came after it."""
    shown = (
        select(instance_version.c.received_ms)
        .join(instance, instance.c.version_fk == instance_version.c.id)
        .where(
            instance.c.owner_id == one.owner_id,
            instance.c.sop_instance_uid == one.sop_instance_uid,
        )
    )
    async with database.session(_SCOPE) as session:
        if (await session.scalar(shown) or 0) > one.received_ms:
            return
    scope = Scope(frozenset({one.owner_id}), Actor("system", ""), f"policy {policy}")
    ref = InstanceRef.parse(one.study_instance_uid, one.series_instance_uid, one.sop_instance_uid)
    try:
        await desk.decide(
            scope,
            CHOOSE,
            ref,
            actor=one.source,
            reason=policy,
            detail={"version": [one.received_ms, one.again[3]]},
        )
    except (Conflict, NotFound) as error:  # it names another series, or was deleted meanwhile
        _log.info("version_not_shown", version_id=one.id, code=error.code)


async def _load(database: Database, node: str) -> list[_Pending]:
    first, again = pack_copy.alias("first_copy"), pack_copy.alias("again_copy")
    chosen = (
        select(
            instance_version.c.id,
            instance_version.c.owner_id,
            study.c.study_instance_uid,
            series.c.series_instance_uid,
            instance.c.sop_instance_uid,
            instance_version.c.source,
            instance_version.c.received_ms,
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
        .join(series, series.c.id == instance.c.series_fk)
        .join(study, study.c.id == series.c.study_fk)
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
    return [_Pending(*row[:7], tuple(row[7:11]), tuple(row[11:])) for row in rows]


def _compare(stores: Stores, one: _Pending) -> Relation:
    a_body, a_syntax = _body(stores, one.first)
    b_body, b_syntax = _body(stores, one.again)
    found = compare([a_body], a_syntax, [b_body], b_syntax)
    if found in ("header", "pixels") and _identity(a_body, a_syntax) != _identity(b_body, b_syntax):
        return "identity"
    return found


def _identity(body: memoryview, transfer_syntax_uid: str) -> list[str]:
    """The values that say whom and what a data set is about."""
    values = scan([body], transfer_syntax_uid).values
    charsets = charsets_of(values)
    return [text_of(tag, values.get(tag), charsets) for tag in IDENTITY_TAGS]


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
