"""What the overview shows: figures, senders, the state of the machine, refusals.

Each part is for who has its permission; all of it costs the same few queries however much is kept.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from archive.figures.service import Figures, figures
from archive.journal.node import journal_folder
from gateway.ae.service import list_aes
from identity.break_glass.service import waiting_reviews
from identity.organisations.domain import Tree
from identity.organisations.service import load_tree
from identity.presence.service import count_live
from kernel.audit.domain import AuditRecord
from kernel.audit.figures import last_of_nodes, recent_refusals
from kernel.db.database import Database
from kernel.i18n.catalog import marked
from kernel.jobs.service import count_waiting
from kernel.scope import Scope
from kernel.settings import Settings
from kernel.web.pages import Person
from server.console.studies import ActorNames
from server.health import parts_of_health, room

# A node that sent something on one of these days and is quiet since is worth a look.
SILENT_AFTER = timedelta(hours=24)
LOOK_BACK = timedelta(days=7)
TOP = 8


@dataclass(frozen=True, slots=True)
class Sender:
    """A DICOM node and when it was last heard of; None: not within `LOOK_BACK`."""

    title: str
    institution: str
    last_at: datetime | None
    silent: bool


@dataclass(slots=True)
class Overview:
    """Everything on the page; a part that is None is not for this person."""

    figures: Figures | None = None
    institutions: Sequence[tuple[str, int]] = ()
    sending: tuple[int, int] = (0, 0)  # institutions that had studies in the period, all of them
    senders: list[Sender] | None = None
    health: Mapping[str, Mapping[str, Any]] | None = None
    disk: tuple[int, int] = (0, 0)  # bytes used and all
    journal_bytes: int = 0
    waiting_jobs: int = 0
    sessions: int | None = None
    reviews: int | None = None
    refused: list[AuditRecord] | None = None
    names: Mapping[tuple[str, str], str] = field(default_factory=dict)  # of who was refused
    tree: Tree = field(default_factory=lambda: Tree(()))

    @property
    def first_steps(self) -> list[tuple[str, str, bool]]:
        """What a new installation needs, in order: (msgid, where, done); none once it is at work.

        Only for who sees every part of it.
        """
        if self.figures is None or self.senders is None or self.sessions is None:
            return []
        if self.figures.studies:
            return []
        known = any(one.kind == "institution" for one in self.tree.by_id.values() if one.id > 1)
        return [
            (marked("Bring in the organisations"), "/organisations/import", known),
            (marked("Make accounts and grant roles"), "/accounts/new", False),
            (marked("Register the first DICOM node"), "/aes/new", bool(self.senders)),
            (marked("Send a study from it: it appears here within seconds"), "/studies", False),
        ]

    @property
    def failing(self) -> list[str]:
        """The parts of the machine that do not work."""
        found = self.health or {}
        return [name for name, part in found.items() if part["status"] == "failing"]


async def overview(
    database: Database, people: Database, settings: Settings, person: Person, now: datetime
) -> Overview:
    """What `person` may see of the state at `now`; studies are counted in `people`."""
    found = Overview()
    studies = person.scope_for("archive.study.search")
    status = person.scope_for("system.status.read")
    async with database.session(Scope.system("overview")) as session:
        found.tree = await load_tree(session)
        await _people(session, person, found)
        nodes = person.scope_for("gateway.ae.manage")
        if nodes is not None:
            found.senders = await _senders(session, nodes, found.tree, now)
        if status is not None:
            found.waiting_jobs = await count_waiting(session)
    if found.refused:
        found.names = await ActorNames(database).of(
            {(one.actor.kind, one.actor.id) for one in found.refused}
        )
    if studies is not None:
        found.figures = await figures(people, studies, now.astimezone().date())
        _institutions(found, studies)
    if status is not None:
        found.health = await parts_of_health(settings, database)
        found.disk, found.journal_bytes = await asyncio.to_thread(_disk, settings)
    return found


async def _people(session: AsyncSession, person: Person, found: Overview) -> None:
    managed = person.scope_for("identity.account.manage")
    if managed is not None:
        found.sessions = await count_live(session, managed)
    reviewed = person.scope_for("identity.break_glass.review")
    if reviewed is not None:
        found.reviews = len(await waiting_reviews(session, reviewed))
    audited = person.scope_for("system.audit.read")
    if audited is not None:
        found.refused = await recent_refusals(session, audited)


async def _senders(session: AsyncSession, scope: Scope, tree: Tree, now: datetime) -> list[Sender]:
    nodes = await list_aes(session, scope)
    heard = await last_of_nodes(session, now - LOOK_BACK)
    senders = []
    for one in nodes:
        last = heard.get(one.title)
        place = tree.by_id.get(one.owner_id)
        silent = last is None or now - last > SILENT_AFTER
        senders.append(Sender(one.title, place.name if place else "", last, silent))
    oldest = datetime.fromtimestamp(0, UTC)
    return sorted(senders, key=lambda one: one.last_at or oldest, reverse=True)


def _institutions(found: Overview, scope: Scope) -> None:
    if found.figures is None:
        return
    counts: Counter[int] = Counter()
    for owner_id, count in found.figures.by_owner.items():
        known = owner_id in found.tree.by_id
        counts[found.tree.institution_of(owner_id) if known else owner_id] += count
    named = [
        (found.tree.by_id[one].short_name or found.tree.by_id[one].name, count)
        for one, count in counts.most_common(TOP)
        if one in found.tree.by_id
    ]
    local = sum(count for one, count in counts.items() if one not in found.tree.by_id)
    found.institutions = named + ([("—", local)] if local else [])
    active = [
        one
        for one in found.tree.by_id.values()
        if one.kind == "institution" and one.state == "active" and scope.covers(one.id)
    ]
    found.sending = (sum(1 for one in active if counts[one.id]), len(active))


def _disk(settings: Settings) -> tuple[tuple[int, int], int]:
    free, total = room(settings.data)
    journal = sum(one.stat().st_size for one in journal_folder(settings).glob("*.seg"))
    return (total - free, total), journal


def day_names(by_day: Mapping[date, int]) -> list[str]:
    """Days as an axis names them."""
    return [f"{day.month}/{day.day}" for day in by_day]
