"""Grants and emergencies in the database."""

from __future__ import annotations

import time

import pytest

from identity.access.domain import Access
from identity.break_glass.service import Emergency, open_glass, open_now, review, waiting_reviews
from identity.changes.service import versions
from identity.grants.domain import Subject
from identity.grants.service import NewGrant, define_role, grant, load_rights, withdraw
from identity.organisations.service import merge, move
from kernel.audit.service import recent
from kernel.db.database import Database
from kernel.errors import AppError, Conflict, Denied, NotFound
from kernel.events.service import feed, number_events
from kernel.scope import Actor, Scope
from tests.identity.people import make_account
from tests.identity.places import SYSTEM, Places

pytestmark = pytest.mark.backend
READ = "archive.study.read"
REASON = "抢救：昏迷病人，需要既往影像"


async def give(database: Database, subject: Subject, role: str, place: int | None) -> int:
    async with database.session(SYSTEM, write=True) as session:
        return (await grant(session, None, NewGrant(subject, role, place))).id


async def owners(database: Database, subject: Subject) -> frozenset[int]:
    async with database.session(SYSTEM) as session:
        access = Access(await load_rights(session), await open_now(session))
    return access.owners_for(subject, READ, time.time())[0]


async def test_a_grant_covers_the_subtree_until_it_is_withdrawn(
    database: Database, places: Places
) -> None:
    doctor = Subject("account", (await make_account(database, "yang")).id)
    before = (await versions(database))["rights"]
    given = await give(database, doctor, "radiologist", places.county_a)
    assert (await versions(database))["rights"] == before + 1
    assert await owners(database, doctor) == {
        places.county_a,
        places.hospital_a1,
        places.hospital_a2,
        places.department,
    }
    async with database.session(SYSTEM, write=True) as session:
        await withdraw(session, None, given)
        with pytest.raises(NotFound):
            await withdraw(session, None, given)
    assert await owners(database, doctor) == frozenset()


async def test_rights_follow_a_hospital_that_moves_or_merges(
    database: Database, places: Places
) -> None:
    county = Subject("account", (await make_account(database, "yang")).id)
    hospital = Subject("account", (await make_account(database, "long")).id)
    await give(database, county, "clinician", places.county_b)
    await give(database, hospital, "clinician", places.hospital_b1)
    async with database.session(SYSTEM, write=True) as session:
        await move(session, SYSTEM, places.hospital_a2, places.county_b)
    assert await owners(database, county) == {
        places.county_b,
        places.hospital_b1,
        places.hospital_a2,
    }
    async with database.session(SYSTEM, write=True) as session:
        await merge(session, SYSTEM, places.hospital_a2, places.hospital_b1)
    assert await owners(database, hospital) == {places.hospital_b1, places.hospital_a2}


async def test_grants_to_come_and_over_are_not_in_force(database: Database, places: Places) -> None:
    doctor = Subject("account", (await make_account(database, "yang")).id)
    now = time.time()
    async with database.session(SYSTEM, write=True) as session:
        later = NewGrant(doctor, "clinician", places.hospital_a1, valid_from=now + 3600)
        await grant(session, None, later)
    assert await owners(database, doctor) == frozenset()
    async with database.session(SYSTEM) as session:
        rights = await load_rights(session)
    assert rights.owners_for(doctor, READ, now + 3601) == {places.hospital_a1, places.department}


async def test_an_administrator_grants_inside_the_county_only(
    database: Database, places: Places
) -> None:
    admin = Subject("account", (await make_account(database, "admin-a")).id)
    doctor = Subject("account", (await make_account(database, "yang")).id)
    await give(database, admin, "county_admin", places.county_a)
    async with database.session(SYSTEM, write=True) as session:
        inside = NewGrant(doctor, "radiologist", places.hospital_a1)
        made = await grant(session, admin, inside)
        for place in (places.hospital_b1, places.prefecture, None):
            with pytest.raises(Denied) as caught:
                await grant(session, admin, NewGrant(doctor, "radiologist", place))
            assert caught.value.code == "grant.scope"
        with pytest.raises(Denied):
            await withdraw(session, doctor, made.id)
        await withdraw(session, admin, made.id)
        newest = (await recent(session, SYSTEM, limit=1))[0]
    assert (newest.action, newest.actor.id) == ("identity.role.grant", str(admin.id))
    assert newest.owner_id == places.hospital_a1 and newest.detail["change"] == "withdrawn"


