"""What the guard knows, in memory: rights, clients, keys and the sessions it has seen.

Changes are counted in the database (`identity.changes`); this process looks whenever it is rung and
at least every second, and reads again what has changed. When it could not look for five seconds it
refuses to answer: a revocation might have come.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Self

import structlog
from sqlalchemy import bindparam, select
from sqlalchemy.exc import SQLAlchemyError

from identity.access.domain import Access
from identity.accounts.tables import account
from identity.authorisations.domain import AccessToken
from identity.authorisations.service import ACCESS, as_access_token
from identity.break_glass.service import open_now
from identity.capabilities.service import Keys, load_keys, load_revoked
from identity.changes.service import versions
from identity.clients.domain import ApiClient
from identity.clients.service import load_clients
from identity.grants.service import load_rights
from identity.organisations.service import load_tree
from identity.sessions.service import ENDED_SINCE, note_seen
from identity.sessions.tables import session as session_table
from kernel.db.database import Database
from kernel.db.statement import Statement
from kernel.errors import Unavailable
from kernel.events.bell import Bell
from kernel.scope import Scope

LOOK_EVERY_S = 1.0
AT_MOST_EVERY_S = 0.2
STALE_S = 5.0
SAVE_SEEN_EVERY_S = 60.0
MOST_SESSIONS = 50_000
# Clocks of several machines differ; a session may be forgotten twice.
CLOCK_MARGIN_S = 300.0

_SCOPE = Scope.system("guard")
_SESSION = Statement(
    select(
        session_table.c.id,
        session_table.c.account_id,
        session_table.c.stage,
        session_table.c.seen_at,
        session_table.c.expires_at,
        account.c.login,
        account.c.display_name,
        account.c.networks,
        account.c.organisation_id,
        account.c.kind,
        session_table.c.amr,
        session_table.c.created_at,
    )
    .join(account, account.c.id == session_table.c.account_id)
    .where(session_table.c.token_hash == bindparam("token_hash"))
    .where(session_table.c.ended_at.is_(None), account.c.state == "active")
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is read at once; replaced as a whole."""

    access: Access
    clients: Mapping[str, ApiClient]
    keys: Keys
    revoked: frozenset[str]
    homes: Mapping[int, int]  # organisation → the institution that owns what its people store


@dataclass(slots=True)
class KnownSession:
    """A session that this process has seen; `seen_at` moves with each request."""

    id: int
    account_id: int
    stage: str
    seen_at: float
    expires_at: float
    login: str
    display_name: str
    networks: str
    organisation_id: int | None
    kind: str
    amr: str
    created_at: float


