"""Opening the database, sessions within a scope, and hot reads."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import asyncpg
from sqlalchemy import event, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from kernel.db.ringer import DatagramRinger, NotifyRinger, Ringer, bell_folder
from kernel.db.statement import DialectName, Statement
from kernel.errors import Unavailable
from kernel.scope import Scope
from kernel.settings import Settings

Role = Literal["owner", "app", "svc"]

BUSY_TIMEOUT_MS = 10_000
AFTER_COMMIT = "after_commit"

# Row-level security reads `app.owners`; a session that only reads cannot write by mistake.
_ENTER = text(
    "SELECT set_config('app.owners', :owners, true),"
    " set_config('transaction_read_only', :read_only, true)"
)
_OWNERS_SQL = "SELECT set_config('app.owners', $1, true)"


class Database:
    """One opened database: SQLite in the data folder or PostgreSQL."""

    def __init__(self, settings: Settings, role: Role, engine: AsyncEngine, ringer: Ringer) -> None:
        self.settings = settings
        self.role = role
        self.engine = engine
        self.ringer = ringer
        self.dialect: DialectName = "sqlite" if is_sqlite(settings) else "postgresql"
        self._pool: asyncpg.Pool | None = None
        self._readers: _Readers | None = None

    @classmethod
    async def open(cls, settings: Settings, role: Role = "svc") -> "Database":
        """Connect; on PostgreSQL as database role `yy_<role>`.

        Raises Unavailable `database.*` when the server does not answer or was never set up.
        """
        if is_sqlite(settings):
            ringer = DatagramRinger(bell_folder(settings))
            database = cls(settings, role, _sqlite_engine(settings), ringer)
            database._readers = _Readers(sqlite_file(settings), settings.database.pool)
            return database
        pool = await _open_pool(settings, role)
        database = cls(settings, role, _postgresql_engine(settings, role), NotifyRinger(pool))
        database._pool = pool
        return database

    async def close(self) -> None:
        """Give every connection back."""
        await self.ringer.close()
        await self.engine.dispose()
        if self._readers is not None:
            await asyncio.to_thread(self._readers.close)
        if self._pool is not None:
            await self._pool.close()

    @property
    def pg_pool(self) -> "asyncpg.Pool":
        """Plain asyncpg connections of the same role; PostgreSQL only."""
        if self._pool is None:
            raise RuntimeError("there is no PostgreSQL pool on SQLite")
        return self._pool

    @asynccontextmanager
    async def session(self, scope: Scope, *, write: bool = False) -> AsyncIterator[AsyncSession]:
        """One transaction within `scope`, committed at the end and rolled back on an error.

        On SQLite a writing session is BEGIN IMMEDIATE, on both back ends another one cannot write.
        On PostgreSQL `app.owners` is set for row-level security. Raises Unavailable
        `database.busy` when the lock does not come free.
        """
        engine = self.engine.execution_options(yunying_write=write)
        try:
            async with AsyncSession(engine, expire_on_commit=False) as session, session.begin():
                session.info["ring"] = self.ringer.ring
                if self.dialect == "postgresql":
                    await _enter(session, scope, write=write)
                yield session
        except OperationalError as error:
            if "database is locked" not in str(error.orig):
                raise
            raise Unavailable("database.busy", "The database is busy.") from error
        for call in session.info.get(AFTER_COMMIT, ()):
            call()

    async def fetch(
        self, statement: Statement, params: Mapping[str, Any], scope: Scope | None = None
    ) -> list[tuple[Any, ...]]:
        """Rows of a hot read on a pooled plain connection, in the driver's own types.

        `scope` sets `app.owners` for role app; the statement itself must filter by owner as well.
        """
        sql = statement.sql(self.dialect)
        args: Any = statement.args(self.dialect, params)
        if self._readers is not None:
            return await self._readers.fetch(sql, args)
        if scope is None or self.role != "app":
            return [tuple(row) for row in await self.pg_pool.fetch(sql, *args)]
        async with self.pg_pool.acquire() as connection, connection.transaction(readonly=True):
            await self.enter(connection, scope.owners or ())
            return [tuple(row) for row in await connection.fetch(sql, *args)]

    async def enter(self, connection: "asyncpg.Connection", owners: Iterable[int]) -> None:
        """Open the rows of `owners` to the transaction of a connection from `pg_pool`.

        Only role app needs it: without it that role sees and writes no row of anybody.
        """
        if self.role == "app":
            await connection.execute(_OWNERS_SQL, _array(owners))

    def connect_sqlite(self) -> sqlite3.Connection:
        """A plain SQLite connection in autocommit mode for a thread that writes by itself."""
        return connect_sqlite(sqlite_file(self.settings))


def is_sqlite(settings: Settings) -> bool:
    """Whether the settings mean the SQLite file in the data folder."""
    return not settings.database.url


def sqlite_file(settings: Settings) -> Path:
    """Where the SQLite database is."""
    return settings.data / "index.sqlite"


def connect_sqlite(file: Path) -> sqlite3.Connection:
    """Open the file: WAL, synchronous=FULL, foreign keys, 10 s patience, no implicit BEGIN."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    connection = sqlite3.connect(
        file, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None, check_same_thread=False
    )
    for pragma in _PRAGMAS:
        connection.execute(pragma)
    return connection


