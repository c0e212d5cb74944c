"""Turning a request into a Scope: session cookie, bearer token of a client, or capability."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Collection
from dataclasses import replace

from aiohttp import web

from identity.accounts.domain import is_within
from identity.applications.domain import permissions_of
from identity.authorisations import domain as authorisations
from identity.authorisations.domain import AccessToken
from identity.capabilities import domain as capabilities
from identity.clients import domain as clients
from identity.grants.domain import Rights, Subject
from identity.guard.keeper import Keeper, KnownSession, Snapshot
from identity.privacy.domain import ANONYMOUS_PURPOSES, UNMASKED, permission_for
from identity.sessions.domain import is_over
from identity.tokens.domain import fingerprint
from kernel.errors import AppError, Denied, NotFound
from kernel.scope import EMERGENCY, SENSITIVE_KINDS, Actor, ActorKind, Scope, Sight
from kernel.settings import AccessSettings
from kernel.web.guard import ACTOR
from kernel.web.pages import PERSON, Person

COOKIE = "yunying_session"
# Residents have a cookie of their own, which no page of the staff reads.
CITIZEN_COOKIE = "yunying_citizen"
CITIZEN_PATH = "/my"
CSRF_HEADER = "X-CSRF-Token"
SELF = "identity.self"
CITIZEN = "citizen.self"
MENU = "identity/menu.html"

_NOWHERE: frozenset[int] = frozenset()
_SENSITIVE = {kind: permission_for(kind) for kind in SENSITIVE_KINDS}
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITE = frozenset({"same-origin", "none"})


class IdentityGuard:
    """The guard of kernel.web that knows accounts. `clock` gives seconds since 1970."""

    def __init__(
        self,
        keeper: Keeper,
        policy: AccessSettings,
        clock: Callable[[], float] = time.time,
        citizen_idle_s: float = 7 * 86400.0,
    ) -> None:
        self._keeper = keeper
        self._policy = policy
        self._citizen_idle_s = citizen_idle_s
        self._clock = clock

    async def authorise(self, request: web.Request, permission: str) -> Scope:
        """What the asker may touch.

        Raises Denied: `access.unknown` (401) without a good session or token; `access.code`,
        `access.password_change` for a sign-in that is not finished; `access.network`,
        `access.csrf`, `access.denied`, `capability.*`. NotFound `study.not_found` for a study that
        a capability does not name. Unavailable `access.stale`.
        """
        snapshot = await self._keeper.current()
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "bearer":
            token = token.strip()
            if token.startswith(capabilities.PREFIX):
                return self._capability(request, snapshot, token, permission)
            if token.startswith(authorisations.ACCESS_PREFIX):
                return await self._application(request, snapshot, token, permission)
            return await self._client(request, snapshot, token, permission)
        if permission == CITIZEN:
            return await self._citizen(request)
        return await self._session(request, snapshot, permission)

    async def known_session(
        self, request: web.Request, kind: str = "staff"
    ) -> tuple[KnownSession, str] | None:
        """The live session of the request's cookie in whatever stage, with its token.

        Staff and residents (`citizen`) have a cookie each; one in the other's place is nobody's.
        """
        token = request.cookies.get(CITIZEN_COOKIE if kind == "citizen" else COOKIE, "")
        if not token:
            return None
        token_hash = fingerprint(token)
        known = await self._keeper.session(token_hash)
        if known is None or known.kind != kind:
            return None
        now = self._clock()
        idle_s = self._citizen_idle_s if kind == "citizen" else self._policy.session_idle_s
        if is_over(known.expires_at, known.seen_at, now, idle_s):
            self._keeper.forget(token_hash)  # another process may have seen it since
            known = await self._keeper.session(token_hash)
            if known is None or is_over(known.expires_at, known.seen_at, now, idle_s):
                return None
        self._keeper.note_seen(known, now)
        return known, token

    async def whole(self, scope: Scope) -> Scope:
        """The scope without bounds for who holds its permission at the top of the tree.

        Only administration asks: what stands at the top, and people without a place of work, are
        nobody's below it. Any other scope stays as it is.
        """
        if scope.owners is None or scope.actor.kind != "session":
            return scope
        rights = (await self._keeper.current()).access.rights
        subject = Subject("account", int(scope.actor.id))
        at_top = rights.is_at_top(subject, scope.purpose, self._clock())
        return replace(scope, owners=None) if at_top else scope

    async def rights(self) -> Rights:
        """Everything that is granted, as known now; raises Unavailable `access.stale`."""
        return (await self._keeper.current()).access.rights

    async def look(self) -> None:
        """Look for changes of rights now, after this process has made one."""
        await self._keeper.look()

    def forget(self, token_hash: str) -> None:
        """Read a session anew, after this process has ended it."""
        self._keeper.forget(token_hash)

    async def _session(self, request: web.Request, snapshot: Snapshot, permission: str) -> Scope:
        found = await self.known_session(request)
        if found is None:
            raise _unknown()
        known, token = found
        actor = request[ACTOR] = Actor("session", str(known.account_id))
        if known.stage == "code":
            raise Denied("access.code", "The second step of signing in is missing.")
        self._check_address(request, self._policy.networks, known.networks.split(","))
        if request.method not in _SAFE_METHODS:
            check_own_site(request, token)
        request[PERSON] = self._person(snapshot, known, actor, token)
        if permission == SELF:
            return Scope(frozenset(), actor, permission)
        if known.stage != "full":
            raise Denied("access.password_change", "Please change your password first.")
        subject = Subject("account", known.account_id)
        study = request.match_info.get("study", "")
        return self._scope(snapshot, actor, subject, permission, known.organisation_id, study=study)

    def _person(self, snapshot: Snapshot, known: KnownSession, actor: Actor, token: str) -> Person:
        """What pages know of who is signed in; rights only after the last step of signing in."""
        subject = Subject("account", known.account_id)

        def scope_for(permission: str) -> Scope | None:
            if permission == SELF:
                return Scope(frozenset(), actor, permission)
            if known.stage != "full":
                return None
            try:
                return self._scope(snapshot, actor, subject, permission, known.organisation_id)
            except Denied:
                return None

        return Person(known.display_name, csrf_of(token), MENU, scope_for)

    async def access_token(self, request: web.Request) -> AccessToken | None:
        """What the bearer token of the request stands for, when an application holds it; or None.

        Raises Unavailable `access.stale`.
        """
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        token = token.strip()
        if kind.lower() != "bearer" or not token.startswith(authorisations.ACCESS_PREFIX):
            return None
        await self._keeper.current()
        found = await self._keeper.access_token(fingerprint(token))
        return None if found is None or self._clock() >= found.expires_at else found

    async def _application(
        self, request: web.Request, snapshot: Snapshot, token: str, permission: str
    ) -> Scope:
        """An application in the name of a person: what both may."""
        found = await self.access_token(request)
        if found is None:
            raise _unknown()
        actor = request[ACTOR] = Actor(_actor_kind(found.kind), str(found.account_id))
        self._check_address(request, self._policy.networks, found.networks.split(","))
        allowed = permissions_of(found.scopes)
        if permission not in allowed or found.kind == "citizen":
            raise _denied()
        subject = Subject("account", found.account_id)
        study = request.match_info.get("study", "")
        place = found.organisation_id
        return self._scope(snapshot, actor, subject, permission, place, allowed, study)

    async def _citizen(self, request: web.Request) -> Scope:
        """A resident, who has nothing here yet but the own sign-in."""
        found = await self.known_session(request, "citizen")
        if found is None:
            raise Denied("access.citizen", "Please sign in with your phone number.")
        known, token = found
        actor = request[ACTOR] = Actor("citizen", str(known.account_id))
        if request.method not in _SAFE_METHODS:
            check_own_site(request, token)
        return Scope(frozenset(), actor, CITIZEN)

    async def _client(
        self, request: web.Request, snapshot: Snapshot, token: str, permission: str
    ) -> Scope:
        if not token.startswith(clients.PREFIX):
            raise _unknown()
        token_hash = fingerprint(token)
        found = snapshot.clients.get(token_hash)
        if found is None:
            snapshot = await self._keeper.current_again()
            found = snapshot.clients.get(token_hash)
        if found is None or found.has_expired(self._clock()):
            raise _unknown()
        actor = request[ACTOR] = Actor("client", str(found.id))
        self._check_address(request, found.networks.split(","))
        if permission == CITIZEN or (found.permissions and permission not in found.permissions):
            raise _denied()
        return self._scope(
            snapshot, actor, found.subject, permission, found.organisation_id, found.permissions
        )

    def _capability(
        self, request: web.Request, snapshot: Snapshot, token: str, permission: str
    ) -> Scope:
        found = capabilities.verify(token, snapshot.keys.by_id, snapshot.revoked, self._clock())
        actor = request[ACTOR] = Actor("capability", found.id)
        study = request.match_info.get("study")
        capabilities.check_use(found, permission, study, request.remote or "")
        if study not in found.studies:
            raise NotFound("study.not_found", "there is no such study")
        anonymous = found.purpose in ANONYMOUS_PURPOSES
        sight = _sight(
            lambda one: found.owners if one in found.permissions and not anonymous else _NOWHERE
        )
        return Scope(found.owners, actor, found.purpose, sight=sight)

    def _scope(
        self,
        snapshot: Snapshot,
        actor: Actor,
        subject: Subject,
        permission: str,
        place: int | None,
        narrowed: Collection[str] = (),
        study: str = "",
    ) -> Scope:
        now = self._clock()
        owners, emergency = snapshot.access.owners_for(subject, permission, now, study)
        if not owners:
            raise _denied()
        home = snapshot.homes.get(place) if place is not None else None

        def seen(one: str) -> frozenset[int]:
            if narrowed and one not in narrowed:
                return _NOWHERE
            return snapshot.access.owners_for(subject, one, now, study)[0]

        return Scope(owners, actor, EMERGENCY if emergency else permission, home, _sight(seen))

    def _check_address(self, request: web.Request, *networks: tuple[str, ...] | list[str]) -> None:
        if not all(is_within(request.remote or "", some) for some in networks):
            raise Denied("access.network", "This is not allowed from this network.")


def _actor_kind(account_kind: str) -> ActorKind:
    return "citizen" if account_kind == "citizen" else "session"


def _sight(seen: Callable[[str], frozenset[int]]) -> Sight:
    """Where persons are named to who has each permission at `seen`."""
    return Sight(seen(UNMASKED), {kind: seen(one) for kind, one in _SENSITIVE.items()})


def csrf_of(token: str) -> str:
    """What a form sends along to show that it came from our page of the same session."""
    return hmac.digest(token.encode(), b"form", hashlib.sha256).hex()[:32]


def is_csrf_of(shown: str, token: str) -> bool:
    """Whether this is what a form of our page of the same session sends along."""
    return hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), csrf_of(token).encode())


def check_own_site(request: web.Request, token: str) -> None:
    """Raise Denied `access.csrf` for a request that another site's page may have made.

    The browser's word counts: Sec-Fetch-Site, or Origin, which `kernel.web.safety` has compared.
    Where both are missing the header must hold the session's form token.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        good = site in _OWN_SITE
    elif "Origin" in request.headers:
        good = True
    else:
        good = is_csrf_of(request.headers.get(CSRF_HEADER, ""), token)
    if not good:
        raise Denied("access.csrf", "The request did not come from a page of ours.")


def _unknown() -> AppError:
    return Denied("access.unknown", "Please sign in.")


def _denied() -> AppError:
    return Denied("access.denied", "You may not do this.")
