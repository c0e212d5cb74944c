"""Counting studies and instances within a scope, in three queries whatever their number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from sqlalchemy import bindparam, func, select

from archive.index.shown import visible
from archive.index.tables import series, study
from kernel.db.database import Database
from kernel.db.statement import Statement, among
from kernel.scope import Scope

DAYS = 30

_DAYS = (
    select(study.c.study_date, study.c.owner_id, func.count())
    .where(study.c.study_date >= bindparam("first"), study.c.study_date <= bindparam("last"))
    .where(visible("STUDY"))
    .group_by(study.c.study_date, study.c.owner_id)
)
_MODALITIES = (
    select(
        series.c.modality,
        study.c.study_date == bindparam("last"),
        func.count(study.c.id.distinct()),
        func.sum(series.c.instances),
    )
    .join(study, study.c.id == series.c.study_fk)
    .where(study.c.study_date >= bindparam("first"), study.c.study_date <= bindparam("last"))
    .where(visible("SERIES"))
    .group_by(series.c.modality, study.c.study_date == bindparam("last"))
)
_ALL = select(func.count(), func.max(study.c.last_received_ms)).where(visible("STUDY"))

# (statement for some owners, statement for every owner)
_STATEMENTS = tuple(
    (Statement(one.where(among(study.c.owner_id, "owners"))), Statement(one))
    for one in (_DAYS, _MODALITIES, _ALL)
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What there is: studies count by their date, of the last `DAYS` days and of today.

    `by_owner` counts the studies of those days for each owner, `by_modality` too (a study of two
    modalities counts for both); `last_received_ms` is 0 where nothing ever came.
    """

    studies: int
    last_received_ms: int
    today: int
    instances_today: int
    by_day: Mapping[date, int]
    by_owner: Mapping[int, int]
    by_modality: Mapping[str, int]

    @property
    def in_period(self) -> int:
        """Studies of the whole period."""
        return sum(self.by_day.values())


async def figures(database: Database, scope: Scope, today: date) -> Figures:
    """The figures of what `scope` covers; `today` is the day where the institutions are."""
    first = today - timedelta(days=DAYS - 1)
    params = {"first": f"{first:%Y%m%d}", "last": f"{today:%Y%m%d}"}
    owned = {} if scope.owners is None else {"owners": sorted(scope.owners)}
    some, every = ([pair[i] for pair in _STATEMENTS] for i in (0, 1))
    days, modalities, totals = some if owned else every
    by_day: Counter[str] = Counter()
    by_owner: Counter[int] = Counter()
    for day, owner_id, count in await database.fetch(days, params | owned, scope):
        by_day[day] += count
        by_owner[owner_id] += count
    by_modality: Counter[str] = Counter()
    instances_today = 0
    for name, is_today, count, held in await database.fetch(modalities, params | owned, scope):
        by_modality[name] += count
        instances_today += int(held) if is_today else 0
    ((studies, received_ms),) = await database.fetch(totals, owned, scope)
    return Figures(
        studies=studies,
        last_received_ms=received_ms or 0,
        today=by_day[params["last"]],
        instances_today=instances_today,
        by_day={
            day: by_day[f"{day:%Y%m%d}"] for day in (first + timedelta(days=n) for n in range(DAYS))
        },
        by_owner=dict(by_owner),
        by_modality=dict(by_modality.most_common()),
    )
