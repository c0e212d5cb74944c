"""Matching of one attribute (PS3.4 C.2.2.2) as a piece of SQL.

Each condition has a `shape`, equal for conditions whose SQL text is equal, so that a statement is
compiled once for each combination of shapes; the values travel as parameters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    and_,
    bindparam,
    exists,
    false,
    or_,
    select,
    true,
    union_all,
)

from archive.index.shown import visible
from archive.index.tables import (
    instance,
    name_gram,
    patient,
    person_name,
    series,
    study,
    uid_code,
)
from archive.query.domain import LEVELS, Level
from dataset.names import KeyTest, query_keys
from kernel.db.statement import DialectName
from kernel.errors import Invalid

Kind = Literal["uid", "text", "date", "time", "number", "name"]
Params = dict[str, Any]
Clause = ColumnElement[bool]

# Sorts after every text in the C collation and in SQLite's BINARY: its UTF-8 is the highest.
LAST = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Key:
    """An attribute that can be matched: where it lives and how it is compared."""

    tag: int
    level: Level
    kind: Kind
    column: Column[Any]


_sop_class = uid_code.alias("matched_class")
_box_study, _box_patient = study.alias("box_study"), patient.alias("box_patient")

KEYS: dict[int, Key] = {
    key.tag: key
    for key in (
        Key(0x00100010, "PATIENT", "name", study.c.name_id),
        Key(0x00100020, "PATIENT", "text", patient.c.patient_id),
        Key(0x00100021, "PATIENT", "text", patient.c.issuer),
        Key(0x00100030, "PATIENT", "date", patient.c.birth_date),
        Key(0x00100040, "PATIENT", "text", patient.c.sex),
        Key(0x0020000D, "STUDY", "uid", study.c.study_instance_uid),
        Key(0x00080020, "STUDY", "date", study.c.study_date),
        Key(0x00080030, "STUDY", "time", study.c.study_time),
        Key(0x00080050, "STUDY", "text", study.c.accession_number),
        Key(0x00080090, "STUDY", "name", study.c.referring_name_id),
        Key(0x00081030, "STUDY", "text", study.c.description),
        Key(0x00200010, "STUDY", "text", study.c.study_id),
        Key(0x0020000E, "SERIES", "uid", series.c.series_instance_uid),
        Key(0x00080060, "SERIES", "text", series.c.modality),
        Key(0x0008103E, "SERIES", "text", series.c.description),
        Key(0x00180015, "SERIES", "text", series.c.body_part),
        Key(0x00200011, "SERIES", "number", series.c.series_number),
        Key(0x00400244, "SERIES", "date", series.c.pps_date),
        Key(0x00400245, "SERIES", "time", series.c.pps_time),
        Key(0x00080018, "IMAGE", "uid", instance.c.sop_instance_uid),
        Key(0x00200013, "IMAGE", "number", instance.c.instance_number),
    )
}
SOP_CLASS_UID = 0x00080016
MODALITIES_IN_STUDY = 0x00080061
SOP_CLASSES_IN_STUDY = 0x00080062
# Not a matter of matching: the question itself, and what every answer tells.
NOT_KEYS = frozenset({0x00080005, 0x00080052, 0x00080054, 0x00080056, 0x00080201})


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a WHERE clause."""

    shape: Hashable
    clause: Callable[[], Clause]
    params: Params


def conditions_for(
    tag: int, value: str, level: Level, dialect: DialectName, *, fuzzy: bool
) -> Condition | None:
    """The condition for one key of a question; None where the index does not match on `tag`.

    Raises `Invalid('query.…')` for a value that is none of its kind.
    """
    values = [part for part in value.split("\\") if part]
    prefix = f"t{tag:08x}"
    if tag == MODALITIES_IN_STUDY:
        return _modalities(tag, values, prefix, dialect)
    if tag in (SOP_CLASSES_IN_STUDY, SOP_CLASS_UID):
        return _sop_classes(tag, values, prefix, level)
    key = KEYS.get(tag)
    if key is None:
        return None
    if key.kind == "name":
        column = patient.c.name_id if level == "PATIENT" else key.column
        return _name(tag, column, values[0] if values else "", prefix, fuzzy=fuzzy)
    found = _COMPARERS[key.kind](tag, key.column, values, prefix, dialect)
    if LEVELS.index(key.level) <= LEVELS.index(level):
        return found
    return _below(key, found, level)


