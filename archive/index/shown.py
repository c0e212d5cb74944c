"""What decisions let be seen, as pieces of SQL: rejections hide, a choice shows another version."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, exists, func, or_, select

from archive.index.tables import instance, instance_version, patient, series, study
from kernel.errors import Denied

Entity = Literal["PATIENT", "STUDY", "SERIES", "IMAGE"]


def visible(level: Entity) -> ColumnElement[bool]:
    """Whether no rejection hides an entity, nor all that is below it.

    In nearly every study nothing is rejected, which one comparison tells.
    """
    if level == "PATIENT":
        return exists().where(study.c.patient_fk == patient.c.id, visible("STUDY"))
    if level == "STUDY":
        below = exists().where(series.c.study_fk == study.c.id, _shown_series())
        return or_(study.c.rejected == 0, and_(study.c.rejected == 1, below))
    shown = _shown_series()
    if level == "IMAGE":
        shown = and_(series.c.rejected == 0, instance.c.rejected == 0)
    return or_(study.c.rejected == 0, and_(study.c.rejected == 1, shown))


def shown_instances() -> ColumnElement[int]:
    """How many instances of a series no rejection hides."""
    hidden = instance.alias("hidden_instance")
    count = (
        select(func.count())
        .where(hidden.c.series_fk == series.c.id, hidden.c.rejected == 1)
        .correlate(series)
        .scalar_subquery()
    )
    return series.c.instances - count


def primary(column: str) -> ColumnElement[Any]:
    """A column of the chosen version of an instance, else of the first one.

    `instance_version` is joined by `instance.version_fk`.
    """
    return func.coalesce(instance_version.c[column], instance.c[column])


def masked() -> Denied:
    """The refusal of what would name a person to who may not know."""
    return Denied("study.masked", "This would show whose study it is, which you may not see.")


def _shown_series() -> ColumnElement[bool]:
    return and_(series.c.rejected == 0, shown_instances() > 0)
