"""Reading what another node has in its journal: a byte range over HTTP."""

from __future__ import annotations

import asyncio
import http.client
import time

from sqlalchemy import bindparam, select

from archive.index.tables import node
from archive.nodes.secret import known_secret
from kernel.db.database import Database
from kernel.db.statement import Statement
from kernel.errors import Invalid, NotFound, Unavailable
from kernel.settings import Settings, split_address

PATH = "/internal/packs"
_TIMEOUT_S = 10.0  # to connect, and for each piece of an answer
_KNOWN_S = 5.0  # how long an address is believed
_DOWN_S = 2.0  # how long a node that did not answer is not asked again

_ADDRESS = Statement(select(node.c.address).where(node.c.id == bindparam("id")))


class Peers:
    """The other nodes, as far as they listen."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._addresses: dict[str, tuple[str, float]] = {}  # node → address, until (monotonic)
        self._down: dict[str, float] = {}  # node → not asked before (monotonic)

    async def read(self, holder: str, pack_id: int, start: int, length: int) -> bytes:
        """`length` bytes from `start` of a segment in the journal of the node `holder`.

        Raises `NotFound('objects.missing')` where it has no such segment (any more),
        `Unavailable('node.unreachable')` where it does not answer and `Unavailable('node.refused')`
        where it does not give what it has.
        """
        if not length:
            return b""
        address = await self._address(holder)
        try:
            return await asyncio.to_thread(self._get, holder, address, pack_id, start, length)
        except (OSError, http.client.HTTPException) as error:
            self._addresses.pop(holder, None)
            self._down[holder] = time.monotonic() + _DOWN_S
            raise unreachable(holder) from error

    async def _address(self, holder: str) -> str:
        now = time.monotonic()
        if self._down.get(holder, 0.0) > now:
            raise unreachable(holder)
        address, until = self._addresses.get(holder, ("", 0.0))
        if until > now:
            return address
        rows = await self._database.fetch(_ADDRESS, {"id": holder})
        if not rows:
            raise unreachable(holder)
        self._addresses[holder] = (rows[0][0], now + _KNOWN_S)
        return str(rows[0][0])

    def _get(self, holder: str, address: str, pack_id: int, start: int, length: int) -> bytes:
        connection = _connect(address)
        try:
            connection.request(
                "GET",
                f"{PATH}/{pack_id}",
                headers={
                    "Authorization": f"Bearer {known_secret(self._settings)}",
                    "Range": f"bytes={start}-{start + length - 1}",
                },
            )
            answer = connection.getresponse()
            if answer.status == http.client.NOT_FOUND:
                raise NotFound("objects.missing", "object {key} is not in its store", key=pack_id)
            if answer.status != http.client.PARTIAL_CONTENT:
                raise Unavailable(
                    "node.refused",
                    "node {node} does not give the stored bytes: it answers {status}",
                    node=holder,
                    status=answer.status,
                )
            data = answer.read(length)
        finally:
            connection.close()
        if len(data) != length:
            raise http.client.IncompleteRead(data, length - len(data))
        return data


def unreachable(holder: str) -> Unavailable:
    """What a reader is told who wants bytes that only a silent node has."""
    return Unavailable(
        "node.unreachable",
        "The data is not settled yet, and node {node}, which received it, does not answer.",
        node=holder,
    )


def _connect(address: str) -> http.client.HTTPConnection:
    try:
        host, port = split_address(address)
    except Invalid as error:
        raise OSError(str(error)) from error
    return http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