def text_condition(text: str) -> Condition:
    """What a person typed into the search box of the study list."""
    folded = text.strip()
    names = _name(0, _box_study.c.name_id, folded, "box", fuzzy=True)
    params = {**names.params, "box_id": folded, "box_id_end": folded + LAST}

    def clause() -> Clause:
        low: BindParameter[str] = bindparam("box_id")
        high: BindParameter[str] = bindparam("box_id_end")
        found = select(_box_study.c.id)
        number = _box_study.c.accession_number
        # Each way has its index; with OR between them none would be used.
        ways = union_all(
            found.where(names.clause()),
            found.join(_box_patient, _box_patient.c.id == _box_study.c.patient_fk).where(
                _box_patient.c.patient_id >= low, _box_patient.c.patient_id < high
            ),
            found.where(number >= low, number < high),
        )
        return study.c.id.in_(ways)

    return Condition(("box", names.shape), clause, params)


def _below(key: Key, found: Condition, level: Level) -> Condition | None:
    """A relational key: true where any entity below matches (PS3.4 C.4.1.2.2.1)."""
    if level == "STUDY" and key.level == "SERIES":
        return Condition(
            ("below", found.shape),
            lambda: exists().where(
                series.c.study_fk == study.c.id, visible("SERIES"), found.clause()
            ),
            found.params,
        )
    if level in ("STUDY", "SERIES") and key.level == "IMAGE":
        above = series.c.study_fk == study.c.id if level == "STUDY" else true()
        if level == "SERIES":
            return Condition(
                ("below", found.shape),
                lambda: exists().where(
                    instance.c.series_fk == series.c.id, visible("IMAGE"), found.clause()
                ),
                found.params,
            )
        return Condition(
            ("below", found.shape),
            lambda: exists(select(1).select_from(instance.join(series))).where(
                above, visible("IMAGE"), found.clause()
            ),
            found.params,
        )
    return None


def _modalities(tag: int, values: list[str], prefix: str, dialect: DialectName) -> Condition:
    found = _text(tag, series.c.modality, values, prefix, dialect)
    below = series.c.study_fk == study.c.id
    # IS TRUE keeps it from becoming a join over all series: a page asks for some studies only.
    return Condition(
        found.shape,
        lambda: exists().where(below, visible("SERIES"), found.clause()).is_(true()),
        found.params,
    )


def _sop_classes(tag: int, values: list[str], prefix: str, level: Level) -> Condition | None:
    found = _uid(tag, _sop_class.c.uid, values, prefix, "sqlite")

    def inside() -> Any:
        joined = instance.join(_sop_class, _sop_class.c.id == instance.c.sop_class_id)
        if level == "STUDY":
            joined = joined.join(series, series.c.id == instance.c.series_fk)
        return exists(select(1).select_from(joined))

    def clause() -> Clause:
        if level == "IMAGE":
            chosen = select(_sop_class.c.id).where(found.clause())
            return instance.c.sop_class_id.in_(chosen)
        if level == "SERIES":
            return inside().where(  # type: ignore[no-any-return]
                instance.c.series_fk == series.c.id, visible("IMAGE"), found.clause()
            )
        return inside().where(  # type: ignore[no-any-return]
            series.c.study_fk == study.c.id, visible("IMAGE"), found.clause()
        )

    return None if level == "PATIENT" else Condition((found.shape, level), clause, found.params)


def _uid(
    tag: int, column: ColumnElement[Any], values: list[str], prefix: str, dialect: DialectName
) -> Condition:
    """List of UID matching (PS3.4 C.2.2.2.2)."""
    del dialect
    names = [f"{prefix}_{n}" for n in range(len(values))]
    params = {name: value.strip(" \0") for name, value in zip(names, values, strict=True)}
    return Condition(
        (tag, "in", len(values)),
        lambda: or_(false(), *[column == bindparam(name) for name in names]),
        params,
    )


def _text(
    tag: int, column: ColumnElement[Any], values: list[str], prefix: str, dialect: DialectName
) -> Condition:
    """Single value and wildcard matching, case sensitive (C.2.2.2.1, C.2.2.2.4)."""
    parts = [
        _one_text(column, value.strip(), f"{prefix}_{n}", dialect) for n, value in enumerate(values)
    ]
    params = {name: value for part in parts for name, value in part.params.items()}
    return Condition(
        (tag, *[part.shape for part in parts]),
        lambda: or_(false(), *[part.clause() for part in parts]),
        params,
    )


def _one_text(column: ColumnElement[Any], value: str, name: str, dialect: DialectName) -> Condition:
    stem = value.rstrip("*")
    if not re.search(r"[*?]", value):
        return Condition("=", lambda: column == bindparam(name), {name: value})
    if not stem:
        return Condition("any", true, {})
    if not re.search(r"[*?]", stem):
        return Condition(
            "prefix",
            lambda: and_(column >= bindparam(name), column < bindparam(name + "_end")),
            {name: stem, name + "_end": stem + LAST},
        )
    if dialect == "sqlite":
        pattern = re.sub(r"\[", "[[]", value)
        return Condition(
            "glob", lambda: column.op("GLOB", is_comparison=True)(bindparam(name)), {name: pattern}
        )
    pattern = re.sub(r"([\\%_])", r"\\\1", value).replace("*", "%").replace("?", "_")
    return Condition("glob", lambda: column.like(bindparam(name), escape="\\"), {name: pattern})


