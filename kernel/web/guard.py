"""Every route names a permission; the guard that `server` installs turns it into a Scope.

This floor does not know accounts: it asks `app[GUARD]`, puts the Scope into the request and sees
that each access leaves an audit line before the first byte of the answer.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import wraps
from typing import Protocol

from aiohttp import web

from kernel.audit.domain import ASKED_FROM, AuditRecord, Outcome
from kernel.audit.trail import AuditTrail
from kernel.errors import AppError
from kernel.i18n.catalog import marked
from kernel.scope import EMERGENCY, Actor, Scope
from kernel.web.handler import Handler

PUBLIC = "public"

PERMISSIONS: Mapping[str, str] = {
    PUBLIC: marked("Open to everybody"),
    "archive.study.search": marked("Search studies"),
    "archive.study.read": marked("Open and download studies"),
    "archive.study.store": marked("Store studies"),
    "archive.study.delete": marked("Reject and delete studies"),
    "archive.study.correct": marked("Correct studies and choose versions"),
    "archive.study.hold": marked("Put studies under a legal hold"),
    "archive.study.classify": marked("Say that a study is sensitive"),
    "archive.patient.merge": marked("Merge patients"),
    "archive.study.original": marked("See studies without corrections"),
    "archive.pack.read": marked("Read the journal as another node"),
    "archive.identifiers.read": marked("See names, ID numbers and phones without a mask"),
    "archive.sensitive.vip": marked("See data of protected persons"),
    "archive.sensitive.mental_health": marked("See data of mental health"),
    "archive.sensitive.hiv": marked("See data of HIV and AIDS"),
    "archive.capability.issue": marked("Share a study by a link"),
    "gateway.ae.manage": marked("Manage DICOM nodes"),
    "identity.self": marked("Manage one's own account"),
    "identity.organisation.read": marked("See organisations"),
    "identity.organisation.manage": marked("Manage organisations"),
    "identity.account.manage": marked("Manage accounts and staff"),
    "identity.role.grant": marked("Grant and withdraw roles"),
    "identity.client.manage": marked("Manage API clients"),
    "identity.application.manage": marked("Manage applications with single sign-on"),
    "identity.access.explain": marked("Ask who may see what"),
    "identity.break_glass.use": marked("Open data in an emergency"),
    "identity.break_glass.review": marked("Review emergency access"),
    "citizen.self": marked("Use what residents are offered, as one of them"),
    "system.messages.read": marked("See which messages were sent"),
    "system.audit.read": marked("Read the audit"),
    "system.status.read": marked("See the state of the system"),
    "system.metrics.read": marked("Read measurements"),
    "system.jobs.manage": marked("See and cancel jobs"),
}


class Guard(Protocol):
    """Knows who asks: a session, an API client or a capability."""

    async def authorise(self, request: web.Request, permission: str) -> Scope:
        """What the asker may touch; raises Denied `access.*`."""


GUARD: web.AppKey[Guard] = web.AppKey("kernel.guard", Guard)
AUDIT: web.AppKey[AuditTrail] = web.AppKey("kernel.audit", AuditTrail)

# Who asks, once the guard knows; a refusal is written down under this name.
ACTOR: web.RequestKey[Actor] = web.RequestKey("kernel.actor", Actor)

_SCOPE: web.RequestKey[Scope] = web.RequestKey("kernel.scope", Scope)


@dataclass(slots=True)
class _Access:
    """What becomes an audit line when the outcome is known: most requests make one record."""

    permission: str
    actor: Actor
    scope: Scope | None = None
    fold: bool = False
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


_NOBODY = Actor("client", "")
_ACCESS: web.RequestKey[_Access] = web.RequestKey("kernel.access", _Access)
_GIVEN: web.RequestKey[_Access] = web.RequestKey("kernel.access_given", _Access)


def requires(permission: str, *, fold: bool = False) -> Callable[[Handler], Handler]:
    """Let a handler run only for those who have `permission`.

    `fold` is for answers that come in crowds (frames): the audit counts them into one line per
    actor, study and five minutes. Handlers read the scope with `scope_of`.
    """
    if permission not in PERMISSIONS:
        raise ValueError(f"{permission} is not in kernel.web.guard.PERMISSIONS")

    def decorate(handler: Handler) -> Handler:
        @wraps(handler)
        async def guarded(request: web.Request) -> web.StreamResponse:
            ASKED_FROM.set(request.remote or "")
            if permission != PUBLIC:
                request[_SCOPE] = await _authorise(request, permission, fold=fold)
            return await handler(request)

        guarded.permission = permission  # type: ignore[attr-defined]
        return guarded

    return decorate


def permission_of(handler: object) -> str | None:
    """The permission a handler was given; None means that nobody thought of it."""
    return getattr(handler, "permission", None)


async def require_also(request: web.Request, permission: str) -> None:
    """Go on only for those who have this permission too: what they ask for depends on the request.

    The audit line names the permission, and the scope is what both permissions open: who may read
    here and see originals there sees no original anywhere.
    """
    if permission not in PERMISSIONS:
        raise ValueError(f"{permission} is not in kernel.web.guard.PERMISSIONS")
    before = request[_SCOPE]
    request[_SCOPE] = (await _authorise(request, permission, fold=False)).within(before)


def scope_of(request: web.Request) -> Scope:
    """What this request may touch. Only inside a handler with `requires`, not a public one."""
    return request[_SCOPE]


async def note_access(request: web.Request, response: web.StreamResponse) -> None:
    """Signal before an answer's headers go out: write the audit line with the outcome."""
    access = request.pop(_ACCESS, None)
    trail = request.config_dict.get(AUDIT)
    if access is None or trail is None:
        return
    refused: Outcome = "denied" if response.status in (401, 403) else "failed"
    outcome: Outcome = "ok" if response.status < 400 else refused
    trail.note(_record(request, access, outcome, {"status": response.status}))
    request[_GIVEN] = access


