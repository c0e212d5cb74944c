"""What organisations were: a row for each change, and the state on a day."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity.organisations.domain import Organisation
from identity.organisations.tables import organisation_version as version
from kernel.errors import Invalid
from kernel.scope import Actor

_DATES = ("valid_from", "valid_until")


@dataclass(frozen=True, slots=True)
class Version:
    """An organisation after one change, in force from `effective_on`."""

    change: str
    effective_on: date
    recorded_at: datetime
    actor: Actor
    organisation: Organisation


async def record(
    session: AsyncSession,
    changed: Sequence[Organisation],
    change: str,
    actor: Actor,
    effective_on: date | None = None,
) -> None:
    """Keep what `changed` are from `effective_on`, by default today.

    Raises Invalid `organisation.effective` for a day that has not come: what is planned is not so
    yet.
    """
    today = datetime.now(UTC).date()
    day = effective_on or today
    if day > today:
        raise Invalid(
            "organisation.effective", "The day {day} has not come yet.", day=day.isoformat()
        )
    common = {
        "change": change,
        "effective_on": day,
        "recorded_at": datetime.now(UTC),
        "actor_kind": actor.kind,
        "actor_id": actor.id,
    }
    rows = [{**common, "organisation_id": one.id, "body": _to_json(one)} for one in changed]
    if rows:
        await session.execute(insert(version), rows)


async def history(session: AsyncSession, organisation_id: int) -> list[Version]:
    """Every change of one organisation, oldest first."""
    wanted = (
        select(version).where(version.c.organisation_id == organisation_id).order_by(version.c.id)
    )
    return [_as_version(row._mapping) for row in await session.execute(wanted)]


async def as_of(session: AsyncSession, organisation_id: int, day: date) -> Organisation | None:
    """What the organisation was on a day, as it is known now; None before its first change."""
    wanted = (
        select(version)
        .where(version.c.organisation_id == organisation_id, version.c.effective_on <= day)
        .order_by(version.c.effective_on.desc(), version.c.id.desc())
        .limit(1)
    )
    row = (await session.execute(wanted)).first()
    return None if row is None else _as_version(row._mapping).organisation


def _to_json(one: Organisation) -> str:
    body = {name: _plain(value) for name, value in asdict(one).items()}
    return json.dumps(body, ensure_ascii=False, sort_keys=True)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


def _as_version(row: Mapping[Any, Any]) -> Version:
    body = json.loads(row["body"])
    for name in _DATES:
        body[name] = date.fromisoformat(body[name]) if body[name] else None
    return Version(
        change=row["change"],
        effective_on=row["effective_on"],
        recorded_at=row["recorded_at"],
        actor=Actor(row["actor_kind"], row["actor_id"]),
        organisation=Organisation(**body),
    )
