"""API clients and capabilities in the database."""

from __future__ import annotations

import time

import pytest

from identity.access.domain import Access
from identity.accounts.passwords import Hashing
from identity.accounts.service import take_step
from identity.capabilities.domain import Caveat, verify
from identity.capabilities.service import (
    Keys,
    add_key,
    issue,
    load_keys,
    load_revoked,
    retire_key,
    revoke,
)
from identity.clients.service import (
    NewClient,
    create_client,
    list_clients,
    load_clients,
    revoke_client,
    rotate_client,
)
from identity.first_start.service import ensure_admin
from identity.grants.domain import Subject
from identity.grants.service import NewGrant, grant, load_rights
from identity.tokens.domain import fingerprint
from kernel.db.database import Database
from kernel.errors import AppError, Denied, NotFound, Unavailable
from kernel.scope import Actor, Scope
from kernel.settings import AccessSettings
from tests.identity.people import make_account
from tests.identity.places import SYSTEM, Places

pytestmark = pytest.mark.backend
READ = "archive.study.read"


async def known(database: Database, token: str) -> str | None:
    async with database.session(SYSTEM) as session:
        found = (await load_clients(session)).get(fingerprint(token))
    return found.name if found else None


async def test_a_client_is_known_by_its_token_until_it_is_revoked(
    database: Database, places: Places
) -> None:
    new = NewClient("PACS", organisation_id=places.hospital_a1, permissions=["archive.study.*"])
    async with database.session(SYSTEM, write=True) as session:
        made, token = await create_client(session, SYSTEM, new)
    assert made.subject == Subject("client", made.id)
    assert READ in made.permissions and "archive.identifiers.read" not in made.permissions
    assert await known(database, token) == "PACS"
    assert await known(database, token + "x") is None
    async with database.session(SYSTEM, write=True) as session:
        second = await rotate_client(session, SYSTEM, made.id)
    assert await known(database, token) == await known(database, second) == "PACS"
    async with database.session(SYSTEM, write=True) as session:
        third = await rotate_client(session, SYSTEM, made.id, grace_s=0)
    assert [await known(database, one) for one in (token, second, third)] == [None, None, "PACS"]
    async with database.session(SYSTEM, write=True) as session:
        await revoke_client(session, SYSTEM, made.id)
    assert await known(database, third) is None


async def test_clients_belong_to_a_place(database: Database, places: Places) -> None:
    mine = Scope(frozenset({places.hospital_a1}), Actor("session", "9"), "administration")
    async with database.session(SYSTEM, write=True) as session:
        made, _ = await create_client(session, mine, NewClient("A", None, places.hospital_a1))
        other, _ = await create_client(session, SYSTEM, NewClient("B", None, places.hospital_b1))
        assert [one.name for one in await list_clients(session, mine)] == ["A"]
        with pytest.raises(NotFound):
            await create_client(session, mine, NewClient("C", None, places.hospital_b1))
        with pytest.raises(NotFound):
            await rotate_client(session, mine, other.id)
        await revoke_client(session, mine, made.id)


async def test_a_persons_token_ends_with_the_person_and_with_its_time(database: Database) -> None:
    yang = await make_account(database, "yang")
    soon = time.time() - 1
    async with database.session(SYSTEM, write=True) as session:
        made, token = await create_client(session, SYSTEM, NewClient("script", yang.id))
        _, old = await create_client(session, SYSTEM, NewClient("old", yang.id, expires_at=soon))
    assert made.subject == Subject("account", yang.id)
    assert await known(database, token) == "script"
    assert await known(database, old) is None
    async with database.session(SYSTEM, write=True) as session:
        await take_step(session, SYSTEM, yang.id, "suspend")
    assert await known(database, token) is None


async def test_capabilities_give_no_more_than_their_issuer_has(
    database: Database, places: Places
) -> None:
    yang = await make_account(database, "yang")
    role = NewGrant(Subject("account", yang.id), "clinician", places.hospital_a1)
    async with database.session(SYSTEM, write=True) as session:
        await grant(session, None, role)
        access = Access(await load_rights(session))
    until = time.time() + 3600
    studies, read = frozenset({"1.2.3"}), frozenset({READ})
    good = Caveat(studies, read, until, "share")
    with pytest.raises(Unavailable):
        async with database.session(SYSTEM, write=True) as session:
            await issue(session, access, Keys({}, ""), yang.id, places.hospital_a1, good)
    async with database.session(SYSTEM, write=True) as session:
        await add_key(session)
        keys = await load_keys(session)
        token = await issue(session, access, keys, yang.id, places.hospital_a1, good)
        for owner, caveat, code in (
            (places.hospital_b1, good, "capability.issuer"),
            (
                places.hospital_a1,
                Caveat(studies, frozenset({"archive.study.delete"}), until, "share"),
                "capability.more",
            ),
            (places.hospital_a1, Caveat(studies, read, until + 1e9, "x"), "capability.time"),
            (places.hospital_a1, Caveat(studies, read, None, "x"), "capability.time"),
            (places.hospital_a1, Caveat(None, read, until, "x"), "capability.studies"),
        ):
            with pytest.raises(AppError) as caught:
                await issue(session, access, keys, yang.id, owner, caveat)
            assert caught.value.code == code
    found = verify(token, keys.by_id, frozenset(), time.time())
    assert found.owners == {places.hospital_a1}

    async with database.session(SYSTEM, write=True) as session:
        await revoke(session, found, Actor("session", str(yang.id)))
        await revoke(session, found, Actor("session", str(yang.id)))
        revoked = await load_revoked(session)
    with pytest.raises(Denied) as refused:
        verify(token, keys.by_id, revoked, time.time())
    assert refused.value.code == "capability.revoked"

    async with database.session(SYSTEM, write=True) as session:
        fresh = await add_key(session)
        both = await load_keys(session)
        assert both.current == fresh and len(both.by_id) == 2
        await retire_key(session, keys.current)
        assert set((await load_keys(session)).by_id) == {fresh}


async def test_the_first_start_gives_admin_every_owner_and_a_key(database: Database) -> None:
    made = await ensure_admin(database, AccessSettings(), Hashing())
    assert made is not None
    async with database.session(SYSTEM) as session:
        rights = await load_rights(session)
        assert (await load_keys(session)).current
    subject = Subject("account", made[0].id)
    assert rights.owners_for(subject, READ, time.time()) == rights.owners.all
    assert not rights.owners_for(subject, "system.audit.read", time.time())
    assert await ensure_admin(database, AccessSettings(), Hashing()) is None