class Keeper:
    """Keeps the knowledge of one process fresh. `clock` gives monotonic seconds."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._snapshot: Snapshot | None = None
        self._versions: Mapping[str, int] = {}
        self._looked_at = float("-inf")
        self._forgotten_at = time.time()
        self._forgettings = 0
        self._sessions: dict[str, KnownSession] = {}
        self._tokens: dict[str, AccessToken] = {}
        self._seen: dict[int, float] = {}
        self._looking = asyncio.Lock()
        self._bell: Bell | None = None
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, database: Database) -> Self:
        """Read everything once and keep looking until `close`."""
        keeper = cls(database)
        await keeper.look()
        keeper._bell = await Bell.open(database)
        keeper._task = asyncio.create_task(keeper._keep(keeper._bell))
        return keeper

    async def close(self) -> None:
        """Stop looking, and save when sessions were last used."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._bell is not None:
            await self._bell.close()
        await self._save_seen()

    @property
    def fresh(self) -> bool:
        """Whether what is known is young enough to answer by."""
        return self._snapshot is not None and self._clock() - self._looked_at < STALE_S

    async def current(self) -> Snapshot:
        """What is known, looked at within five seconds; raises Unavailable `access.stale`."""
        if not self.fresh:
            try:
                await self.look()
            except (SQLAlchemyError, Unavailable, OSError) as error:
                log.exception("access.look_failed")
                raise _stale() from error
        if self._snapshot is None:
            raise _stale()
        return self._snapshot

    async def current_again(self) -> Snapshot:
        """What is known after one more look, for a token that was not: it may be new."""
        await self.look()
        return await self.current()

    async def reach(self, owner_id: int) -> frozenset[int]:
        """The owners at the place of `owner_id` and below it: what its DICOM nodes may see.

        Raises Unavailable `access.stale`.
        """
        owners = (await self.current()).access.rights.owners
        path = owners.path(owner_id)
        return frozenset({owner_id}) if path is None else owners.below(path)

    async def session(self, token_hash: str) -> KnownSession | None:
        """The live session with that token; one read of the database for each new one."""
        known = self._sessions.get(token_hash)
        while known is None:
            before = self._forgettings
            rows = await self._database.fetch(_SESSION, {"token_hash": token_hash})
            if not rows:
                return None
            if before == self._forgettings:  # else it may have ended while it was read
                known = KnownSession(*rows[0])
                if len(self._sessions) >= MOST_SESSIONS:
                    self._sessions.clear()
                self._sessions[token_hash] = known
        return known

    async def access_token(self, token_hash: str) -> AccessToken | None:
        """What an application's token stands for; one read of the database for each new one."""
        known = self._tokens.get(token_hash)
        if known is None:
            before = self._forgettings
            rows = await self._database.fetch(ACCESS, {"token_hash": token_hash})
            if not rows:
                return None
            known = as_access_token(rows[0])
            if before == self._forgettings:  # else it may have ended while it was read
                if len(self._tokens) >= MOST_SESSIONS:
                    self._tokens.clear()
                self._tokens[token_hash] = known
        return known

    def forget(self, token_hash: str) -> None:
        """Read a session anew when it comes again."""
        self._forgettings += 1
        self._sessions.pop(token_hash, None)

    def note_seen(self, known: KnownSession, now: float) -> None:
        """A session was used; saved within a minute."""
        known.seen_at = now
        self._seen[known.id] = now

    async def look(self) -> None:
        """See whether something changed, and read it."""
        async with self._looking:
            began = self._clock()
            found = await versions(self._database)
            if found.get("revocation") != self._versions.get("revocation"):
                await self._forget_ended()
            if self._snapshot is None or found["rights"] != self._versions.get("rights"):
                self._snapshot = await self._read()
            self._versions = found
            self._looked_at = began

    async def _keep(self, bell: Bell) -> None:
        saved = self._clock()
        while True:
            await bell.wait(LOOK_EVERY_S)
            try:
                await self.look()
                if self._clock() - saved > SAVE_SEEN_EVERY_S:
                    await self._save_seen()
                    saved = self._clock()
            except (SQLAlchemyError, Unavailable, OSError):
                log.exception("access.look_failed")
            await asyncio.sleep(AT_MOST_EVERY_S)

    async def _read(self) -> Snapshot:
        async with self._database.session(_SCOPE) as session:
            rights = await load_rights(session)
            tree = await load_tree(session)
            return Snapshot(
                Access(rights, await open_now(session)),
                await load_clients(session),
                await load_keys(session),
                await load_revoked(session),
                {one: tree.institution_of(one) for one in tree.by_id},
            )

    async def _forget_ended(self) -> None:
        self._forgettings += 1
        since = self._forgotten_at - CLOCK_MARGIN_S
        self._forgotten_at = time.time()
        self._tokens.clear()  # ended with a session, an application or by themselves: all are new
        for (token_hash,) in await self._database.fetch(ENDED_SINCE, {"since": since}):
            self._sessions.pop(token_hash, None)
        if self._snapshot is not None:
            async with self._database.session(_SCOPE) as session:
                revoked = await load_revoked(session)
            self._snapshot = replace(self._snapshot, revoked=revoked)
        now = time.time()
        for token_hash in [key for key, one in self._sessions.items() if one.expires_at < now]:
            del self._sessions[token_hash]

    async def _save_seen(self) -> None:
        seen, self._seen = self._seen, {}
        if not seen:
            return
        with contextlib.suppress(Unavailable):
            async with self._database.session(_SCOPE, write=True) as session:
                await note_seen(session, seen)


def _stale() -> Unavailable:
    return Unavailable("access.stale", "Rights cannot be looked up at the moment.")
