"""Asking another provider who somebody is, and beginning and ending sessions by its word."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import web
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity.accounts.domain import ADMIN
from identity.accounts.service import get_account
from identity.accounts.tables import account
from identity.sessions.service import begin_session, end_session
from identity.sessions.tables import session as session_table
from identity.sign_in.service import ACTION, SignedIn, Visitor
from identity.upstream.domain import (
    ALGORITHMS,
    Arrived,
    Metadata,
    check_id_token,
    check_logout,
    check_metadata,
)
from identity.upstream.tables import upstream_identity, upstream_session
from kernel.audit.domain import AuditRecord
from kernel.audit.service import append
from kernel.db.database import Database
from kernel.errors import Conflict, Denied, NotFound, Unavailable
from kernel.scope import Actor, Scope
from kernel.sealing.domain import Sealer
from kernel.settings import SsoSettings

ANSWER_S = 10.0
KNOWN_FOR_S = 300.0
SCOPES = "openid profile"
CALLBACK = "/login/callback"
SIGNED_OUT = "/login/out"

_SCOPE = Scope.system("sign in elsewhere")
_PURPOSE = "id token"


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-in on its way, which comes back with the person's browser."""

    state: str
    nonce: str
    verifier: str
    next: str
    at: float


@dataclass(slots=True)
class Upstream:
    """The provider where people of this server sign in."""

    database: Database
    sealer: Sealer
    settings: SsoSettings
    session_s: float
    _metadata: tuple[float, Metadata] | None = field(default=None)
    _keys: tuple[float, Mapping[str, Any]] | None = field(default=None)

    @property
    def issuer(self) -> str:
        """Its name, as it must say itself."""
        return self.settings.upstream_issuer.rstrip("/")

    def here(self, request: web.Request) -> str:
        """Our own address, as the other provider knows it."""
        return self.settings.issuer.rstrip("/") or f"{request.scheme}://{request.host}"

    async def begin(self, here: str, wanted: str, *, again: bool = False) -> tuple[str, str]:
        """Where to send a person, and what to put into the browser meanwhile (sealed).

        `here` is our own address. Raises Unavailable `upstream.unreachable`.
        """
        known = await self.metadata()
        begun = Begun(
            secrets.token_urlsafe(24),
            secrets.token_urlsafe(24),
            secrets.token_urlsafe(48),
            wanted,
            time.time(),
        )
        digest = hashlib.sha256(begun.verifier.encode()).digest()
        asked = {
            "client_id": self.settings.upstream_client_id,
            "response_type": "code",
            "redirect_uri": here + CALLBACK,
            "scope": SCOPES,
            "state": begun.state,
            "nonce": begun.nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        if again:
            asked["prompt"] = "login"
        facts = {name: getattr(begun, name) for name in Begun.__dataclass_fields__}
        kept = self.sealer.seal(json.dumps(facts), "sign in elsewhere")
        return f"{known.authorization_endpoint}?{urlencode(asked)}", kept

    def resume(self, kept: str, state: str) -> Begun:
        """What was begun in this browser; raises Denied `upstream.state`."""
        try:
            begun = Begun(**json.loads(self.sealer.open(kept, "sign in elsewhere")))
        except (Unavailable, ValueError, TypeError) as error:
            raise _stale() from error
        if (
            not secrets.compare_digest(begun.state.encode(), state.encode())
            or time.time() - begun.at > 600
        ):
            raise _stale()
        return begun

    async def arrive(self, here: str, code: str, begun: Begun) -> Arrived:
        """Who came back with a code.

        Raises Denied `upstream.token`, `upstream.refused`, Unavailable `upstream.unreachable`.
        """
        known = await self.metadata()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": here + CALLBACK,
            "code_verifier": begun.verifier,
            "client_id": self.settings.upstream_client_id,
        }
        if self.settings.upstream_client_secret:
            form["client_secret"] = self.settings.upstream_client_secret
        status, said = await _ask("POST", known.token_endpoint, form)
        token = said.get("id_token")
        if status != 200 or not isinstance(token, str):
            raise Denied("upstream.refused", "The sign-in service did not accept the sign-in.")
        claims = await self._read(token)
        client_id = self.settings.upstream_client_id
        return check_id_token(claims, self.issuer, client_id, begun.nonce, time.time(), token)

    async def sign_in(self, arrived: Arrived, visitor: Visitor) -> SignedIn:
        """A session for the account that a person from there is here.

        Raises Denied `upstream.nobody` where there is none, `sign_in.suspended`.
        """
        async with self.database.session(_SCOPE, write=True) as session:
            account_id = await self._account(session, arrived)
            if account_id is not None:
                found = await get_account(session, _SCOPE, account_id)
                if found.state == "active" and found.kind == "staff":
                    return await self._begin(session, account_id, arrived, visitor)
            code = "upstream.nobody" if account_id is None else "sign_in.suspended"
            detail = {"code": code, "issuer": self.issuer}
            actor = Actor("session", "" if account_id is None else str(account_id))
            await append(
                session, AuditRecord(actor, ACTION, "denied", peer=visitor.peer, detail=detail)
            )
        if account_id is None:
            raise Denied(
                "upstream.nobody",
                "You are signed in at {issuer}, but no account here belongs to that. Tell your"
                " administrator this number: {subject}.",
                issuer=self.issuer,
                subject=arrived.subject,
            )
        raise Denied("sign_in.suspended", "This account is not in use. Ask your administrator.")

    async def ended(self, logout_token: str) -> int:
        """End the sessions that a logout token is about; how many.

        Raises Denied `upstream.token`.
        """
        claims = await self._read(logout_token)
        client_id = self.settings.upstream_client_id
        subject, sid, at = check_logout(claims, self.issuer, client_id, time.time())
        wanted = (
            select(session_table.c.id, session_table.c.account_id)
            .join(upstream_session, upstream_session.c.session_id == session_table.c.id)
            .where(upstream_session.c.issuer == self.issuer, session_table.c.ended_at.is_(None))
        )
        if sid:
            wanted = wanted.where(upstream_session.c.sid == sid)
        else:  # of somebody: not what began after it was said
            wanted = wanted.where(session_table.c.created_at <= at + 1)
        if subject:
            wanted = wanted.where(upstream_session.c.subject == subject)
        async with self.database.session(_SCOPE, write=True) as session:
            rows = (await session.execute(wanted)).all()
            for session_id, account_id in rows:
                await end_session(session, account_id, session_id, "signed out elsewhere")
        return len(rows)

    async def way_out(self, session_id: int, here: str) -> str:
        """Where to send a person who signs out of a session that came from there; '' if none."""
        wanted = select(upstream_session.c.id_token_sealed).where(
            upstream_session.c.session_id == session_id
        )
        async with self.database.session(_SCOPE) as session:
            sealed = await session.scalar(wanted)
        if sealed is None:
            return ""
        try:
            place = (await self.metadata()).end_session_endpoint
            token = self.sealer.open(sealed, _PURPOSE)
        except (Unavailable, Denied):
            return ""
        asked = {"id_token_hint": token, "post_logout_redirect_uri": here + SIGNED_OUT}
        return f"{place}?{urlencode(asked)}" if place else ""

    async def metadata(self) -> Metadata:
        """What it says about itself, asked at most every five minutes."""
        if self._metadata is None or time.monotonic() - self._metadata[0] > KNOWN_FOR_S:
            place = f"{self.issuer}/.well-known/openid-configuration"
            status, said = await _ask("GET", place)
            if status != 200:
                raise _unreachable()
            self._metadata = time.monotonic(), check_metadata(said, self.issuer)
        return self._metadata[1]

    async def _read(self, token: str) -> Mapping[str, Any]:
        """The claims of a token that one of its keys has signed."""
        try:
            header = json.loads(base64.urlsafe_b64decode(token.partition(".")[0] + "=="))
            key_id, algorithm = str(header.get("kid", "")), header.get("alg")
        except (ValueError, AttributeError) as error:
            raise _unbelievable() from error
        found = await self._key(key_id)
        if found is None or algorithm not in ALGORITHMS:
            raise _unbelievable()
        try:
            kind = ECKey if found.get("kty") == "EC" else RSAKey
            key = kind.import_key(dict(found))
            return dict(jwt.decode(token, key, algorithms=[algorithm]).claims)
        except (JoseError, ValueError) as error:
            raise _unbelievable() from error

    async def _key(self, key_id: str) -> Mapping[str, Any] | None:
        """A key by its id; one that is not known is looked for anew, at most every ten seconds."""
        age = float("inf") if self._keys is None else time.monotonic() - self._keys[0]
        known = self._keys[1] if self._keys is not None else {}
        if age > KNOWN_FOR_S or (key_id not in known and age > 10.0):
            status, said = await _ask("GET", (await self.metadata()).jwks_uri)
            if status != 200:
                raise _unreachable()
            listed = said.get("keys")
            known = {
                str(one.get("kid", "")): one
                for one in (listed if isinstance(listed, list) else [])
                if isinstance(one, dict) and one.get("use", "sig") == "sig"
            }
            self._keys = time.monotonic(), known
        return known.get(key_id)

    async def _account(self, session: AsyncSession, arrived: Arrived) -> int | None:
        wanted = select(upstream_identity.c.account_id).where(
            upstream_identity.c.issuer == arrived.issuer,
            upstream_identity.c.subject == arrived.subject,
        )
        known: int | None = await session.scalar(wanted)
        if known is not None or self.settings.upstream_match != "login":
            return known
        if not arrived.login or arrived.login == ADMIN:
            return None  # each server has an account of that name, of different people
        named = (
            select(account.c.id)
            .outerjoin(
                upstream_identity,
                (upstream_identity.c.account_id == account.c.id)
                & (upstream_identity.c.issuer == arrived.issuer),
            )
            .where(account.c.login == arrived.login, account.c.kind == "staff")
            .where(upstream_identity.c.subject.is_(None))
        )
        found: int | None = await session.scalar(named)
        if found is not None:
            await link(session, _SCOPE, arrived.issuer, arrived.subject, found)
        return found

    async def _begin(
        self, session: AsyncSession, account_id: int, arrived: Arrived, visitor: Visitor
    ) -> SignedIn:
        token, begun = await begin_session(
            session,
            account_id,
            "full",
            self.session_s,
            peer=visitor.peer,
            agent=visitor.agent,
            amr=arrived.amr,
        )
        await session.execute(
            insert(upstream_session).values(
                session_id=begun.id,
                issuer=arrived.issuer,
                subject=arrived.subject,
                sid=arrived.sid,
                id_token_sealed=self.sealer.seal(arrived.id_token, _PURPOSE),
            )
        )
        detail = {"stage": "full", "session": begun.id, "issuer": arrived.issuer}
        actor = Actor("session", str(account_id))
        await append(session, AuditRecord(actor, ACTION, "ok", peer=visitor.peer, detail=detail))
        return SignedIn(token, begun)


