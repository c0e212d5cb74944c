"""Writing audit rows and reading them."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from kernel.audit.domain import ASKED_FROM, AuditRecord
from kernel.audit.tables import audit
from kernel.scope import Actor, Scope


async def append(session: AsyncSession, record: AuditRecord) -> None:
    """Add the record to the transaction of the change that it tells of."""
    # Without RETURNING: the actor may add what it may not read.
    row = as_row(record) | {"fold_key": None, "peer": record.peer or ASKED_FROM.get()}
    await session.execute(insert(audit).inline(), row)


async def take_in(session: AsyncSession, records: Iterable[AuditRecord]) -> None:
    """Add records that were noted elsewhere; those that fold are counted into one row."""
    alone: list[dict[str, Any]] = []
    together: list[dict[str, Any]] = []
    for record in records:
        (alone if record.fold_key is None else together).append(as_row(record))
    if alone:
        await session.execute(insert(audit), alone)
    if together:
        name = session.get_bind().dialect.name
        upsert = (postgresql if name == "postgresql" else sqlite).insert(audit)
        counted = audit.c.count + upsert.excluded.count
        await session.execute(
            upsert.on_conflict_do_update(
                index_elements=[audit.c.fold_key], set_={"count": counted}
            ),
            together,
        )


async def recent(
    session: AsyncSession, scope: Scope, *, study_instance_uid: str = "", limit: int = 100
) -> list[AuditRecord]:
    """The newest records within `scope`, of one study where given."""
    wanted = select(audit).order_by(audit.c.at.desc(), audit.c.id.desc()).limit(limit)
    if study_instance_uid:
        wanted = wanted.where(audit.c.study_instance_uid == study_instance_uid)
    if scope.owners is not None:
        wanted = wanted.where(audit.c.owner_id.in_(scope.owners))
    return [_as_record(row._mapping) for row in await session.execute(wanted)]


def as_row(record: AuditRecord) -> dict[str, Any]:
    """The columns of a record."""
    return {
        "at": record.at,
        "actor_kind": record.actor.kind,
        "actor_id": record.actor.id,
        "peer": record.peer,
        "action": record.action,
        "outcome": record.outcome,
        "purpose": record.purpose or record.action,
        "owner_id": record.owner_id,
        "study_instance_uid": record.study_instance_uid,
        "refs": json.dumps(record.refs),
        "detail": json.dumps(dict(record.detail), ensure_ascii=False, sort_keys=True),
        "count": record.count,
        "fold_key": record.fold_key,
    }


def _as_record(row: Mapping[Any, Any]) -> AuditRecord:
    return AuditRecord(
        actor=Actor(row["actor_kind"], row["actor_id"]),
        action=row["action"],
        outcome=row["outcome"],
        owner_id=row["owner_id"],
        study_instance_uid=row["study_instance_uid"],
        refs=tuple(json.loads(row["refs"])),
        peer=row["peer"],
        purpose=row["purpose"],
        detail=json.loads(row["detail"]),
        at=row["at"],
        count=row["count"],
        fold=row["fold_key"] is not None,
    )