def owners_literal(scope: Scope) -> str:
    """The scope's owners as a PostgreSQL array literal; every owner is left to the role svc."""
    return _array(scope.owners or ())


def _array(owners: Iterable[int]) -> str:
    return "{" + ",".join(map(str, sorted(owners))) + "}"


def after_commit(session: AsyncSession, call: Callable[[], None]) -> None:
    """Run `call` once the session's transaction has committed; the same call only once."""
    calls: list[Callable[[], None]] = session.info.setdefault(AFTER_COMMIT, [])
    if call not in calls:
        calls.append(call)


def server_settings(role: Role) -> dict[str, str]:
    """What each PostgreSQL connection starts with; JIT only costs on short statements.

    For people each statement is planned with its own owners, since what suits a prefecture does not
    suit a clinic, and for disks on which one page costs what another one does.
    """
    started = {"role": f"yy_{role}", "jit": "off", "application_name": "yunying"}
    planning = {"plan_cache_mode": "force_custom_plan", "random_page_cost": "1.1"}
    return started | (planning if role == "app" else {})


_PRAGMAS = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
)


class _Readers:
    """Threads with one read-only SQLite connection each."""

    def __init__(self, file: Path, count: int) -> None:
        self._file = file
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="sqlite-read")
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []

    async def fetch(self, sql: str, args: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._read, sql, args)

    def _read(self, sql: str, args: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = connect_sqlite(self._file)
            connection.execute("PRAGMA query_only = ON")
            self._local.connection = connection
            self._opened.append(connection)
        return connection.execute(sql, args).fetchall()

    def close(self) -> None:
        self._threads.shutdown(wait=True)
        for connection in self._opened:
            connection.close()


def _sqlite_engine(settings: Settings) -> AsyncEngine:
    file = sqlite_file(settings)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{file}",
        pool_size=settings.database.pool,
        max_overflow=0,
        hide_parameters=True,
    )
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    write = bool(connection.get_execution_options().get("yunying_write"))
    held = connection.connection.info
    if held.get("query_only") is not (not write):
        connection.exec_driver_sql(f"PRAGMA query_only = {int(not write)}")
        held["query_only"] = not write
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _postgresql_engine(settings: Settings, role: Role) -> AsyncEngine:
    async def connect() -> "asyncpg.Connection":
        return await asyncpg.connect(settings.database.url, server_settings=server_settings(role))

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=settings.database.pool,
        max_overflow=0,
        hide_parameters=True,
        pool_pre_ping=True,
    )


def migration_engine(settings: Settings) -> AsyncEngine:
    """An engine for schema changes: a fresh connection each, as the login role on PostgreSQL."""
    if is_sqlite(settings):
        return _sqlite_engine(settings).execution_options(yunying_write=True)

    async def connect() -> "asyncpg.Connection":
        return await asyncpg.connect(settings.database.url)

    return create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)


async def _open_pool(settings: Settings, role: Role) -> "asyncpg.Pool":
    try:
        return await asyncpg.create_pool(
            settings.database.url,
            min_size=1,
            max_size=settings.database.pool,
            server_settings=server_settings(role),
        )
    except (OSError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError) as error:
        raise Unavailable("database.unreachable", "The database server does not answer.") from error
    except asyncpg.InvalidParameterValueError as error:
        raise Unavailable(
            "database.not_set_up", "The database was not set up yet: run the upgrade first."
        ) from error


async def _enter(session: AsyncSession, scope: Scope, *, write: bool) -> None:
    try:
        await session.execute(
            _ENTER, {"owners": owners_literal(scope), "read_only": "off" if write else "on"}
        )
    except OSError as error:
        raise Unavailable("database.unreachable", "The database server does not answer.") from error