async def link(
    session: AsyncSession, scope: Scope, issuer: str, subject: str, account_id: int
) -> None:
    """Say whom a person from elsewhere is here; raises NotFound `account.not_found`, Conflict."""
    found = await get_account(session, scope, account_id)
    if found.kind != "staff":
        raise NotFound("account.not_found", "There is no account {name}.", name=account_id)
    known = select(upstream_identity.c.account_id).where(
        upstream_identity.c.issuer == issuer, upstream_identity.c.subject == subject
    )
    if await session.scalar(known) is not None:
        raise Conflict("upstream.linked", "Somebody here is {subject} already.", subject=subject)
    await session.execute(
        insert(upstream_identity).values(
            issuer=issuer,
            subject=subject,
            account_id=found.id,
            linked_at=time.time(),
            linked_by=f"{scope.actor.kind}:{scope.actor.id}",
        )
    )
    detail = {"change": "linked", "account": found.id, "issuer": issuer}
    await append(
        session,
        AuditRecord(
            scope.actor,
            "identity.account.manage",
            "ok",
            owner_id=found.organisation_id,
            purpose=scope.purpose,
            detail=detail,
        ),
    )


async def _ask(
    method: str, place: str, form: Mapping[str, str] | None = None
) -> tuple[int, Mapping[str, Any]]:
    """Status and JSON object of an answer; raises Unavailable `upstream.unreachable`."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as client,
            client.request(method, place, data=form, allow_redirects=False) as answer,
        ):
            said = await answer.json(content_type=None)
            return answer.status, said if isinstance(said, dict) else {}
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise _unreachable() from error


def _unreachable() -> Unavailable:
    return Unavailable(
        "upstream.unreachable", "The sign-in service does not answer. Try again in a moment."
    )


def _unbelievable() -> Denied:
    return Denied("upstream.token", "What the sign-in service says cannot be believed.")


def _stale() -> Denied:
    return Denied("upstream.state", "This sign-in was begun too long ago, or in another browser.")
