"""Our side as requestor, against a peer that plays by the table or breaks it (PS3.8 Table 9-10)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.dimse import command as dimse
from gateway.dimse.fragment import message
from gateway.dimse.requestor import Requestor, open_association
from gateway.upper_layer.network import Network
from gateway.upper_layer.pdu import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RQ,
    P_DATA_TF,
    RELEASE_RP,
    RELEASE_RP_PDU,
    RELEASE_RQ,
    RELEASE_RQ_PDU,
    Associate,
    ContextResult,
    ProposedContext,
    Rejection,
    UserInformation,
    encode_abort,
    encode_associate,
    encode_reject,
)
from gateway.upper_layer.service_user import ConnectionLost, Limits
from kernel.errors import Denied, Unavailable
from tests.gateway.peer import CT, ELE, VERIFICATION, Aborted, Peer, pdu, pdv

CONTEXTS = (ProposedContext(1, VERIFICATION, (ELE,)), ProposedContext(3, CT, (ELE,)))
ACCEPT = encode_associate(
    Associate(
        "PEER",
        "YUNYING",
        results=(ContextResult(1, 0, ELE), ContextResult(3, 4, ELE), ContextResult(5, 0, ELE)),
        user=UserInformation(16384, "1.2.3"),
    ),
    ASSOCIATE_AC,
)
Play = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def acceptor(play: Play) -> AsyncIterator[int]:
    """A peer that reads the A-ASSOCIATE-RQ and then does ``play``; what it finds is raised here."""
    played: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        try:
            kind, _ = await peer.read_pdu()
            assert kind == ASSOCIATE_RQ
            await play(peer)
            played.set_result(None)
        except BaseException as error:  # noqa: BLE001 - told to the test
            played.set_exception(error)
        finally:
            await peer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        async with asyncio.timeout(10):
            await played


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    opened = Network()
    yield opened
    await opened.close()
    assert opened.pool.taken == 0


async def open_to(port: int, network: Network, timeout_s: float = 5.0) -> Requestor:
    limits = Limits(artim_s=2.0, idle_s=0.0)
    return await open_association(
        "127.0.0.1", port, "PEER", "YUNYING", CONTEXTS, network, limits, timeout_s
    )


async def test_accepted_contexts_are_those_that_were_proposed(network: Network) -> None:
    async def play(peer: Peer) -> None:
        await peer.write(ACCEPT)
        assert (await peer.read_pdu())[0] == RELEASE_RQ
        await peer.write(RELEASE_RP_PDU)

    async with acceptor(play) as port:
        requestor = await open_to(port, network)
        agreement = requestor.association.agreement
        assert agreement is not None
        assert list(agreement.contexts) == [1]
        assert agreement.peer_max_pdu_bytes == 16384
        await requestor.release()
    assert requestor.over.is_set()


async def test_rejection_is_told_with_its_numbers(network: Network) -> None:
    async def play(peer: Peer) -> None:
        await peer.write(encode_reject(Rejection(1, 1, 7)))

    async with acceptor(play) as port:
        with pytest.raises(Denied, match="result 1, source 1, reason 7"):
            await open_to(port, network)


async def test_nobody_there_or_silent_is_unreachable(
    network: Network, unused_tcp_port: int
) -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        await open_to(unused_tcp_port, network)

    async def play(peer: Peer) -> None:
        with pytest.raises(Aborted):
            await peer.read_pdu()

    async with acceptor(play) as port:
        with pytest.raises(Unavailable, match="no answer in time"):
            await open_to(port, network, timeout_s=0.2)


# PS3.8 Table 9-10, Sta5: anything but an answer to the request is AA-8; an abort or a closed
# connection just ends it.
IN_STATE_5 = {
    "associate_rq": encode_associate(Associate("A", "B", CONTEXTS), ASSOCIATE_RQ),
    "p_data": pdu(pdv(1, 3, b"xx")),
    "release_rq": RELEASE_RQ_PDU,
    "release_rp": RELEASE_RP_PDU,
    "unknown": b"\x55\0\0\0\0\4abcd",
}


@pytest.mark.parametrize("name", IN_STATE_5)
async def test_anything_but_an_answer_aborts(network: Network, name: str) -> None:
    async def play(peer: Peer) -> None:
        await peer.write(IN_STATE_5[name])
        with pytest.raises(Aborted) as aborted:
            await peer.read_pdu()
        assert aborted.value.source == 2
        assert aborted.value.reason == (1 if name == "unknown" else 2)

    async with acceptor(play) as port:
        with pytest.raises(Unavailable) as lost:
            await open_to(port, network)
        assert lost.value.code == "peer.lost"


@pytest.mark.parametrize("how", ["abort", "close"])
async def test_peer_that_ends_it_is_lost(network: Network, how: str) -> None:
    async def play(peer: Peer) -> None:
        if how == "abort":
            await peer.write(encode_abort(2, 0))

    async with acceptor(play) as port:
        with pytest.raises(Unavailable) as lost:
            await open_to(port, network)
        assert lost.value.code == "peer.lost"


async def test_response_reaches_who_waits_and_a_request_aborts(network: Network) -> None:
    async def play(peer: Peer) -> None:
        await peer.write(ACCEPT)
        request = await peer.read_message()
        await peer.write(message(1, dimse.response(request.command, 0x1234), None, 0))
        await peer.write(message(1, dimse.echo_request(5), None, 0))
        with pytest.raises(Aborted) as aborted:
            await peer.read_pdu()
        assert (aborted.value.source, aborted.value.reason) == (2, 6)

    async with acceptor(play) as port:
        requestor = await open_to(port, network)
        answered, never = requestor.responses.expect(7), requestor.responses.expect(8)
        requestor.association.send(message(1, dimse.echo_request(7), None, 0))
        assert await answered == 0x1234
        with pytest.raises(ConnectionLost):
            await never
        with pytest.raises(ConnectionLost):
            await requestor.association.drain()


async def test_release_collision_is_resolved_from_the_requestors_side(network: Network) -> None:
    # PS3.8 9.2.3 and Table 9-9: AR-8 to Sta9, AR-9 to Sta11, AR-3.
    async def play(peer: Peer) -> None:
        await peer.write(ACCEPT)
        assert (await peer.read_pdu())[0] == RELEASE_RQ
        await peer.write(RELEASE_RQ_PDU)
        assert (await peer.read_pdu())[0] == RELEASE_RP
        await peer.write(RELEASE_RP_PDU)
        with pytest.raises(EOFError):
            await peer.read_pdu()

    async with acceptor(play) as port:
        requestor = await open_to(port, network)
        await requestor.release()
    assert requestor.association.why == "released"


async def test_data_that_arrive_while_we_release_are_still_taken(network: Network) -> None:
    # AR-6: P-DATA in Sta7 is indicated.
    async def play(peer: Peer) -> None:
        await peer.write(ACCEPT)
        request = await peer.read_message()
        assert (await peer.read_pdu())[0] == RELEASE_RQ
        await peer.write(message(1, dimse.response(request.command, 0), None, 0))
        await peer.write(RELEASE_RP_PDU)

    async with acceptor(play) as port:
        requestor = await open_to(port, network)
        answered = requestor.responses.expect(7)
        requestor.association.send(message(1, dimse.echo_request(7), None, 0))
        await requestor.release()
        assert await answered == 0


async def test_release_without_an_answer_aborts_in_time(network: Network) -> None:
    async def play(peer: Peer) -> None:
        await peer.write(ACCEPT)
        assert (await peer.read_pdu())[0] == RELEASE_RQ
        with pytest.raises(Aborted):
            await peer.read_pdu()

    async with acceptor(play) as port:
        requestor = await open_to(port, network)
        await requestor.release(timeout_s=0.1)


async def test_peer_that_releases_gets_its_answer(network: Network) -> None:
    async def play(peer: Peer) -> None:
        await peer.write(ACCEPT + RELEASE_RQ_PDU)
        assert (await peer.read_pdu())[0] == RELEASE_RP

    async with acceptor(play) as port:
        requestor = await open_to(port, network)
        await asyncio.wait_for(requestor.over.wait(), 5)
    assert (ABORT, P_DATA_TF) == (7, 4)
