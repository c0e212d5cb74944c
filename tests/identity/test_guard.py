"""The guard over a real socket: who is let in, to what, and how soon no longer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial

import pytest

from identity.accounts.service import edit_account, take_step
from identity.break_glass.service import Emergency, open_glass
from identity.capabilities.domain import Capability, Caveat, attenuate, verify
from identity.capabilities.service import add_key, issue, revoke
from identity.clients.service import NewClient, create_client, revoke_client
from identity.grants.domain import Subject
from identity.grants.service import NewGrant, grant, withdraw
from identity.guard.keeper import STALE_S, Keeper
from identity.organisations.service import move
from identity.sessions.service import end_sessions
from kernel.audit.trail import trail_folder
from kernel.audit.wire import from_line
from kernel.db.database import Database
from kernel.errors import Unavailable
from kernel.scope import Actor
from tests.identity.people import PASSWORD, make_account
from tests.identity.places import SYSTEM, Places
from tests.identity.site import Client, Site, serve_site
from tests.waiting import eventually

READ, SEARCH = "archive.study.read", "archive.study.search"


@pytest.fixture
async def site(database: Database) -> AsyncIterator[Site]:
    async with serve_site(database, audit=True) as served:
        yield served


async def person(site: Site, login: str, role: str, place: int | None) -> tuple[int, int]:
    """An account with a role: (account, grant)."""
    account = await make_account(site.database, login)
    async with site.database.session(SYSTEM, write=True) as session:
        new = NewGrant(Subject("account", account.id), role, place)
        given = await grant(session, None, new)
    await site.keeper.look()
    return account.id, given.id


async def refused(client: Client, path: str = "/search", **headers: str) -> bool:
    return (await client.get(path, **headers)).status in (401, 403)


@pytest.mark.backend
async def test_each_person_sees_the_own_subtree(site: Site, places: Places) -> None:
    await person(site, "yang", "radiologist", places.hospital_a1)
    await person(site, "boss", "platform_admin", None)
    async with site.client() as anybody:
        answer = await anybody.get("/search")
        assert (answer.status, answer.code) == (401, "access.unknown")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    async with site.client() as yang, site.client() as boss:
        await yang.sign_in("yang", PASSWORD)
        await boss.sign_in("boss", PASSWORD)
        found = (await yang.get("/search")).json
        assert found["owners"] == [places.hospital_a1, places.department]
        assert found["actor"][0] == "session"
        assert {1, places.hospital_b1} <= set((await boss.get("/search")).json["owners"])


@pytest.mark.backend
async def test_a_change_of_rights_is_in_force_in_every_process_soon(
    site: Site, places: Places
) -> None:
    account_id, given = await person(site, "yang", "radiologist", places.hospital_a1)
    async with serve_site(site.database) as other, site.client() as here:
        await here.sign_in("yang", PASSWORD)
        there = Client(other.base, here.session)  # the cookie counts for every port of the host
        assert not await refused(here) and not await refused(there)

        async with site.database.session(SYSTEM, write=True) as session:
            await move(session, SYSTEM, places.hospital_a2, places.county_b)
            second = NewGrant(Subject("account", account_id), "clinician", places.county_b)
            await grant(session, None, second)

        async def sees_more(client: Client) -> bool:
            return places.hospital_a2 in (await client.get("/search")).json["owners"]

        for client in (here, there):
            await eventually(partial(sees_more, client))

        async with site.database.session(SYSTEM, write=True) as session:
            await end_sessions(session, account_id, "kicked")
        for client in (here, there):
            await eventually(partial(refused, client))
        async with site.database.session(SYSTEM, write=True) as session:
            await withdraw(session, None, given)


async def test_warm_requests_read_nothing_from_the_database(
    site: Site, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    await person(site, "yang", "radiologist", places.hospital_a1)
    async with site.client() as yang:
        await yang.sign_in("yang", PASSWORD)
        await yang.get("/search")
        asked: list[str] = []
        fetch = site.database.fetch

        async def counted(statement, params, scope=None):  # type: ignore[no-untyped-def]
            if "token_hash" in params:
                asked.append("session")
            return await fetch(statement, params, scope)

        monkeypatch.setattr(site.database, "fetch", counted)
        monkeypatch.setattr(site.database, "session", None)
        for _ in range(20):
            assert (await yang.get("/search")).status == 200
        assert asked == []
        monkeypatch.undo()


async def test_a_suspended_person_and_a_foreign_network_are_out(site: Site, places: Places) -> None:
    account_id, _ = await person(site, "yang", "radiologist", places.hospital_a1)
    async with site.client() as yang:
        await yang.sign_in("yang", PASSWORD)
        assert not await refused(yang)
        async with site.database.session(SYSTEM, write=True) as session:
            await edit_account(session, SYSTEM, account_id, {"networks": "10.0.0.0/8"})
            await end_sessions(session, account_id, "network changed")
        await eventually(lambda: refused(yang))
        answer = await yang.sign_in("yang", PASSWORD)
        assert answer.status == 403
        async with site.database.session(SYSTEM, write=True) as session:
            await edit_account(session, SYSTEM, account_id, {"networks": "127.0.0.0/8"})
        await yang.sign_in("yang", PASSWORD)
        assert not await refused(yang)
        async with site.database.session(SYSTEM, write=True) as session:
            await take_step(session, SYSTEM, account_id, "suspend")
        await eventually(lambda: refused(yang))


async def test_a_session_ends_by_idleness(site: Site, places: Places) -> None:
    await person(site, "yang", "radiologist", places.hospital_a1)
    async with site.client() as yang:
        await yang.sign_in("yang", PASSWORD)
        site.guard._clock = lambda: time.time() + 1799
        assert not await refused(yang)
        site.guard._clock = lambda: time.time() + 1799 + 1801
        assert await refused(yang)


async def test_requests_of_other_sites_change_nothing(site: Site, places: Places) -> None:
    await person(site, "yang", "radiologist", places.hospital_a1)
    async with site.client() as yang:
        await yang.sign_in("yang", PASSWORD)
        assert (await yang.post("/studies")).status == 200
        foreign = await yang.post("/studies", Origin="http://evil.example")
        assert foreign.status == 403 and foreign.code == "web.origin"
        crossing = await yang.post("/studies", **{"Sec-Fetch-Site": "cross-site"})
        assert crossing.code == "access.csrf"
        bare = await yang._ask("POST", "/studies", {}, {})
        assert bare.code == "access.csrf"
        assert (await yang.get("/search", Host="evil.example")).status == 421


@pytest.mark.backend
async def test_clients_ask_with_bearer_tokens(site: Site, places: Places) -> None:
    yang, _ = await person(site, "yang", "radiologist", places.hospital_a1)
    async with site.database.session(SYSTEM, write=True) as session:
        own, own_token = await create_client(
            session, SYSTEM, NewClient("PACS", None, places.hospital_b1)
        )
        new = NewGrant(Subject("client", own.id), "reader", places.hospital_b1)
        await grant(session, None, new)
        _, narrow = await create_client(session, SYSTEM, NewClient("s", yang, None, [SEARCH]))
        _, away = await create_client(
            session, SYSTEM, NewClient("away", yang, networks="10.0.0.0/8")
        )
    async with site.client() as program:  # a fresh token counts at once
        bearer = {"Authorization": f"Bearer {own_token}"}
        found = (await program.get("/search", **bearer)).json
        assert (found["owners"], found["actor"]) == (
            [places.hospital_b1],
            ["client", str(own.id)],
        )
        assert (await program._ask("POST", "/studies", {}, bearer)).code == "access.denied"
        scoped = {"Authorization": f"bearer {narrow}"}
        assert (await program.get("/search", **scoped)).json["owners"] == [
            places.hospital_a1,
            places.department,
        ]
        assert (await program.get("/studies/1.2", **scoped)).code == "access.denied"
        remote = await program.get("/search", Authorization=f"Bearer {away}")
        assert remote.code == "access.network"
        for wrong in (own_token + "x", "x", "", "yyt_", "yyc_x"):
            assert await refused(program, Authorization=f"Bearer {wrong}")
        async with site.database.session(SYSTEM, write=True) as session:
            await revoke_client(session, SYSTEM, own.id)
        await eventually(lambda: refused(program, **bearer))


@pytest.mark.backend
async def test_a_capability_opens_its_study_and_nothing_else(site: Site, places: Places) -> None:
    yang, _ = await person(site, "yang", "clinician", places.hospital_a1)
    caveat = Caveat(
        frozenset({"1.2.3", "1.2.4"}), frozenset({READ, SEARCH}), time.time() + 60, "share"
    )
    async with site.database.session(SYSTEM, write=True) as session:
        await add_key(session)
    await site.keeper.look()
    known = await site.keeper.current()
    async with site.database.session(SYSTEM, write=True) as session:
        token = await issue(session, known.access, known.keys, yang, places.hospital_a1, caveat)
    narrow = attenuate(token, Caveat(studies=frozenset({"1.2.3"})))

    def opened(text: str) -> Capability:
        return verify(text, known.keys.by_id, frozenset(), time.time())

    async with site.client() as anybody:

        async def code(path: str, text: str, method: str = "GET") -> str:
            headers = {"Authorization": f"Bearer {text}"}
            answer = await anybody._ask(method, path, None, headers)
            return "" if answer.status == 200 else f"{answer.status} {answer.code}"

        answer = await anybody.get("/studies/1.2.3", Authorization=f"Bearer {narrow}")
        assert answer.json["owners"] == [places.hospital_a1]
        assert answer.json["actor"] == ["capability", opened(token).id]
        assert answer.json["purpose"] == "share"
        assert await code("/studies/1.2.4", token) == ""
        assert await code("/studies/1.2.4", narrow) == "404 study.not_found"
        assert await code("/studies/9.9", token) == "404 study.not_found"
        assert await code("/search", token) == "403 capability.beyond"
        assert await code("/studies", token, "POST") == "403 capability.beyond"
        assert await code("/account", token) == "403 capability.beyond"
        async with site.database.session(SYSTEM, write=True) as session:
            await revoke(session, opened(narrow), Actor("session", str(yang)))

        async def is_revoked() -> bool:
            return await code("/studies/1.2.3", narrow) == "403 capability.revoked"

        await eventually(is_revoked)
        assert await code("/studies/1.2.3", token) == ""


async def test_an_emergency_opens_and_is_written_down_first(site: Site, places: Places) -> None:
    yang, _ = await person(site, "yang", "clinician", places.hospital_a1)
    async with site.client() as doctor:
        await doctor.sign_in("yang", PASSWORD)
        wanted = Emergency(places.hospital_b1, "抢救：昏迷病人，需要既往影像")
        async with site.database.session(SYSTEM, write=True) as session:
            await open_glass(session, yang, wanted)
        await site.keeper.look()
        answer = (await doctor.get("/studies/1.2.3")).json
        assert places.hospital_b1 in answer["owners"] and answer["purpose"] == "emergency"
        assert (await doctor.post("/studies")).code == "access.denied"
    lines = b"".join(
        file.read_bytes() for file in trail_folder(site.database.settings).glob("*.log")
    )
    written = [from_line(line) for line in lines.splitlines()]
    first = next(one for one in written if one.purpose == "emergency")
    assert first.detail["begun"] is True and first.study_instance_uid == "1.2.3"


async def test_an_emergency_for_one_study_opens_that_study_only(site: Site, places: Places) -> None:
    yang, _ = await person(site, "yang", "clinician", places.hospital_a1)
    async with site.client() as doctor:
        await doctor.sign_in("yang", PASSWORD)
        wanted = Emergency(places.hospital_b1, "抢救：昏迷病人，需要既往影像", "1.2.3")
        async with site.database.session(SYSTEM, write=True) as session:
            await open_glass(session, yang, wanted)
        await site.keeper.look()
        assert places.hospital_b1 in (await doctor.get("/studies/1.2.3")).json["owners"]
        for path in ("/studies/1.2.4", "/search"):
            assert places.hospital_b1 not in (await doctor.get(path)).json["owners"]


async def test_a_refusal_names_who_was_refused(site: Site, places: Places) -> None:
    account_id, _ = await person(site, "yang", "health_bureau_officer", places.county_a)
    async with site.client() as officer:
        await officer.sign_in("yang", PASSWORD)
        assert (await officer.get("/studies/1.2.3")).code == "access.denied"
    lines = b"".join(
        file.read_bytes() for file in trail_folder(site.database.settings).glob("*.log")
    )
    denied = [one for one in map(from_line, lines.splitlines()) if one.outcome == "denied"]
    assert (denied[-1].actor, denied[-1].action) == (Actor("session", str(account_id)), READ)


async def test_a_process_that_cannot_look_refuses(database: Database) -> None:
    now = [100.0]
    keeper = Keeper(database, clock=lambda: now[0])
    assert await keeper.current()
    looked = keeper.look

    async def cannot() -> None:
        raise Unavailable("database.unreachable", "The database server does not answer.")

    keeper.look = cannot  # type: ignore[method-assign]
    now[0] += STALE_S - 0.1
    assert await keeper.current()
    now[0] += 0.1
    with pytest.raises(Unavailable) as caught:
        await keeper.current()
    assert caught.value.code == "access.stale"
    keeper.look = looked  # type: ignore[method-assign]
    assert await keeper.current()


async def test_a_session_that_ends_while_it_is_read_is_not_kept(
    site: Site, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    account_id, _ = await person(site, "yang", "radiologist", places.hospital_a1)
    fetch = site.database.fetch
    ended = asyncio.Event()

    async def slow(statement, params, scope=None):  # type: ignore[no-untyped-def]
        rows = await fetch(statement, params, scope)
        if "token_hash" in params and rows and not ended.is_set():
            ended.set()
            async with site.database.session(SYSTEM, write=True) as session:
                await end_sessions(session, account_id, "kicked")
            await site.keeper.look()
        return rows

    async with site.client() as yang:
        monkeypatch.setattr(site.database, "fetch", slow)
        await yang.sign_in("yang", PASSWORD)
        assert await refused(yang)
        monkeypatch.undo()
