"""Rules of abnormal use: what is too much becomes a finding once, and is acknowledged once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kernel.audit.domain import AuditRecord
from kernel.audit.seal import seal
from kernel.audit.service import append
from kernel.audit_rules.domain import Person, Rule, is_within_hours, matches, read_rules
from kernel.audit_rules.service import acknowledge, findings, look
from kernel.db.database import Database
from kernel.errors import Invalid, NotFound
from kernel.scope import Actor, Scope

SYSTEM = Scope.system("test")
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC).astimezone().replace(hour=12)
RULES = {rule.code: rule for rule in read_rules()}


class Names:
    """Names of accounts and of the persons of studies."""

    async def account_name(self, account_id: str) -> str:
        return {"7": "杨秀英", "8": "Yang Xiu"}.get(account_id, "")

    async def person_of(self, study_instance_uid: str, owner_id: int | None) -> Person:
        known = {"1.1": ("杨秀英",), "1.9": ("龙胜",)}
        if study_instance_uid.startswith("5."):
            return Person(("杨" + study_instance_uid[2:],))
        return Person(known.get(study_instance_uid, ()), study_instance_uid == "1.9")


def read(study: str, at: datetime = NOON, actor: str = "7", **more: Any) -> AuditRecord:
    outcome = more.pop("outcome", "ok")
    return AuditRecord(
        Actor("session", actor), "archive.study.read", outcome, 1, study, at=at, **more
    )


async def happen(database: Database, records: Iterable[AuditRecord], *codes: str) -> None:
    async with database.session(SYSTEM, write=True) as session:
        for record in records:
            await append(session, record)
    await seal(database)
    await look(database, [RULES[code] for code in codes], Names())


async def found(database: Database, scope: Scope = SYSTEM, **more: Any) -> list[tuple[str, int]]:
    async with database.session(scope) as session:
        return [(one["rule"], one["number"]) for one in await findings(session, scope, **more)]


@pytest.mark.backend
async def test_many_different_studies_in_an_hour_are_one_finding(database: Database) -> None:
    few = [read(f"2.{n}", NOON + timedelta(seconds=n)) for n in range(120)]
    again = [read("2.1", NOON + timedelta(seconds=200 + n)) for n in range(50)]
    await happen(database, few + again, "bulk")
    assert await found(database) == []
    await happen(database, [read("2.500", NOON + timedelta(seconds=300))], "bulk")
    assert await found(database) == [("bulk", 121)]
    await happen(database, [read("2.501", NOON + timedelta(seconds=301))], "bulk")
    assert await found(database) == [("bulk", 122)]
    other = [read(f"3.{n}", NOON + timedelta(hours=n), actor="9") for n in range(20)]
    await happen(database, other, "bulk")
    assert len(await found(database)) == 1


@pytest.mark.backend
async def test_the_night_counts_by_local_time(database: Database) -> None:
    day = [read(f"2.{n}", NOON + timedelta(seconds=n)) for n in range(60)]
    await happen(database, day, "night")
    assert await found(database) == []
    late = NOON.replace(hour=23)
    await happen(
        database, [read(f"2.{n}", late + timedelta(seconds=n)) for n in range(41)], "night"
    )
    assert await found(database) == [("night", 41)]


@pytest.mark.backend
async def test_many_refusals_are_a_finding(database: Database) -> None:
    tries = [read("", NOON + timedelta(seconds=n), outcome="denied") for n in range(16)]
    await happen(database, tries, "denied")
    assert await found(database) == [("denied", 16)]


@pytest.mark.backend
async def test_the_own_name_a_protected_person_and_relatives_are_found(database: Database) -> None:
    await happen(database, [read("1.1"), read("1.2")], "own_name", "vip", "relatives")
    assert await found(database) == [("own_name", 1)]
    await happen(database, [read("1.9")], "own_name", "vip")
    assert sorted(await found(database)) == [("own_name", 1), ("vip", 1)]
    family = [read(f"5.{n}") for n in range(8)]
    await happen(database, family, "relatives")
    assert len(await found(database)) == 2
    await happen(database, [read("5.99")], "relatives")
    assert ("relatives", 9) in await found(database)


@pytest.mark.backend
async def test_a_finding_is_acknowledged_once_by_who_may_see_it(database: Database) -> None:
    await happen(database, [read("1.1")], "own_name")
    stranger = Scope(frozenset({99}), Actor("session", "3"), "system.audit.read")
    auditor = Scope(frozenset({1}), Actor("session", "2"), "system.audit.read")
    assert await found(database, stranger) == []
    async with database.session(SYSTEM) as session:
        (one,) = await findings(session, auditor)
    assert json.loads(one["facts"])["studies"] == ["1.1"]
    with pytest.raises(NotFound):
        async with database.session(stranger, write=True) as session:
            await acknowledge(session, stranger, one["id"], "mine")
    async with database.session(auditor, write=True) as session:
        await acknowledge(session, auditor, one["id"], "his own study, spoken to")
    assert await found(database) == []
    assert await found(database, is_open=False) == [("own_name", 1)]
    with pytest.raises(NotFound):
        async with database.session(auditor, write=True) as session:
            await acknowledge(session, auditor, one["id"], "again")


def test_hours_go_over_midnight() -> None:
    assert [hour for hour in range(24) if is_within_hours(hour, (22, 6))] == [
        0,
        1,
        2,
        3,
        4,
        5,
        22,
        23,
    ]
    assert [hour for hour in range(24) if is_within_hours(hour, (8, 10))] == [8, 9]


def test_names_are_compared_without_spaces_and_case() -> None:
    assert matches("own_name", "Yang Xiu", Person(("YANG^XIU",)))
    assert not matches("own_name", "", Person(("",)))
    assert matches("own_surname", "杨秀英", Person(("杨胜",)))
    assert not matches("own_surname", "杨秀英", Person(("杨秀英",)))  # that is the other rule
    assert not matches("own_surname", "杨秀英", Person(("龙胜",)))


@pytest.mark.parametrize(
    "change",
    [
        ('match = "own_name"', 'match = "friend"'),
        ("most = 120", "most = -1"),
        ("hours = [22, 6]", "hours = [22]"),
        ('code = "night"', 'code = "bulk"'),
        ("[[rule]]", "[[rule]"),
        ("within_s = 600", "within = 600"),
    ],
)
def test_rules_that_cannot_be_are_refused(tmp_path: Path, change: tuple[str, str]) -> None:
    from kernel.audit_rules.domain import BUILT_IN

    file = tmp_path / "rules.toml"
    file.write_text(BUILT_IN.read_text(encoding="utf-8").replace(*change), encoding="utf-8")
    with pytest.raises(Invalid) as caught:
        read_rules(file)
    assert caught.value.code == "audit.rules"


def test_every_rule_of_the_installation_is_read() -> None:
    assert all(isinstance(rule, Rule) for rule in RULES.values())
    assert set(RULES) >= {"bulk", "night", "own_name", "relatives", "denied", "vip"}
