"""What applications are told about a person, in tokens that we sign."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from identity.accounts.tables import account
from identity.applications.domain import Application
from identity.applications.service import get_application
from identity.authorisations.domain import Authorisation, acr_of, subject_of
from identity.authorisations.service import (
    get_with_application,
    note_refusal,
    waiting_logouts,
)
from identity.grants.domain import Rights, Subject
from identity.organisations.tables import organisation
from identity.phones.service import number_of
from identity.provider.domain import SINCE_COUNTS_S
from identity.signing_keys.domain import LONGEST_TOKEN_S
from identity.signing_keys.service import sign
from kernel.db.database import Database
from kernel.errors import NotFound, Unavailable
from kernel.events.domain import Event
from kernel.jobs.runner import JobContext
from kernel.jobs.service import enqueue
from kernel.scope import Scope
from kernel.sealing.domain import Sealer
from kernel.settings import SsoSettings

ID_TOKEN_S = 600.0
LOGOUT_TOKEN_S = 120.0
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
LOGOUT_JOB = "sso.logout"
ANSWER_S = 5.0

_SCOPE = Scope.system("single sign-on")
_EVERYBODY = 1


@dataclass(frozen=True, slots=True)
class Provider:
    """What signing in others works with."""

    database: Database
    sealer: Sealer
    settings: SsoSettings

    def sid(self, session_id: int) -> str:
        """The name of a session for applications; the same for all of them, and no number."""
        return self.sealer.index(str(session_id), "session name")[:32]

    def since(self, now: float) -> str:
        """This moment for our own address, so that nobody else can say when it was."""
        moment = str(int(now * 1000) + 1)
        return f"{moment}.{self._since_seal(moment)}"

    def read_since(self, shown: str, now: float) -> float:
        """The moment that `since` named, in seconds; 0 for one that is old or not ours."""
        moment, _, seal = shown.partition(".")
        good = hmac.compare_digest(seal.encode(), self._since_seal(moment).encode())
        at = int(moment) / 1000 if good else 0.0
        return at if now - at < SINCE_COUNTS_S else 0.0

    def _since_seal(self, moment: str) -> str:
        return self.sealer.index(moment, "signed in since")[:32]

    async def claims(
        self, rights: Rights, account_id: int, scopes: frozenset[str]
    ) -> dict[str, Any]:
        """What the scopes tell about the person (OpenID Connect Core 5.1 and ours)."""
        async with self.database.session(_SCOPE) as session:
            return await _claims(session, self.sealer, rights, account_id, scopes)

    async def id_token(
        self, client: Application, found: Authorisation, claims: Mapping[str, Any], *, first: bool
    ) -> str:
        """An ID token; `nonce` is only in the first one (12.2)."""
        now = int(time.time())
        said = {
            "iss": found.issuer,
            "aud": client.client_id,
            "exp": now + int(min(ID_TOKEN_S, LONGEST_TOKEN_S)),
            "iat": now,
            "auth_time": int(found.auth_time),
            "acr": acr_of(found.amr),
            "amr": list(found.amr),
            "sid": found.sid,
            **claims,
        }
        if first and found.nonce:
            said["nonce"] = found.nonce
        return await sign(self.database, self.sealer, said)

    async def refused(self, client_id: str, error: str) -> None:
        """Write down that an application got no tokens."""
        await note_refusal(self.database, client_id, error)

    async def session_ended(self, event: Event) -> None:
        """Have each application told in which the ended sessions were used; for the dispatcher."""
        async with self.database.session(_SCOPE, write=True) as session:
            for number, _ in await waiting_logouts(session, event.payload["session_ids"]):
                await enqueue(
                    session,
                    LOGOUT_JOB,
                    {"authorisation": number},
                    _EVERYBODY,
                    key=str(number),
                )

    async def tell_logout(self, context: JobContext) -> Mapping[str, Any] | None:
        """Tell an application that a session ended (Back-Channel Logout 1.0); for the jobs.

        Raises Unavailable `sso.backchannel` while it does not answer with 200 or 204.
        """
        async with self.database.session(_SCOPE) as session:
            row = await get_with_application(session, int(context.args["authorisation"]))
            if row is None:
                return None
            found, application_id, kind = row
            try:
                client = await get_application(session, application_id)
            except NotFound:
                return None
        token = await sign(self.database, self.sealer, _logout(client, found, kind), "logout+jwt")
        status = await _post(client.backchannel_uri, token)
        if status not in (200, 204):
            raise Unavailable(
                "sso.backchannel",
                "{application} was not told of a sign-out: it answered {status}.",
                application=client.client_id,
                status=status or "nothing",
            )
        return {"application": client.client_id}


def _logout(client: Application, found: Authorisation, kind: str) -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": found.issuer,
        "sub": subject_of(kind, found.account_id),
        "aud": client.client_id,
        "iat": now,
        "exp": now + int(LOGOUT_TOKEN_S),
        "jti": secrets.token_urlsafe(16),
        "sid": found.sid,
        "events": {LOGOUT_EVENT: {}},
    }


async def _post(address: str, token: str) -> int:
    """The status of the answer; 0 for none."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as client,
            client.post(address, data={"logout_token": token}, allow_redirects=False) as answer,
        ):
            return answer.status
    except (aiohttp.ClientError, TimeoutError, OSError):
        return 0


async def _claims(
    session: AsyncSession, sealer: Sealer, rights: Rights, account_id: int, scopes: frozenset[str]
) -> dict[str, Any]:
    wanted = select(
        account.c.kind,
        account.c.login,
        account.c.display_name,
        account.c.phone,
        account.c.organisation_id,
        organisation.c.name.label("place"),
    ).outerjoin(organisation, organisation.c.id == account.c.organisation_id)
    row = (await session.execute(wanted.where(account.c.id == account_id))).one()
    said: dict[str, Any] = {"sub": subject_of(row.kind, account_id)}
    if "profile" in scopes:
        said["name"] = row.display_name
        if row.kind == "staff":
            said["preferred_username"] = row.login
    if "phone" in scopes:
        verified = await number_of(session, sealer, account_id)
        if verified:
            said |= {"phone_number": f"+86{verified}", "phone_number_verified": True}
        elif row.phone:
            said |= {"phone_number": row.phone, "phone_number_verified": False}
    if "org" in scopes:
        path = rights.owners.path(row.organisation_id) if row.organisation_id else None
        said |= {"org": path or "", "org_name": row.place or ""}
    if "roles" in scopes:
        held = rights.held(Subject("account", account_id), time.time())
        said["roles"] = sorted({(one.role.code, one.path) for one in held})
        said["roles"] = [{"role": role, "org": path} for role, path in said["roles"]]
    return said