_DATE = re.compile(r"\d{4}(?:\d{2}(?:\d{2})?)?\Z")
_TIME = re.compile(r"\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?\Z")


def _date(
    tag: int, column: ColumnElement[Any], values: list[str], prefix: str, dialect: DialectName
) -> Condition:
    """Single value and range matching of dates (C.2.2.2.5)."""
    return _range(tag, column, values, prefix, _DATE, ".", "a date is YYYYMMDD or a range of two")


def _time(
    tag: int, column: ColumnElement[Any], values: list[str], prefix: str, dialect: DialectName
) -> Condition:
    """Single value and range matching of times; a short time means all that begin with it."""
    return _range(tag, column, values, prefix, _TIME, ":", "a time is HHMMSS or a range of two")


def _range(
    tag: int,
    column: ColumnElement[Any],
    values: list[str],
    prefix: str,
    form: re.Pattern[str],
    old_separator: str,
    expected: str,
) -> Condition:
    text = (values[0] if values else "").replace(old_separator, "").replace(" ", "")
    first, dash, last = text.partition("-")
    if not dash:
        last = first
    for bound in (first, last):
        if bound and not form.match(bound):
            raise Invalid(
                "query.range",
                "({tag}) was asked for as “{value}”: {expected}",
                tag=f"{tag >> 16:04X},{tag & 0xFFFF:04X}",
                value=text[:40],
                expected=expected,
            )
    low, high = f"{prefix}_low", f"{prefix}_high"
    return Condition(
        (tag, "range"),
        lambda: and_(column >= bindparam(low), column <= bindparam(high)),
        {low: first or "0", high: (last or "") + LAST},
    )


def _number(
    tag: int, column: ColumnElement[Any], values: list[str], prefix: str, dialect: DialectName
) -> Condition:
    try:
        numbers = [int(value) for value in values]
    except ValueError as error:
        raise Invalid(
            "query.number",
            "({tag}) was asked for as “{value}”: a whole number was expected",
            tag=f"{tag >> 16:04X},{tag & 0xFFFF:04X}",
            value="\\".join(values)[:40],
        ) from error
    names = [f"{prefix}_{n}" for n in range(len(numbers))]
    return Condition(
        (tag, "number", len(numbers)),
        lambda: or_(false(), *[column == bindparam(name) for name in names]),
        {
            name: max(-(2**63), min(number, 2**63 - 1))
            for name, number in zip(names, numbers, strict=True)
        },
    )


_COMPARERS: dict[str, Callable[..., Condition]] = {
    "uid": _uid,
    "text": _text,
    "date": _date,
    "time": _time,
    "number": _number,
}


def _name(
    tag: int, column: ColumnElement[Any], value: str, prefix: str, *, fuzzy: bool
) -> Condition:
    """Person name matching over the dictionary of distinct names (C.2.2.2.1: not case sensitive).

    Ideographic, Latin, pinyin and initials forms are all found; two-character pieces narrow an
    infix search before any name is looked at.
    """
    query = query_keys(value, exact=not fuzzy)
    if query.universal:
        return Condition((tag, "any"), true, {})
    params: Params = {}
    for n, test in enumerate(query.any_of):
        params |= _test_params(test, f"{prefix}_{n}")
    params |= {f"{prefix}_g{n}": gram for n, gram in enumerate(query.grams)}

    def clause() -> Clause:
        tests = [_test_clause(test, f"{prefix}_{n}") for n, test in enumerate(query.any_of)]
        pieces = [
            person_name.c.id.in_(
                select(name_gram.c.name_id).where(name_gram.c.gram == bindparam(f"{prefix}_g{n}"))
            )
            for n in range(len(query.grams))
        ]
        chosen = select(person_name.c.id).where(or_(false(), *tests), *pieces)
        return column.in_(chosen)

    shape = tuple((test.key, test.op, test.hanzi_only) for test in query.any_of)
    return Condition((tag, str(column), shape, len(query.grams)), clause, params)


def _test_params(test: KeyTest, name: str) -> Params:
    if test.op == "equals":
        return {name: test.value}
    if test.op == "prefix":
        return {name: test.value, name + "_end": test.value + LAST}
    return {name: test.like()}


def _test_clause(test: KeyTest, name: str) -> Clause:
    column = person_name.c[test.key]
    if test.op == "equals":
        found: Clause = column == bindparam(name)
    elif test.op == "prefix":
        found = and_(column >= bindparam(name), column < bindparam(name + "_end"))
    else:
        found = column.like(bindparam(name), escape="\\")
    return and_(found, person_name.c.hanzi != "") if test.hanzi_only else found
