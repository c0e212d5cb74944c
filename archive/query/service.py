"""Finding patients, studies, series and instances.

Statements are compiled once for each combination of keys and run on plain connections; pages are
found by key, so that the last one costs no more than the first.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, func, select, tuple_

from archive.index.shown import primary, shown_instances, visible
from archive.index.tables import instance, instance_version, patient, series, study, uid_code
from archive.query.conditions import (
    KEYS,
    NOT_KEYS,
    Condition,
    conditions_for,
    text_condition,
)
from archive.query.domain import Level, Match, Page, Query
from dataset.mask import mask_dataset
from kernel.db.database import Database
from kernel.db.statement import Statement, among
from kernel.errors import Invalid
from kernel.scope import Scope

LARGEST_PAGE = 10_000
LARGEST_OFFSET = 10_000
_NO_NUMBER = 2**62  # instances and series without a number come last

_class_code = uid_code.alias("class_code")
_syntax_code = uid_code.alias("syntax_code")
_series_number = func.coalesce(series.c.series_number, _NO_NUMBER)
_instance_number = func.coalesce(instance.c.instance_number, _NO_NUMBER)

_ORDER: dict[Level, tuple[ColumnElement[Any], ...]] = {
    "PATIENT": (patient.c.patient_id, patient.c.id),
    "STUDY": (study.c.study_date, study.c.id),
    "SERIES": (study.c.id, _series_number, series.c.id),
    "IMAGE": (series.c.id, _instance_number, instance.c.id),
}
_NEWEST_FIRST = frozenset({"STUDY"})

_SERIES_OF_STUDIES = Statement(
    select(series.c.study_fk, series.c.modality, shown_instances(), series.c.unsettled)
    .join(study, study.c.id == series.c.study_fk)
    .where(among(series.c.study_fk, "ids"), visible("SERIES"))
)
_STUDIES_OF_PATIENTS = Statement(
    select(
        study.c.patient_fk,
        study.c.id,
        func.count(series.c.id),
        func.coalesce(func.sum(shown_instances()), 0),
        study.c.last_received_ms,
        study.c.sensitivity,
    )
    .join(series, series.c.study_fk == study.c.id)
    .where(among(study.c.patient_fk, "ids"), visible("SERIES"))
    .group_by(study.c.patient_fk, study.c.id, study.c.last_received_ms, study.c.sensitivity)
)


class Catalog:
    """Answers questions to the index. One per process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._statements: dict[Hashable, Statement] = {}

    @classmethod
    async def open(cls, database: Database) -> Catalog:
        """A catalog over `database`."""
        return cls(database)

    async def search(self, scope: Scope, query: Query) -> Page:
        """One page of what matches `query` within `scope`.

        Studies come newest first, patients by their ID, series and instances in their order.
        Raises `Invalid('query.…')` for a value or a page that cannot be.
        """
        _check(query)
        conditions, unsupported = self._conditions(query)
        params = {name: value for one in conditions for name, value in one.params.items()}
        params |= {"limit": query.limit + 1, "offset": query.offset}
        if query.after is not None:
            params |= _after_params(query)
        if scope.owners is not None:
            params["owners"] = sorted(scope.owners)
        statement = self._statement(query, conditions, scope)
        rows = await self._database.fetch(statement, params, scope)
        more = len(rows) > query.limit
        rows = rows[: query.limit]
        matches = await self._matches(query, rows, scope)
        after = matches[-1].key if more and matches else None
        return Page(matches, more, after, unsupported)

    def _conditions(self, query: Query) -> tuple[list[Condition], frozenset[int]]:
        found: list[Condition] = []
        unsupported: set[int] = set()
        for tag, value in sorted(query.match.items()):
            if tag in NOT_KEYS or not value.strip():
                continue
            one = conditions_for(tag, value, query.level, self._database.dialect, fuzzy=query.fuzzy)
            if one is None:
                unsupported.add(tag)
            else:
                found.append(one)
        if query.text.strip():
            found.append(text_condition(query.text))
        return found, frozenset(unsupported)

    def _statement(self, query: Query, conditions: Sequence[Condition], scope: Scope) -> Statement:
        everyone = scope.owners is None
        shape = (
            query.level,
            everyone,
            scope.is_wide,
            query.after is not None,
            tuple(one.shape for one in conditions),
        )
        found = self._statements.get(shape)
        if found is None:
            clauses = [one.clause() for one in conditions]
            clauses.append(visible(query.level))
            if not everyone:
                owned = among(_owner(query.level), "owners", indexed=not scope.is_wide)
                clauses.append(owned)
            if query.after is not None:
                clauses.append(_behind(query.level))
            order = _ORDER[query.level]
            if query.level in _NEWEST_FIRST:
                order = tuple(column.desc() for column in order)
            chosen = (
                _select(query.level, patients=_asks_patients(query))
                .where(and_(*clauses) if clauses else True)  # type: ignore[arg-type]
                .order_by(*order)
                .limit(bindparam("limit"))
                .offset(bindparam("offset"))
            )
            while len(self._statements) >= 500:
                del self._statements[next(iter(self._statements))]
            found = self._statements[shape] = Statement(chosen)
        return found

    async def _matches(
        self, query: Query, rows: Sequence[tuple[Any, ...]], scope: Scope
    ) -> list[Match]:
        ids = [row[0] for row in rows]
        if query.level == "PATIENT":
            below = await self._counts(_STUDIES_OF_PATIENTS, ids, scope)
            kinds = [",".join(filter(None, (one[4] for one in below[row]))) for row in ids]
            return _named(scope, _patients(query, rows, below), kinds)
        kinds, rows = [row[-1] for row in rows], [row[:-1] for row in rows]
        if query.level == "STUDY":
            inside = await self._counts(_SERIES_OF_STUDIES, ids, scope)
            return _named(scope, _studies(query, rows, inside), kinds)
        one_of = _series if query.level == "SERIES" else _instance
        return _named(scope, [one_of(query, row) for row in rows], kinds)

    async def _counts(
        self, statement: Statement, ids: Sequence[int], scope: Scope
    ) -> Mapping[int, list[tuple[Any, ...]]]:
        """Rows below each of `ids`."""
        below: dict[int, list[tuple[Any, ...]]] = {one: [] for one in ids}
        if ids:
            for row in await self._database.fetch(statement, {"ids": list(ids)}, scope):
                below[row[0]].append(row[1:])
        return below


