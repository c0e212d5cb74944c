"""The SQL of reading back, compiled once."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, and_, bindparam, select, true

from archive.index.shown import primary, visible
from archive.index.tables import (
    instance,
    instance_version,
    pack,
    pack_copy,
    patient,
    series,
    study,
    uid_code,
)
from kernel.db.statement import Statement, among
from kernel.scope import Scope

_class_code = uid_code.alias("class_code")
_syntax_code = uid_code.alias("syntax_code")

INSTANCE_FIELDS = (
    instance.c.id,
    instance.c.owner_id,
    study.c.study_instance_uid,
    series.c.series_instance_uid,
    instance.c.sop_instance_uid,
    _class_code.c.uid,
    _syntax_code.c.uid,
    instance.c.instance_number,
    instance.c.frames,
    instance.c.rows,
    instance.c.columns,
    primary("pack_id"),
    primary("byte_offset"),
    primary("byte_length"),
    instance.c.version_fk,
    study.c.overlay_version,
    study.c.corrected,
    study.c.sensitivity,
)


def _instances() -> Select[Any]:
    return (
        select(*INSTANCE_FIELDS)
        .join(series, series.c.id == instance.c.series_fk)
        .join(study, study.c.id == series.c.study_fk)
        .outerjoin(instance_version, instance_version.c.id == instance.c.version_fk)
        .join(_class_code, _class_code.c.id == primary("sop_class_id"))
        .join(_syntax_code, _syntax_code.c.id == primary("transfer_syntax_id"))
        .where(visible("IMAGE"))
    )


# How the owners of a scope bound a statement: not at all, by an index, by a hash of many.
Bound = Literal["everyone", "few", "many"]


def bound_of(scope: Scope) -> Bound:
    """The form of the statements for a scope."""
    if scope.owners is None:
        return "everyone"
    return "many" if scope.is_wide else "few"


def _owned(column: ColumnElement[int], bound: Bound) -> ColumnElement[bool]:
    if bound == "everyone":
        return true()
    return among(column, "owners", indexed=bound == "few")


def _ordered(chosen: Select[Any]) -> Select[Any]:
    return chosen.order_by(
        study.c.id,
        series.c.series_number,
        series.c.id,
        instance.c.instance_number,
        instance.c.sop_instance_uid,
    )


def by_study(bound: Bound) -> Statement:
    """All instances of a study."""
    return Statement(
        _ordered(
            _instances().where(
                study.c.study_instance_uid == bindparam("study"),
                _owned(study.c.owner_id, bound),
            )
        )
    )


def by_series(bound: Bound) -> Statement:
    """All instances of a series in its study."""
    return Statement(
        _ordered(
            _instances().where(
                study.c.study_instance_uid == bindparam("study"),
                series.c.series_instance_uid == bindparam("series"),
                _owned(study.c.owner_id, bound),
            )
        )
    )


def by_instance(bound: Bound) -> Statement:
    """One instance in its series and study."""
    return Statement(
        _instances().where(
            instance.c.sop_instance_uid == bindparam("instance"),
            series.c.series_instance_uid == bindparam("series"),
            study.c.study_instance_uid == bindparam("study"),
            _owned(instance.c.owner_id, bound),
        )
    )


def by_sop_uid(bound: Bound) -> Statement:
    """The instances of one SOP Instance UID, one per owner."""
    return Statement(
        _instances().where(
            instance.c.sop_instance_uid == bindparam("instance"),
            # The only index of so many rows begins with the owner.
            _owned(instance.c.owner_id, "few" if bound == "many" else bound),
        )
    )


def by_series_uid(bound: Bound) -> Statement:
    """All instances of one Series Instance UID."""
    return Statement(
        _ordered(
            _instances().where(
                series.c.series_instance_uid == bindparam("series"),
                _owned(series.c.owner_id, bound),
            )
        )
    )


def by_patient(bound: Bound) -> Statement:
    """All instances of one Patient ID."""
    return Statement(
        _ordered(
            _instances()
            .join(patient, patient.c.id == study.c.patient_fk)
            .where(
                patient.c.patient_id == bindparam("patient_id"),
                _owned(patient.c.owner_id, bound),
            )
        )
    )


PLACE = Statement(
    select(pack_copy.c.store, pack_copy.c.key, pack_copy.c.node_id)
    .where(pack_copy.c.pack_id == bindparam("pack_id"), pack_copy.c.state == "good")
    .order_by(pack_copy.c.store)
)
PLACE_NOW = Statement(
    select(primary("pack_id"), primary("byte_offset"), primary("byte_length"))
    .select_from(instance)
    .outerjoin(instance_version, instance_version.c.id == instance.c.version_fk)
    .where(instance.c.id == bindparam("id"))
)


def series_state(bound: Bound) -> Statement:
    """What says whether the metadata object of a series is complete."""
    return Statement(
        select(
            series.c.id,
            series.c.metadata_pack_id,
            series.c.unsettled,
            series.c.pack_version,
            study.c.overlay_version,
            series.c.last_received_ms,
            pack.c.bytes,
            study.c.corrected,
            study.c.rejected + study.c.chosen,
            study.c.owner_id,
            study.c.sensitivity,
        )
        .join(study, study.c.id == series.c.study_fk)
        .outerjoin(pack, and_(pack.c.id == series.c.metadata_pack_id, pack.c.state == "live"))
        .where(
            study.c.study_instance_uid == bindparam("study"),
            series.c.series_instance_uid == bindparam("series"),
            _owned(study.c.owner_id, bound),
            visible("SERIES"),
        )
    )
