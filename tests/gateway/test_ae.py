"""AE rows: their rules, and that both databases keep them."""

from __future__ import annotations

import pytest

from gateway.ae.domain import Ae
from gateway.ae.service import AeDirectory, add_ae, get_ae, list_aes, remove_ae
from kernel.db.database import Database
from kernel.errors import Conflict, Invalid, NotFound
from tests.gateway.conftest import SYSTEM


@pytest.mark.backend
async def test_node_is_added_found_listed_and_removed(database: Database) -> None:
    async with database.session(SYSTEM, write=True) as session:
        await add_ae(session, " CT_ROOM1 ", "10.0.0.7", 104, charset="GB18030")
        await add_ae(session, "ARCHIVE2", "pacs.example", 11112)
    expected = Ae("CT_ROOM1", "10.0.0.7", 104, 1, "GB18030")
    assert await AeDirectory(database).find("CT_ROOM1") == expected
    assert await AeDirectory(database).find("ct_room1") is None
    async with database.session(SYSTEM) as session:
        assert [one.title for one in await list_aes(session)] == ["ARCHIVE2", "CT_ROOM1"]
        assert await get_ae(session, "CT_ROOM1") == expected
    async with database.session(SYSTEM, write=True) as session:
        assert await remove_ae(session, "CT_ROOM1") == expected
    assert await AeDirectory(database).find("CT_ROOM1") is None
    async with database.session(SYSTEM) as session:
        with pytest.raises(NotFound, match="CT_ROOM1"):
            await get_ae(session, "CT_ROOM1")


@pytest.mark.backend
async def test_title_is_registered_once_and_owner_must_exist(database: Database) -> None:
    async with database.session(SYSTEM, write=True) as session:
        await add_ae(session, "CT", "127.0.0.1", 104)
        with pytest.raises(Conflict, match="CT is registered already"):
            await add_ae(session, "CT", "127.0.0.2", 105)
        with pytest.raises(NotFound, match="no owner 99"):
            await add_ae(session, "MR", "127.0.0.1", 104, owner_id=99)
    async with database.session(SYSTEM) as session:
        assert [one.host for one in await list_aes(session)] == ["127.0.0.1"]


@pytest.mark.parametrize("title", ["", " ", "SEVENTEEN_LETTERS", "BACK\\SLASH", "云影", "A\nB"])
async def test_title_that_cannot_be_is_refused(database: Database, title: str) -> None:
    async with database.session(SYSTEM, write=True) as session:
        with pytest.raises(Invalid) as refused:
            await add_ae(session, title, "127.0.0.1", 104)
    assert refused.value.code == "ae.title"


@pytest.mark.parametrize(("host", "port"), [("", 104), ("a b", 104), ("host", 0), ("host", 65536)])
async def test_address_that_cannot_be_is_refused(database: Database, host: str, port: int) -> None:
    async with database.session(SYSTEM, write=True) as session:
        with pytest.raises(Invalid) as refused:
            await add_ae(session, "CT", host, port)
    assert refused.value.code == "ae.address"


@pytest.mark.backend
async def test_node_has_a_policy_for_the_same_uid(database: Database) -> None:
    async with database.session(SYSTEM, write=True) as session:
        await add_ae(session, "CT", "127.0.0.1", 104, same_uid="last")
        with pytest.raises(Invalid) as refused:
            await add_ae(session, "MR", "127.0.0.1", 104, same_uid="newest")
    assert refused.value.code == "ae.same_uid"
    directory = AeDirectory(database)
    assert await directory.same_uid_of(1, "CT") == "last"
    assert await directory.same_uid_of(2, "CT") == "first"
    assert await directory.same_uid_of(1, "UNKNOWN") == "first"