def _named(scope: Scope, matches: list[Match], kinds: Sequence[str]) -> list[Match]:
    """The matches with their sensitive kinds, without names where the scope hides them."""
    shown = []
    for match, kind in zip(matches, kinds, strict=True):
        known = replace(match, sensitivity=kind) if kind else match
        if scope.hides(match.owner_id, kind):
            known = replace(known, dataset=mask_dataset(match.dataset))
        shown.append(known)
    return shown


def _check(query: Query) -> None:
    if not 0 < query.limit <= LARGEST_PAGE:
        raise Invalid(
            "query.limit",
            "a page holds 1 to {most} answers, not {n}",
            most=LARGEST_PAGE,
            n=query.limit,
        )
    if not 0 <= query.offset <= LARGEST_OFFSET:
        raise Invalid(
            "query.offset",
            "an offset is 0 to {most}, not {n}; page by key beyond",
            most=LARGEST_OFFSET,
            n=query.offset,
        )


def _owner(level: Level) -> ColumnElement[int]:
    return patient.c.owner_id if level == "PATIENT" else study.c.owner_id


def _asks_patients(query: Query) -> bool:
    """Whether something is matched that only the rows of patients have."""
    asked = [KEYS.get(tag) for tag, value in query.match.items() if value.strip()]
    return any(key is not None and key.column.table is patient for key in asked)


def _select(level: Level, *, patients: bool) -> Select[Any]:
    """What is read for each match, joined with its patient only where `patients` are asked for."""
    chosen = _columns(level)
    if patients and level != "PATIENT":
        chosen = chosen.join(patient, patient.c.id == study.c.patient_fk)
    return chosen


def _columns(level: Level) -> Select[Any]:
    if level == "PATIENT":
        return select(patient.c.id, patient.c.owner_id, patient.c.attrs, patient.c.patient_id)
    if level == "STUDY":
        return select(
            study.c.id,
            study.c.owner_id,
            study.c.attrs,
            study.c.study_date,
            study.c.last_received_ms,
            study.c.sensitivity,
        )
    columns: tuple[Any, ...] = (
        study.c.attrs,
        series.c.attrs,
        shown_instances(),
        series.c.unsettled,
        series.c.last_received_ms,
    )
    if level == "SERIES":
        numbers = (series.c.id, series.c.owner_id, study.c.id, _series_number)
        return select(*numbers, *columns, study.c.sensitivity).join(
            study, study.c.id == series.c.study_fk
        )
    return (
        select(
            instance.c.id,
            instance.c.owner_id,
            series.c.id,
            _instance_number,
            *columns,
            _class_code.c.uid,
            _syntax_code.c.uid,
            instance.c.sop_instance_uid,
            instance.c.instance_number,
            instance.c.frames,
            instance.c.rows,
            instance.c.columns,
            instance.c.bits_allocated,
            study.c.sensitivity,
        )
        .join(series, series.c.id == instance.c.series_fk)
        .join(study, study.c.id == series.c.study_fk)
        .outerjoin(instance_version, instance_version.c.id == instance.c.version_fk)
        .join(_class_code, _class_code.c.id == primary("sop_class_id"))
        .join(_syntax_code, _syntax_code.c.id == primary("transfer_syntax_id"))
    )


