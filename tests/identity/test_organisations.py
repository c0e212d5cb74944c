"""Organisations in the database: life, moving, merging, history."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from identity.changes.service import versions
from identity.organisations.domain import Organisation
from identity.organisations.history import as_of, history
from identity.organisations.service import (
    Draft,
    check_active,
    create,
    edit,
    load_tree,
    merge,
    move,
    take_step,
)
from kernel.audit.service import recent
from kernel.db.database import Database
from kernel.errors import AppError, Conflict, Invalid, NotFound
from kernel.scope import Actor, Scope
from tests.identity.places import SYSTEM, Places

pytestmark = pytest.mark.backend


async def path_of(database: Database, organisation_id: int) -> str:
    async with database.session(SYSTEM) as session:
        return (await load_tree(session)).by_id[organisation_id].path


async def state_of(database: Database, organisation_id: int) -> str:
    async with database.session(SYSTEM) as session:
        return (await load_tree(session)).by_id[organisation_id].state


async def test_the_tree_has_the_paths_of_its_codes(database: Database, places: Places) -> None:
    assert await path_of(database, places.department) == "/52/5226/522601/H0001/D01"
    async with database.session(SYSTEM) as session:
        tree = await load_tree(session)
    below = [one.id for one in tree.subtree(places.county_a)]
    assert below == [places.county_a, places.hospital_a1, places.department, places.hospital_a2]
    assert tree.by_id[1].path == "/local"


async def test_a_hospital_that_moves_takes_its_departments_along(
    database: Database, places: Places
) -> None:
    async with database.session(SYSTEM, write=True) as session:
        await move(session, SYSTEM, places.hospital_a1, places.county_b)
    assert await path_of(database, places.department) == "/52/5226/522632/H0001/D01"
    assert await path_of(database, places.hospital_a2) == "/52/5226/522601/H0002"
    async with database.session(SYSTEM) as session:
        changes = [one.change for one in await history(session, places.department)]
    assert changes == ["created", "moved"]


async def test_a_county_cannot_move_and_nothing_stands_below_itself(
    database: Database, places: Places
) -> None:
    async with database.session(SYSTEM, write=True) as session:
        for what, where in (
            (places.county_a, places.county_b),
            (places.hospital_a1, places.hospital_a2),
            (places.prefecture, places.county_a),
        ):
            with pytest.raises(Invalid) as caught:
                await move(session, SYSTEM, what, where)
            assert caught.value.code == "organisation.parent"


async def test_a_scope_bounds_what_can_be_managed(database: Database, places: Places) -> None:
    scope = Scope(
        frozenset({places.county_a, places.hospital_a1}), Actor("session", "7"), "administration"
    )
    draft = Draft("institution", "H0999", "新医院")
    async with database.session(SYSTEM, write=True) as session:
        assert (await create(session, scope, draft, places.county_a)).state == "draft"
        for work in (
            create(session, scope, Draft("institution", "H0998", "别县"), places.county_b),
            create(session, scope, Draft("prefecture", "5227", "别州"), None),
            edit(session, scope, places.hospital_b1, {"name": "改名"}),
            move(session, scope, places.hospital_a1, places.county_b),
            take_step(session, scope, places.hospital_b1, "retire"),
        ):
            with pytest.raises(NotFound):
                await work


async def test_codes_are_used_once(database: Database, places: Places) -> None:
    good = Draft("institution", "H0500", "甲", uscc="9144030071526726XG")
    async with database.session(SYSTEM, write=True) as session:
        await create(session, SYSTEM, good, places.county_a)
        for draft in (
            Draft("institution", "H0001", "乙"),
            Draft("institution", "H0501", "丙", uscc=good.uscc),
        ):
            with pytest.raises(Conflict) as caught:
                await create(session, SYSTEM, draft, places.county_b)
            assert caught.value.code == "organisation.exists"
        with pytest.raises(Conflict):
            await edit(session, SYSTEM, places.hospital_b1, {"uscc": good.uscc})
        await create(session, SYSTEM, Draft("department", "D01", "同号科"), places.hospital_b1)


async def test_life_goes_from_draft_to_retired(database: Database, places: Places) -> None:
    async with database.session(SYSTEM, write=True) as session:
        made = await create(session, SYSTEM, Draft("institution", "H7", "某院"), places.county_a)
        for taken, state in (
            ("activate", "active"),
            ("suspend", "suspended"),
            ("resume", "active"),
            ("retire", "retired"),
        ):
            after = await take_step(session, SYSTEM, made.id, taken)
            assert after.state == state
        assert after.valid_until == datetime.now(UTC).date()
        with pytest.raises(Conflict) as caught:
            await take_step(session, SYSTEM, made.id, "resume")
    assert caught.value.code == "organisation.step"
    assert await state_of(database, made.id) == "retired"
    with pytest.raises(Conflict) as caught:
        check_active(after)
    assert caught.value.code == "organisation.not_active"


async def test_what_has_living_departments_cannot_retire(
    database: Database, places: Places
) -> None:
    async with database.session(SYSTEM, write=True) as session:
        with pytest.raises(Conflict) as caught:
            await take_step(session, SYSTEM, places.hospital_a1, "retire")
        assert caught.value.code == "organisation.has_children"
        await take_step(session, SYSTEM, places.department, "retire")
        await take_step(session, SYSTEM, places.hospital_a1, "retire")
        with pytest.raises(AppError) as refused:
            await create(session, SYSTEM, Draft("department", "D9", "新科"), places.hospital_a1)
    assert refused.value.code == "organisation.parent_state"


async def test_renaming_keeps_the_old_name_in_history(database: Database, places: Places) -> None:
    today = datetime.now(UTC).date()
    opened, renamed = date(1998, 5, 1), today - timedelta(days=30)
    async with database.session(SYSTEM, write=True) as session:
        made = await create(
            session,
            SYSTEM,
            Draft("institution", "H8", "旧名医院"),
            places.county_a,
            effective_on=opened,
        )
        await edit(session, SYSTEM, made.id, {"name": "新名医院"}, effective_on=renamed)
        with pytest.raises(Invalid) as caught:
            await edit(
                session,
                SYSTEM,
                made.id,
                {"name": "将来名"},
                effective_on=today + timedelta(days=1),
            )
    assert caught.value.code == "organisation.effective"
    async with database.session(SYSTEM) as session:
        names = [one.organisation.name for one in await history(session, made.id)]
        assert names[:2] == ["旧名医院", "新名医院"]

        async def name_on(day: date) -> str:
            found: Organisation | None = await as_of(session, made.id, day)
            return found.name if found else ""

        assert await name_on(renamed - timedelta(days=1)) == "旧名医院"
        assert await name_on(renamed) == "新名医院"
        assert await name_on(opened - timedelta(days=1)) == ""


async def test_a_merged_hospital_stands_retired_below_the_other(
    database: Database, places: Places
) -> None:
    async with database.session(SYSTEM, write=True) as session:
        merged = await merge(session, SYSTEM, places.hospital_a1, places.hospital_b1)
    assert merged.path == "/52/5226/522632/H0101/H0001"
    assert merged.merged_into_id == places.hospital_b1
    assert merged.state == "retired"
    assert await path_of(database, places.department) == "/52/5226/522632/H0101/H0001/D01"
    assert await state_of(database, places.department) == "retired"
    async with database.session(SYSTEM, write=True) as session:
        with pytest.raises(Invalid):
            await merge(session, SYSTEM, places.county_a, places.hospital_b1)
        with pytest.raises(Conflict):
            await merge(session, SYSTEM, places.hospital_a1, places.hospital_a2)


async def test_changes_are_audited_and_counted(database: Database, places: Places) -> None:
    before = (await versions(database))["rights"]
    async with database.session(SYSTEM, write=True) as session:
        await edit(session, SYSTEM, places.hospital_a1, {"short_name": "甲院"})
    assert (await versions(database))["rights"] == before + 1
    async with database.session(SYSTEM) as session:
        newest = (await recent(session, SYSTEM, limit=1))[0]
    assert newest.action == "identity.organisation.manage"
    assert newest.owner_id == places.hospital_a1
    assert newest.detail["change"] == "corrected"
