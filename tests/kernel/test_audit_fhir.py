"""FHIR R4 AuditEvent, validated by an independent library."""

from __future__ import annotations

import json
import warnings
from collections.abc import AsyncIterator, Collection
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from kernel.audit.service import append
from kernel.audit_pages import routes
from kernel.audit_rules.domain import read_rules
from kernel.db.database import Database
from kernel.db.tables import owner
from kernel.errors import Denied
from kernel.scope import Actor, Scope
from kernel.web.app import make_app
from kernel.web.guard import GUARD
from tests.kernel.test_audit_chain import NOON, record

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from fhir.resources.R4B.auditevent import AuditEvent
    from fhir.resources.R4B.bundle import Bundle

SYSTEM = Scope.system("test")


class OneOwner:
    """A guard that lets whoever says AUDITOR see the owners of the header."""

    async def authorise(self, request: web.Request, permission: str) -> Scope:
        if permission != "system.audit.read" or "Owners" not in request.headers:
            raise Denied("access.denied", "You may not do this.")
        owners = frozenset(int(one) for one in request.headers["Owners"].split(","))
        return Scope(owners, Actor("session", "1"), permission)


class Nobody:
    """Knows no names."""

    async def of(self, actors: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
        return {}

    async def called(self, text: str) -> list[tuple[str, str]]:
        return []


@pytest.fixture
async def base(database: Database) -> AsyncIterator[str]:
    app = make_app(database.settings)
    app[GUARD] = OneOwner()
    routes.setup(app, database, read_rules(), Nobody())
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/fhir/R4/AuditEvent"
    await runner.cleanup()


async def fill(database: Database, count: int = 30) -> None:
    async with database.session(SYSTEM, write=True) as session:
        await session.execute(owner.insert(), {"id": 2, "path": "/two", "state": "active"})
        for number in range(count):
            await append(session, record(number))


async def ask(url: str, owners: str = "1,2", **parameters: Any) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession(headers={"Owners": owners}) as client,
        client.get(url, params=parameters) as answer,
    ):
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "application/fhir+json"
        found: dict[str, Any] = json.loads(await answer.text())
        return found


def ids(body: dict[str, Any]) -> list[int]:
    return [int(one["resource"]["id"]) for one in body.get("entry", [])]


@pytest.mark.backend
async def test_events_are_valid_resources_and_pages_follow_each_other(
    base: str, database: Database
) -> None:
    await fill(database)
    seen: list[int] = []
    url: str | None = base + "?_count=7"
    while url:
        body = await ask(url)
        checked = Bundle.model_validate(body)
        for entry in checked.entry or []:
            assert isinstance(entry.resource, AuditEvent)
        seen += ids(body)
        url = next((one["url"] for one in body["link"] if one["relation"] == "next"), None)
    assert seen == list(range(30, 0, -1))


@pytest.mark.backend
async def test_events_are_found_by_date_agent_study_and_outcome(
    base: str, database: Database
) -> None:
    await fill(database)
    moment = (NOON + timedelta(seconds=10)).isoformat()
    assert ids(await ask(base, date=f"ge{moment}")) == list(range(30, 10, -1))
    assert ids(await ask(base, date=f"lt{moment}")) == list(range(10, 0, -1))
    day = NOON.astimezone().date().isoformat()
    assert len(ids(await ask(base, date=day))) == 30
    assert ids(await ask(base, date="lt2020-01-01")) == []
    assert ids(await ask(base, agent="session:7")) == [8]
    assert ids(await ask(base, agent="urn:yunying:actor|session:7")) == [8]
    assert ids(await ask(base, entity="urn:oid:1.2.5")) == [6]
    assert ids(await ask(base, entity="1.2.5", agent="session:7")) == []
    assert len(ids(await ask(base, outcome="4"))) == 10
    one = await ask(f"{base}/8")
    assert AuditEvent.model_validate(one).agent[0].who.identifier.value == "session:7"
    assert one["outcome"] == "4"
    assert one["entity"][0]["what"]["identifier"]["value"] == "urn:oid:1.2.7"


@pytest.mark.backend
async def test_an_auditor_of_one_institution_sees_its_lines_only(
    base: str, database: Database
) -> None:
    await fill(database)
    assert ids(await ask(base, owners="1")) == list(range(30, 0, -2))  # odd numbers are of owner 1
    assert ids(await ask(base, owners="2")) == []
    async with aiohttp.ClientSession() as client:
        async with client.get(f"{base}/1", headers={"Owners": "1"}) as answer:
            assert answer.status == 404  # of no single owner
        async with client.get(base) as answer:
            assert answer.status == 403


@pytest.mark.parametrize("parameter", ["patient=1", "date=yesterday", "page=x", "outcome=7"])
async def test_what_is_not_understood_is_refused(base: str, parameter: str) -> None:
    async with (
        aiohttp.ClientSession(headers={"Owners": "1"}) as client,
        client.get(f"{base}?{parameter}") as answer,
    ):
        assert answer.status == 400
        assert (await answer.json(content_type=None))["code"] == "audit.parameter"
