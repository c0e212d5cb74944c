"""Everything that is granted within a scope, as rows of a review."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity.accounts.service import names_of
from identity.accounts.tables import account
from identity.clients.service import client_names
from identity.clients.tables import api_client
from identity.grants.domain import Subject
from identity.grants.tables import role_grant
from identity.sessions.tables import session as session_table
from kernel.scope import Scope


@dataclass(frozen=True, slots=True)
class Entitlement:
    """A grant with who holds it. `last_used_at` is of the person's last session; `granted_by` is
    a name, or what no name is known of."""

    subject: Subject
    name: str
    login: str
    state: str
    works_at: int | None
    role: str
    organisation_id: int | None
    valid_from: datetime
    valid_until: datetime | None
    reason: str
    granted_at: datetime
    granted_by: str
    last_used_at: datetime | None


async def entitlements(session: AsyncSession, scope: Scope) -> Sequence[Entitlement]:
    """What is granted now or later within `scope`, by person; in three queries."""
    used = (
        select(session_table.c.account_id, func.max(session_table.c.seen_at).label("seen_at"))
        .group_by(session_table.c.account_id)
        .subquery()
    )
    kind = role_grant.c.subject_kind
    wanted = (
        select(
            role_grant,
            account.c.display_name,
            account.c.login,
            account.c.state,
            account.c.organisation_id.label("works_at"),
            api_client.c.name.label("client"),
            api_client.c.organisation_id.label("client_at"),
            used.c.seen_at,
        )
        .outerjoin(account, and_(kind == "account", account.c.id == role_grant.c.subject_id))
        .outerjoin(api_client, and_(kind == "client", api_client.c.id == role_grant.c.subject_id))
        .outerjoin(used, used.c.account_id == account.c.id)
        .where(role_grant.c.withdrawn_at.is_(None))
        .where(or_(role_grant.c.valid_until.is_(None), role_grant.c.valid_until > time.time()))
        .order_by(kind, account.c.login, api_client.c.name, role_grant.c.id)
    )
    if scope.owners is not None:
        wanted = wanted.where(role_grant.c.organisation_id.in_(scope.owners))
    rows = (await session.execute(wanted)).all()
    givers = await _givers(session, [row.granted_by for row in rows])
    return [
        Entitlement(
            Subject(row.subject_kind, row.subject_id),
            row.display_name or row.client or "",
            row.login or "",
            row.state or "",
            row.works_at or row.client_at,
            row.role,
            row.organisation_id,
            row.valid_from,
            row.valid_until,
            row.reason,
            row.granted_at,
            givers.get(row.granted_by, row.granted_by),
            row.seen_at,
        )
        for row in rows
    ]


async def _givers(session: AsyncSession, said: Sequence[str]) -> Mapping[str, str]:
    """Names of those who granted, by what their grants say: `session:7`, `client:3`."""
    found: dict[str, str] = {}
    for kind, names in (("session", names_of), ("client", client_names)):
        ids = {int(one.partition(":")[2]) for one in said if one.startswith(f"{kind}:")}
        if ids:
            found |= {f"{kind}:{n}": name for n, name in (await names(session, ids)).items()}
    return found