def note_broken(request: web.Request, why: str) -> None:
    """An answer ended before its end: a second line says that only a part was given."""
    access = request.get(_GIVEN)
    trail = request.config_dict.get(AUDIT)
    if access is None or trail is None:
        return
    sent = {"partial": True, "why": why, "bytes": request.writer.output_size}
    with suppress(AppError):
        trail.note(replace(_record(request, access, "failed", sent), fold=False))


async def _authorise(request: web.Request, permission: str, *, fold: bool) -> Scope:
    trail = request.config_dict.get(AUDIT)
    try:
        scope = await request.config_dict[GUARD].authorise(request, permission)
    except AppError as error:
        if trail is not None:
            access = _Access(permission, request.get(ACTOR, _NOBODY))
            await trail.note_synced(_record(request, access, "denied", {"code": error.code}))
        raise
    if trail is not None:
        trail.check()
        access = _Access(permission, scope.actor, scope, fold)
        if scope.purpose == EMERGENCY:
            opening = _record(request, access, "ok", {"begun": True})
            await trail.note_synced(replace(opening, fold=False))
        request[_ACCESS] = access
    return scope


def _record(
    request: web.Request, access: _Access, outcome: Outcome, more: Mapping[str, object]
) -> AuditRecord:
    path, resource = request.match_info, request.match_info.route.resource
    owners = access.scope.owners if access.scope else None
    route = resource.canonical if resource else ""
    return AuditRecord(
        actor=access.actor,
        action=access.permission,
        outcome=outcome,
        owner_id=next(iter(owners)) if owners and len(owners) == 1 else None,
        purpose=access.scope.purpose if access.scope else "",
        study_instance_uid=path.get("study", ""),
        refs=tuple(path[name] for name in ("series", "instance") if name in path),
        peer=request.remote or "",
        detail={"method": request.method, "route": route, **more},
        at=access.at,
        fold=access.fold,
    )
