"""The listener for other nodes: who is answered, and with what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import aiohttp
import pytest
from aiohttp import web
from sqlalchemy import select

from archive.index.tables import node, pack
from archive.nodes.secret import secret_file
from archive.nodes.service import make_secret
from archive.receive.service import Receiver
from archive.settle.service import Settler
from kernel.db.database import Database
from kernel.errors import Invalid, Unavailable
from kernel.scope import Scope
from kernel.settings import InternalSettings, Settings
from kernel.web.guard import PERMISSIONS, permission_of
from server.checking import check
from server.internal import make_app, serve_internal
from tests.archive.material import ORIGIN, Made, make
from tests.server.running import fails
from tests.waiting import eventually

SCOPE = Scope.system("test")


@dataclass(slots=True)
class Listener:
    """A node that listens and holds one instance in its journal."""

    settings: Settings
    database: Database
    address: str
    made: Made
    pack_id: int

    async def ask(
        self, path: str, wanted: str = "", secret: str | None = None
    ) -> tuple[int, bytes]:
        """Status and body of a GET; `wanted` is a Range."""
        shown = make_secret(self.settings) if secret is None else secret
        headers = {"Authorization": f"Bearer {shown}"} if shown else {}
        if wanted:
            headers["Range"] = wanted
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{self.address}{path}", headers=headers) as answer,
        ):
            return answer.status, await answer.read()


@pytest.fixture
async def listener(settings: Settings, database: Database) -> AsyncIterator[Listener]:
    settings = replace(settings, node="here", internal=InternalSettings(bind="127.0.0.1:0"))
    made = make()
    async with AsyncExitStack() as stack:
        receiver = await Receiver.open(settings, database)
        stack.push_async_callback(receiver.close)
        await receiver.append(ORIGIN, made.identity, [made.data])
        address = await serve_internal(settings, database, stack)
        async with database.session(SCOPE) as session:
            pack_id = await session.scalar(select(pack.c.id))
        assert pack_id is not None
        yield Listener(settings, database, address, made, pack_id)


async def test_a_segment_is_given_whole_or_in_part(listener: Listener) -> None:
    path = f"/internal/packs/{listener.pack_id}"
    status, whole = await listener.ask(path)
    assert status == 200
    assert whole.endswith(listener.made.data)
    assert await listener.ask(path, "bytes=10-19") == (206, whole[10:20])
    status, _ = await listener.ask(path, f"bytes={len(whole)}-{len(whole) + 9}")
    assert status == 416


@pytest.mark.parametrize("secret", ["", "guessed", "gewußt"])
async def test_without_the_secret_nothing_is_given(listener: Listener, secret: str) -> None:
    status, body = await listener.ask(f"/internal/packs/{listener.pack_id}", secret=secret)
    assert status == 401
    assert listener.made.data not in body


async def test_what_does_not_lie_in_this_journal_is_not_there(listener: Listener) -> None:
    assert (await listener.ask("/internal/packs/999999"))[0] == 404
    assert (await listener.ask("/internal/packs/../x"))[0] == 404
    settler = Settler(listener.settings, listener.database)
    while await settler.settle_due(everything=True):
        pass
    async with listener.database.session(SCOPE) as session:
        settled = (await session.scalars(select(pack.c.id).where(pack.c.kind != "journal"))).all()
    assert len(settled) == 2
    for pack_id in settled:
        assert (await listener.ask(f"/internal/packs/{pack_id}"))[0] == 404


async def test_a_secret_is_made_once_and_for_the_owner_alone(listener: Listener) -> None:
    file = secret_file(listener.settings)
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(make_secret(listener.settings)) >= 32
    assert make_secret(listener.settings) == file.read_text().strip()
    given = replace(listener.settings, internal=InternalSettings(secret="given"))
    assert make_secret(given) == "given"


async def test_a_node_says_where_it_listens(listener: Listener) -> None:
    async def addresses() -> list[tuple[str, str]]:
        async with listener.database.session(SCOPE) as session:
            return [tuple(row) for row in await session.execute(select(node.c.id, node.c.address))]

    assert await eventually(addresses) == [("here", listener.address)]


async def test_a_wildcard_needs_an_address_and_a_taken_port_is_said(listener: Listener) -> None:
    async with AsyncExitStack() as stack:
        everywhere = replace(listener.settings, internal=InternalSettings(bind="0.0.0.0:0"))
        with pytest.raises(Invalid):
            await serve_internal(everywhere, listener.database, stack)
        taken = replace(listener.settings, internal=InternalSettings(bind=listener.address))
        with pytest.raises(Unavailable):
            await serve_internal(taken, listener.database, stack)


def test_a_port_that_is_none_is_said_in_one_sentence(tmp_path: object) -> None:
    addresses = ("--http", "127.0.0.1:0", "--dicom", "127.0.0.1:0")
    said = fails("serve", "--data", f"{tmp_path}/d", *addresses, "--internal", "nowhere")
    assert "nowhere is not HOST:PORT" in said


async def test_its_only_route_has_a_permission(settings: Settings, database: Database) -> None:
    app: web.Application = make_app(settings, database, "secret")
    for route in app.router.routes():
        assert permission_of(route.handler) in PERMISSIONS
    assert {route.resource.canonical for route in app.router.routes() if route.resource} == {
        "/internal/packs/{pack_id}"
    }


async def test_check_says_what_nodes_have_to_share(settings: Settings) -> None:
    alone = replace(settings, internal=InternalSettings(bind="127.0.0.1:0"))
    said = [finding.text for finding in await check(alone) if finding.state == "warn"]
    assert any("database.url is empty" in text for text in said)
    assert any("objects.url is empty" in text for text in said)
