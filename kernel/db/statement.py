"""Statements that SQLAlchemy Core compiles once and hot paths run on the plain driver.

Values travel as the driver knows them: integers, floats, text, bytes, None, and lists of integers
through `among`. Results come back in the same plain form.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Dialect, Integer, Text, bindparam
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.dialects.sqlite.pysqlite import dialect as pysqlite_dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement, ColumnElement
from sqlalchemy.sql.expression import Executable
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType, TypeDecorator

DialectName = Literal["sqlite", "postgresql"]
Args = Sequence[Any] | Mapping[str, Any]


class Statement:
    """A Core statement with its SQL and argument order for each back end, compiled at first use."""

    def __init__(self, core: Executable) -> None:
        self.core = core
        self._compiled: dict[str, _Compiled] = {}

    def sql(self, dialect: DialectName) -> str:
        """The SQL text: `:name` placeholders for sqlite3, `$1` for asyncpg."""
        return self._for(dialect).text

    def args(self, dialect: DialectName, params: Mapping[str, Any]) -> Args:
        """The arguments in the driver's form: a dict for sqlite3, a list for asyncpg.

        Raises KeyError when a parameter without a value of its own is missing.
        """
        compiled = self._for(dialect)
        fixed = compiled.fixed
        values = []
        for name, convert in compiled.slots:
            value = params[name] if name in params else fixed[name]
            values.append(value if convert is None else convert(value))
        if dialect == "postgresql":
            return values
        return dict(zip(compiled.names, values, strict=True))

    def _for(self, dialect: DialectName) -> "_Compiled":
        found = self._compiled.get(dialect)
        if found is None:
            found = self._compiled[dialect] = _compile(self.core, dialect)
        return found


def among(
    column: ColumnElement[Any], parameter: str, *, indexed: bool = True
) -> ColumnElement[bool]:
    """`column` is one of the integers of the list bound to `parameter`; compiled once.

    Becomes `= ANY($1)` on PostgreSQL and `IN (SELECT value FROM json_each(:p))` on SQLite, each of
    which may try an index once for each integer. For long lists say `indexed=False`: then rows are
    found otherwise, and each is looked up in a hash of the list.
    """
    listed = bindparam(parameter, type_=_IntegerList())
    return _Among(column, listed) if indexed else _HashedAmong(column, listed)


@dataclass(frozen=True, slots=True)
class _Compiled:
    text: str
    names: tuple[str, ...]
    slots: tuple[tuple[str, Callable[[Any], Any] | None], ...]
    fixed: Mapping[str, Any]


class _IntegerList(TypeDecorator[Sequence[int]]):
    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        wanted: Any = ARRAY(Integer) if dialect.name == "postgresql" else Text()
        return dialect.type_descriptor(wanted)

    def process_bind_param(self, value: Sequence[int] | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        return list(value) if dialect.name == "postgresql" else json.dumps(list(value))


class _Among(FunctionElement[Any]):
    name = "among"
    inherit_cache = True
    type = NullType()  # Boolean would become "… = 1" on SQLite and hide the index


class _HashedAmong(FunctionElement[Any]):
    name = "hashed_among"
    inherit_cache = True
    type = NullType()


@compiles(_HashedAmong, "postgresql")
def _hashed_postgresql(element: _HashedAmong, compiler: SQLCompiler, **options: Any) -> str:
    column, listed = _sides(element, compiler, options)
    # IS TRUE keeps it from becoming a join, which would lose the order of an index.
    return f"({column} IN (SELECT unnest({listed}))) IS TRUE"


@compiles(_HashedAmong)
def _hashed_other(element: _HashedAmong, compiler: SQLCompiler, **options: Any) -> str:
    column, listed = _sides(element, compiler, options)
    return f"+{column} IN (SELECT value FROM json_each({listed}))"  # noqa: S608


@compiles(_Among, "postgresql")
def _among_postgresql(element: _Among, compiler: SQLCompiler, **options: Any) -> str:
    column, listed = _sides(element, compiler, options)
    return f"{column} = ANY ({listed})"


@compiles(_Among)
def _among_other(element: _Among, compiler: SQLCompiler, **options: Any) -> str:
    column, listed = _sides(element, compiler, options)
    return f"{column} IN (SELECT value FROM json_each({listed}))"  # noqa: S608


def _sides(
    element: FunctionElement[Any], compiler: SQLCompiler, options: dict[str, Any]
) -> list[str]:
    sides: Sequence[ClauseElement] = list(element.clauses)
    return [compiler.process(one, **options) for one in sides]


def _compile(core: Executable, name: DialectName) -> _Compiled:
    dialect: Dialect = (
        asyncpg_dialect()  # type: ignore[no-untyped-call]
        if name == "postgresql"
        else pysqlite_dialect(paramstyle="named")
    )
    compiled = core.compile(dialect=dialect)  # type: ignore[attr-defined]
    if compiled.post_compile_params:
        raise ValueError("a list parameter needs `among`: this statement cannot be compiled once")
    names = tuple(dict.fromkeys(compiled.positiontup or compiled.bind_names.values()))
    binds = {key: compiled.binds[key] for key in names}
    return _Compiled(
        text=str(compiled),
        names=names,
        slots=tuple(
            (key, bind.type.dialect_impl(dialect).bind_processor(dialect))
            for key, bind in binds.items()
        ),
        fixed={key: bind.effective_value for key, bind in binds.items() if not bind.required},
    )