async def test_an_installation_makes_roles_of_its_own(database: Database, places: Places) -> None:
    doctor = Subject("account", (await make_account(database, "yang")).id)
    async with database.session(SYSTEM, write=True) as session:
        await define_role(session, "town_doctor", "乡镇医生", ["archive.study.read"])
        for code in ("town_doctor", "auditor"):
            with pytest.raises(Conflict):
                await define_role(session, code, "x", ["archive.study.read"])
    await give(database, doctor, "town_doctor", places.hospital_b1)
    assert await owners(database, doctor) == {places.hospital_b1}


async def test_breaking_the_glass_opens_and_files_a_review(
    database: Database, places: Places
) -> None:
    doctor = await make_account(database, "yang")
    reviewer = await make_account(database, "shi")
    stranger = await make_account(database, "pan")
    subject = Subject("account", doctor.id)
    await give(database, subject, "clinician", places.hospital_a1)
    await give(database, Subject("account", reviewer.id), "medical_affairs", places.county_b)
    await give(database, Subject("account", stranger.id), "medical_affairs", places.county_a)
    wanted = Emergency(places.hospital_b1, REASON, "1.2.3")
    async with database.session(SYSTEM, write=True) as session:
        opened = await open_glass(session, doctor.id, wanted, peer="10.0.0.1")
        for bad, code in (
            (Emergency(places.hospital_b1, "急"), "break_glass.reason"),
            (Emergency(999, REASON), "break_glass.place"),
            (Emergency(places.hospital_b1, REASON, lasts_s=1e9), "break_glass.time"),
        ):
            with pytest.raises(AppError) as caught:
                await open_glass(session, doctor.id, bad)
            assert caught.value.code == code
        with pytest.raises(Denied):
            await open_glass(session, reviewer.id, wanted)
    assert places.hospital_b1 in await owners(database, subject)

    async with database.session(SYSTEM, write=True) as session:
        county_b = Scope(frozenset({places.hospital_b1}), Actor("session", "9"), "x")
        county_a = Scope(frozenset({places.hospital_a1}), Actor("session", "9"), "x")
        assert [one.id for one in await waiting_reviews(session, county_b)] == [opened.id]
        assert await waiting_reviews(session, county_a) == []
        with pytest.raises(NotFound):
            await review(session, stranger.id, opened.id, "justified")
        with pytest.raises(AppError):
            await review(session, reviewer.id, opened.id, "unjustified")
        closed = await review(session, reviewer.id, opened.id, "unjustified", "没有抢救记录")
        assert closed.state == "unjustified" and closed.reviewed_by == reviewer.id
        with pytest.raises(Conflict):
            await review(session, reviewer.id, opened.id, "justified")
        assert await waiting_reviews(session, SYSTEM) == []
        records = [one for one in await recent(session, SYSTEM) if one.purpose == "emergency"]
    assert [one.action for one in records] == [
        "identity.break_glass.review",
        "identity.break_glass.use",
    ]
    assert records[1].study_instance_uid == "1.2.3" and records[1].peer == "10.0.0.1"
    await number_events(database)
    topics = [one.topic for one in await feed(database, 0, 100)]
    assert topics[-2:] == ["access.break_glass_opened.v1", "access.break_glass_reviewed.v1"]


async def test_nobody_reviews_their_own_emergency(database: Database, places: Places) -> None:
    admin = await make_account(database, "boss")
    await give(database, Subject("account", admin.id), "platform_admin", None)
    async with database.session(SYSTEM, write=True) as session:
        opened = await open_glass(session, admin.id, Emergency(places.hospital_a1, REASON))
        with pytest.raises(Conflict) as caught:
            await review(session, admin.id, opened.id, "justified")
    assert caught.value.code == "break_glass.own"
