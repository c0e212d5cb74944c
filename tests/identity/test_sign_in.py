"""Signing in: passwords, lockout, forced change, second factor, sessions and ending them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pyotp
import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from identity.accounts import totp
from identity.accounts.passwords import Hashing
from identity.accounts.service import (
    edit_account,
    find_account,
    get_account,
    list_accounts,
    password_is_due,
    reset_password,
    take_step,
)
from identity.changes.service import versions
from identity.first_start.service import ensure_admin
from identity.sessions.domain import is_over
from identity.sessions.service import (
    BY_TOKEN,
    ENDED_SINCE,
    end_session,
    end_sessions,
    live_sessions,
    note_seen,
)
from identity.sign_in.service import SignedIn, SignIn, Visitor
from identity.tokens.domain import fingerprint
from kernel.audit.service import recent
from kernel.db.database import Database
from kernel.errors import AppError, Conflict, Denied, Invalid, NotFound
from kernel.scope import Actor, Scope
from kernel.settings import AccessSettings
from tests.identity.people import PASSWORD, hashed, make_account
from tests.identity.places import SYSTEM, Places

HERE = Visitor("10.52.0.9", "test browser")
SECRET_TABLES = (
    "account_secret",
    "api_client",
    "capability_key",
    "password_history",
    "recovery_code",
    "session",
)
NEW, NEWER = "Lusheng-42-pipes", "Lusheng-43-pipes"


class Clock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sign_in(database: Database, clock: Clock) -> SignIn:
    return SignIn(database, AccessSettings(), Hashing(), clock)


async def code_of(work: object) -> str:
    with pytest.raises(AppError) as caught:
        await work  # type: ignore[misc]
    return caught.value.code


@pytest.mark.backend
async def test_the_first_start_makes_one_admin_who_must_change_the_password(
    database: Database, sign_in: SignIn
) -> None:
    hashing = sign_in.hashing
    made = await asyncio.gather(
        *(ensure_admin(database, sign_in.policy, hashing) for _ in range(3))
    )
    (admin,) = [one for one in made if one is not None]
    account, password = admin
    async with database.session(SYSTEM) as session:
        assert await password_is_due(session)
    begun = await sign_in.with_password("Admin", password, HERE)
    assert begun.session.stage == "password"
    changed = await sign_in.change_password(begun.session.account_id, password, NEW, HERE)
    assert changed.session.stage == "full" and changed.session.account_id == account.id
    async with database.session(SYSTEM) as session:
        assert not await password_is_due(session)
        assert [one.id for one in await live_sessions(session, account.id)] == [changed.session.id]
    assert await code_of(sign_in.with_password("admin", password, HERE)) == "sign_in.wrong"


@pytest.mark.backend
async def test_only_the_hash_of_a_token_is_kept(database: Database, sign_in: SignIn) -> None:
    await make_account(database, "yang")
    begun = await sign_in.with_password("yang", PASSWORD, HERE)
    rows = await database.fetch(BY_TOKEN, {"token_hash": fingerprint(begun.token)})
    assert [(row[1], row[2]) for row in rows] == [(begun.session.account_id, "full")]
    assert not await database.fetch(BY_TOKEN, {"token_hash": begun.token})


@pytest.mark.backend
async def test_wrong_and_unknown_names_are_refused_alike_and_written_down(
    database: Database, sign_in: SignIn
) -> None:
    await make_account(database, "yang")
    assert await code_of(sign_in.with_password("yang", "wrong", HERE)) == "sign_in.wrong"
    assert await code_of(sign_in.with_password("nobody", PASSWORD, HERE)) == "sign_in.wrong"
    async with database.session(SYSTEM) as session:
        records = [one for one in await recent(session, SYSTEM) if one.action == "identity.sign_in"]
    assert [one.outcome for one in records] == ["denied", "denied"]
    assert all(one.peer == HERE.peer for one in records)
    assert "nobody" not in str(records)


@pytest.mark.backend
async def test_five_wrong_passwords_lock_for_a_while_also_when_tried_at_once(
    database: Database, sign_in: SignIn, clock: Clock
) -> None:
    await make_account(database, "yang")
    tries = (sign_in.with_password("yang", f"wrong {n}", HERE) for n in range(8))
    codes = [one.code for one in await asyncio.gather(*tries, return_exceptions=True)]  # type: ignore[union-attr]
    assert sorted(codes) == ["sign_in.locked"] * 3 + ["sign_in.wrong"] * 5
    assert await code_of(sign_in.with_password("yang", PASSWORD, HERE)) == "sign_in.locked"
    clock.now += sign_in.policy.lockout_s
    assert (await sign_in.with_password("yang", PASSWORD, HERE)).session.stage == "full"
    for _ in range(4):
        await code_of(sign_in.with_password("yang", "wrong", HERE))
    assert (await sign_in.with_password("yang", PASSWORD, HERE)).session.stage == "full"


async def test_a_suspended_account_and_a_foreign_network_are_told_only_to_who_knows(
    database: Database, sign_in: SignIn
) -> None:
    yang = await make_account(database, "yang", networks="10.53.0.0/16")
    assert await code_of(sign_in.with_password("yang", PASSWORD, HERE)) == "sign_in.network"
    assert await code_of(sign_in.with_password("yang", "wrong", HERE)) == "sign_in.wrong"
    inside = Visitor("10.53.1.1", "")
    assert (await sign_in.with_password("yang", PASSWORD, inside)).session.stage == "full"
    async with database.session(SYSTEM, write=True) as session:
        await take_step(session, SYSTEM, yang.id, "suspend")
    assert await code_of(sign_in.with_password("yang", PASSWORD, inside)) == "sign_in.suspended"
    async with database.session(SYSTEM, write=True) as session:
        await take_step(session, SYSTEM, yang.id, "leave")
        with pytest.raises(Conflict):
            await take_step(session, SYSTEM, yang.id, "resume")
    closed = SignIn(database, AccessSettings(networks=("10.99.0.0/16",)), sign_in.hashing)
    await make_account(database, "long")
    assert await code_of(closed.with_password("long", PASSWORD, HERE)) == "sign_in.network"


@pytest.mark.backend
async def test_an_old_password_must_be_changed_and_the_last_ones_do_not_come_again(
    database: Database, sign_in: SignIn, clock: Clock
) -> None:
    await make_account(database, "yang")
    clock.now += 91 * 86400
    begun = await sign_in.with_password("yang", PASSWORD, HERE)
    assert begun.session.stage == "password"
    person = begun.session.account_id

    async def change(old: str, new: str) -> str:
        return (await sign_in.change_password(person, old, new, HERE)).session.stage

    assert await code_of(change("wrong", NEW)) == "password.wrong"
    assert await code_of(change(PASSWORD, PASSWORD)) == "password.again"
    assert await code_of(change(PASSWORD, "abc")) == "password.short"
    clock.now += 3600
    assert await change(PASSWORD, NEW) == "full"
    assert await code_of(change(NEW, PASSWORD)) == "password.again"
    assert await change(NEW, NEWER) == "full"
    short = SignIn(database, AccessSettings(password_history=1), sign_in.hashing, clock)
    await short.change_password(person, NEWER, PASSWORD, HERE)


@pytest.mark.backend
async def test_a_reset_password_must_be_changed(database: Database, sign_in: SignIn) -> None:
    yang = await make_account(database, "yang")
    async with database.session(SYSTEM, write=True) as session:
        await reset_password(session, SYSTEM, yang.id, await hashed(NEW), sign_in.policy)
    assert await code_of(sign_in.with_password("yang", PASSWORD, HERE)) == "sign_in.wrong"
    assert (await sign_in.with_password("yang", NEW, HERE)).session.stage == "password"


@pytest.mark.backend
async def test_a_second_factor_is_asked_for_and_each_code_works_once(
    database: Database, sign_in: SignIn, clock: Clock
) -> None:
    yang = await make_account(database, "yang")
    async with database.session(SYSTEM, write=True) as session:
        secret, address = await totp.begin(session, yang.id, "yang")
        assert address.startswith("otpauth://totp/") and secret in address
        with pytest.raises(Invalid):
            await totp.confirm(session, yang.id, "000000", clock)
        assert not await totp.is_on(session, yang.id)
        code = pyotp.TOTP(secret).at(int(clock.now))
        recovery = await totp.confirm(session, yang.id, code, clock)
        with pytest.raises(Conflict):
            await totp.begin(session, yang.id, "yang")
    assert len(set(recovery)) == 10

    async def give(pending: SignedIn, code: str) -> SignedIn:
        return await sign_in.with_code(pending.session.id, yang.id, code, HERE)

    pending = await sign_in.with_password("yang", PASSWORD, HERE)
    assert pending.session.stage == "code"
    assert await code_of(give(pending, code)) == "sign_in.code"
    clock.now += 30
    fresh = pyotp.TOTP(secret).at(int(clock.now))
    full = await give(pending, fresh)
    assert full.session.stage == "full" and full.token != pending.token
    async with database.session(SYSTEM) as session:
        live = [one.id for one in await live_sessions(session, yang.id)]
    assert live == [full.session.id]

    again = await sign_in.with_password("yang", PASSWORD, HERE)
    lost_phone = recovery[3].lower().replace("-", " ")
    assert (await give(again, lost_phone)).session.stage == "full"
    again = await sign_in.with_password("yang", PASSWORD, HERE)
    assert await code_of(give(again, recovery[3])) == "sign_in.code"
    for _ in range(3):
        await code_of(give(again, "123456"))
    assert await code_of(give(again, recovery[4])) == "sign_in.locked"
    async with database.session(SYSTEM, write=True) as session:
        await totp.switch_off(session, yang.id)
    clock.now += 3600
    assert (await sign_in.with_password("yang", PASSWORD, HERE)).session.stage == "full"


@pytest.mark.backend
async def test_sessions_are_listed_and_kicked(database: Database, sign_in: SignIn) -> None:
    yang = await make_account(database, "yang")
    other = await make_account(database, "long")
    first = await sign_in.with_password("yang", PASSWORD, HERE)
    second = await sign_in.with_password("yang", PASSWORD, replace(HERE, agent="x" * 999))
    before = (await versions(database))["revocation"]
    async with database.session(SYSTEM, write=True) as session:
        assert len(await live_sessions(session, yang.id)) == 2
        with pytest.raises(NotFound):
            await end_session(session, other.id, first.session.id, "kicked")
        await end_session(session, yang.id, first.session.id, "kicked")
        with pytest.raises(NotFound):
            await end_session(session, yang.id, first.session.id, "kicked")
    assert (await versions(database))["revocation"] == before + 1
    ended = await database.fetch(ENDED_SINCE, {"since": time.time() - 60})
    assert ended == [(fingerprint(first.token),)]
    assert not await database.fetch(BY_TOKEN, {"token_hash": fingerprint(first.token)})
    async with database.session(SYSTEM, write=True) as session:
        assert await end_sessions(session, yang.id, "left", but=second.session.id) == 0
        assert await end_sessions(session, yang.id, "left") == 1
        await note_seen(session, {second.session.id: time.time() + 5})


def test_a_session_is_over_by_age_and_by_idleness() -> None:
    assert not is_over(expires_at=100, seen_at=50, now=99, idle_s=60)
    assert is_over(expires_at=100, seen_at=50, now=100, idle_s=60)
    assert is_over(expires_at=1000, seen_at=50, now=110, idle_s=60)


@pytest.mark.backend
async def test_accounts_are_managed_within_a_scope(database: Database, places: Places) -> None:
    mine = await make_account(database, "yang", places.hospital_a1, display_name="杨医生")
    other = await make_account(database, "long", places.hospital_b1)
    nowhere = await make_account(database, "root")
    scope = Scope(frozenset({places.hospital_a1}), Actor("session", "9"), "administration")
    async with database.session(SYSTEM, write=True) as session:
        assert [one.login for one in await list_accounts(session, scope)] == ["yang"]
        assert [one.login for one in await list_accounts(session, SYSTEM, text="杨")] == ["yang"]
        assert [one.login for one in await list_accounts(session, SYSTEM, after="long")] == [
            "root",
            "yang",
        ]
        facts = {"title": "主治医师", "licence_number": "110522000001", "phone": "13900000000"}
        assert (await edit_account(session, scope, mine.id, facts)).title == "主治医师"
        assert (await find_account(session, scope, "YANG")).phone == "13900000000"
        for account_id in (other.id, nowhere.id, 999):
            with pytest.raises(NotFound):
                await get_account(session, scope, account_id)
        with pytest.raises(NotFound):
            await edit_account(session, scope, mine.id, {"organisation_id": places.hospital_b1})
    with pytest.raises(Conflict):
        await make_account(database, "Yang")


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_who_serves_people_cannot_read_secrets(database: Database) -> None:
    serving = await Database.open(database.settings, "app")
    scope = Scope(frozenset({1}), Actor("session", "1"), "care")
    try:
        for table in SECRET_TABLES:
            with pytest.raises(ProgrammingError):
                async with serving.session(scope) as one:
                    await one.execute(text(f"SELECT 1 FROM {table}"))
    finally:
        await serving.close()


async def test_denials_carry_no_hint(database: Database, sign_in: SignIn) -> None:
    with pytest.raises(Denied) as caught:
        await sign_in.with_password("nobody", "x", HERE)
    assert caught.value.fields == {}
