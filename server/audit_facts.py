"""What the rules of abnormal use ask about people: names of accounts and of patients."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TypeVar

from archive.query.domain import Query
from archive.query.service import Catalog
from dicomweb.browse.facts import study_facts
from identity.accounts.service import get_account
from kernel.audit_rules.domain import Person
from kernel.db.database import Database
from kernel.errors import NotFound
from kernel.scope import Scope

STUDY_INSTANCE_UID = 0x0020000D
MOST_KEPT = 10_000
KNOWN_FOR_S = 60.0

Value = TypeVar("Value")
_SCOPE = Scope.system("audit rules")


class People:
    """Looks names up once and keeps some; nothing of it is written anywhere."""

    def __init__(self, database: Database, catalog: Catalog) -> None:
        self._database = database
        self._catalog = catalog
        self._accounts: dict[str, str] = {}
        self._persons: dict[str, Person] = {}
        self._since = time.monotonic()

    async def account_name(self, account_id: str) -> str:
        """The display name of an account; empty for a number that is none."""
        if account_id not in self._accounts:
            _keep(self._accounts, account_id, await self._account_name(account_id))
        return self._accounts[account_id]

    async def person_of(self, study_instance_uid: str, owner_id: int | None) -> Person:
        """The names of a study's patient, and whether a study of them is classified as `vip`."""
        del owner_id  # a study that two owners hold is of one person
        if time.monotonic() - self._since > KNOWN_FOR_S:  # names and kinds change
            self._persons.clear()
            self._since = time.monotonic()
        if study_instance_uid not in self._persons:
            match = {STUDY_INSTANCE_UID: study_instance_uid}
            found = await self._catalog.search(_SCOPE, Query("STUDY", match))
            names: set[str] = set()
            kinds: set[str] = set()
            for one in found.matches:
                patient = study_facts(one.dataset, one.received_at, datetime.now(UTC), 0).patient
                names.update(name for name in (patient.name, patient.other_name) if name)
                kinds.update(one.sensitivity.split(","))
            person = Person(tuple(sorted(names)), is_vip="vip" in kinds)
            _keep(self._persons, study_instance_uid, person)
        return self._persons[study_instance_uid]

    async def _account_name(self, account_id: str) -> str:
        if not account_id.isdigit():
            return ""
        try:
            async with self._database.session(_SCOPE) as session:
                return (await get_account(session, _SCOPE, int(account_id))).display_name
        except NotFound:
            return ""


def _keep(known: dict[str, Value], key: str, value: Value) -> None:
    if len(known) >= MOST_KEPT:
        known.clear()
    known[key] = value