def _behind(level: Level) -> ColumnElement[bool]:
    columns = _ORDER[level]
    bounds = tuple_(*[bindparam(f"after_{n}", type_=c.type) for n, c in enumerate(columns)])
    row = tuple_(*columns)
    return row < bounds if level in _NEWEST_FIRST else row > bounds


def _after_params(query: Query) -> dict[str, Any]:
    try:
        bounds = json.loads(base64.urlsafe_b64decode(query.after or ""))
        expected = [
            str if n == 0 and query.level in ("PATIENT", "STUDY") else int
            for n in range(len(_ORDER[query.level]))
        ]
        known = [type(bound) for bound in bounds] == expected
    except (ValueError, TypeError):
        known = False
        bounds = []
    if not known:
        raise Invalid("query.after", "the page key is none that was given out")
    return {f"after_{n}": bound for n, bound in enumerate(bounds)}


def _key(*bounds: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(bounds).encode()).decode()


def _at(received_ms: int) -> datetime:
    return datetime.fromtimestamp(received_ms / 1000, UTC)


def _dataset(query: Query, *parts: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of an answer, in tag order, those that were asked for."""
    merged = {tag: value for part in parts for tag, value in part.items()}
    merged["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    merged["00080056"] = {"vr": "CS", "Value": ["ONLINE"]}
    if query.include is None:
        return dict(sorted(merged.items()))
    wanted = {f"{tag:08X}" for tag in query.include}
    return {tag: merged[tag] for tag in sorted(merged) if tag in wanted}


def _count(n: int) -> dict[str, Any]:
    return {"vr": "IS", "Value": [n]}


def _patients(
    query: Query, rows: Sequence[tuple[Any, ...]], below: Mapping[int, list[tuple[Any, ...]]]
) -> list[Match]:
    found = []
    for row_id, owner_id, attrs, patient_id in rows:
        studies = below[row_id]
        counts = {
            "00201200": _count(len(studies)),
            "00201202": _count(sum(one[1] for one in studies)),
            "00201204": _count(int(sum(one[2] for one in studies))),
        }
        newest = max((one[3] for one in studies), default=0)
        dataset = _dataset(query, json.loads(attrs), counts)
        found.append(Match(dataset, _key(patient_id, row_id), _at(newest), owner_id))
    return found


def _studies(
    query: Query, rows: Sequence[tuple[Any, ...]], below: Mapping[int, list[tuple[Any, ...]]]
) -> list[Match]:
    found = []
    for row_id, owner_id, attrs, date, received_ms in rows:
        inside = below[row_id]
        modalities = sorted({one[0] for one in inside if one[0]})
        counts = {
            "00080061": {"vr": "CS", "Value": modalities} if modalities else {"vr": "CS"},
            "00201206": _count(len(inside)),
            "00201208": _count(sum(one[1] for one in inside)),
        }
        dataset = _dataset(query, json.loads(attrs), counts)
        unsettled = sum(one[2] for one in inside)
        found.append(Match(dataset, _key(date, row_id), _at(received_ms), owner_id, unsettled))
    return found


def _series(query: Query, row: tuple[Any, ...]) -> Match:
    row_id, owner_id, study_id, number, study_attrs, attrs, instances, unsettled, ms = row
    counts = {"00201209": _count(instances)}
    dataset = _dataset(query, json.loads(study_attrs), json.loads(attrs), counts)
    return Match(dataset, _key(study_id, number, row_id), _at(ms), owner_id, unsettled)


def _instance(query: Query, row: tuple[Any, ...]) -> Match:
    (
        row_id,
        owner_id,
        series_id,
        order,
        study_attrs,
        attrs,
        _,
        _,
        received_ms,
        class_uid,
        syntax_uid,
        uid,
        number,
        frames,
        rows,
        columns,
        bits,
    ) = row
    own: dict[str, Any] = {
        "00080016": {"vr": "UI", "Value": [class_uid]},
        "00080018": {"vr": "UI", "Value": [uid]},
        "00083002": {"vr": "UI", "Value": [syntax_uid]},
    }
    for tag, vr, value in (
        ("00200013", "IS", number),
        ("00280008", "IS", frames if frames > 1 else None),
        ("00280010", "US", rows),
        ("00280011", "US", columns),
        ("00280100", "US", bits),
    ):
        if value is not None:
            own[tag] = {"vr": vr, "Value": [value]}
    dataset = _dataset(query, json.loads(study_attrs), json.loads(attrs), own)
    return Match(dataset, _key(series_id, order, row_id), _at(received_ms), owner_id)
