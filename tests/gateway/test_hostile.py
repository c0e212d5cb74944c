"""Hostile and broken peers: each costs its own connection, and no memory."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import struct
import tracemalloc
from contextlib import suppress

import psutil
import pytest
from pydicom.dataset import Dataset

from gateway.dimse import command as dimse
from gateway.upper_layer.pdu import (
    ASSOCIATE_RQ,
    RELEASE_RP_PDU,
    Associate,
    ProposedContext,
    Rejection,
    Role,
    encode_associate,
    encode_reject,
)
from kernel.settings import DicomSettings
from tests.archive.material import encode, make, uid
from tests.gateway.conftest import Gateway
from tests.gateway.peer import (
    CT,
    ELE,
    ILE,
    STUDY_FIND,
    STUDY_GET,
    VERIFICATION,
    Aborted,
    Peer,
    pdu,
    pdus,
    pdv,
)
from tests.waiting import eventually

CONTEXT = ProposedContext(1, CT, (ELE,))
REQUEST = encode_associate(Associate("YUNYING", "PEER", (CONTEXT,)), ASSOCIATE_RQ)
USER, PROVIDER = 0, 2
UNRECOGNIZED, UNEXPECTED, UNEXPECTED_PARAMETER, INVALID = 1, 2, 5, 6


def head(kind: int, length: int) -> bytes:
    return struct.pack(">BBI", kind, 0, length)


@pytest.fixture
def dicom_settings(request: pytest.FixtureRequest) -> DicomSettings:
    return getattr(request, "param", DicomSettings())


# PS3.8 Table 9-10, Sta2: whatever is no A-ASSOCIATE-RQ is answered by AA-1.
BEFORE_ASSOCIATION = {
    "p_data": pdu(pdv(1, 3, b"data")),
    "release_rq": head(5, 4) + bytes(4),
    "release_rp": RELEASE_RP_PDU,
    "associate_ac": encode_associate(Associate("A", "B"), 2),
    "associate_rj": encode_reject(Rejection(1, 1, 1)),
    "unknown_type": head(0x42, 4) + bytes(4),
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "tls": bytes.fromhex("160301020001000001fc0303"),
    "huge_associate": head(1, 0x7FFFFFFF),
    "short_associate": head(1, 10) + bytes(10),
    "no_context": encode_associate(Associate("YUNYING", "PEER"), ASSOCIATE_RQ),
    "even_context_id": encode_associate(
        Associate("YUNYING", "PEER", (ProposedContext(2, CT, (ELE,)),)), ASSOCIATE_RQ
    ),
    "context_id_twice": encode_associate(
        Associate("YUNYING", "PEER", (CONTEXT, CONTEXT)), ASSOCIATE_RQ
    ),
    "item_too_long": REQUEST[:76] + b"\xff\xff" + REQUEST[78:],
}


@pytest.mark.parametrize("name", BEFORE_ASSOCIATION)
async def test_anything_but_a_good_request_is_aborted(gateway: Gateway, name: str) -> None:
    peer = await Peer.connect(gateway.port)
    await peer.write(BEFORE_ASSOCIATION[name])
    with pytest.raises(Aborted) as aborted:
        await peer.read_pdu()
    assert aborted.value.source == USER  # AA-1
    await peer.close()


# PS3.8 Table 9-10, Sta6: (bytes, reason of the A-ABORT by the provider)
WITHIN_ASSOCIATION = {
    "second_request": (REQUEST, UNEXPECTED),
    "associate_ac": (encode_associate(Associate("A", "B"), 2), UNEXPECTED),
    "associate_rj": (encode_reject(Rejection(1, 1, 1)), UNEXPECTED),
    "release_rp": (RELEASE_RP_PDU, UNEXPECTED),
    "unknown_type": (head(0x08, 4) + bytes(4), UNRECOGNIZED),
    "type_zero": (bytes(40), UNRECOGNIZED),
    "release_of_5": (head(5, 5) + bytes(5), INVALID),
    "empty_p_data": (head(4, 0), INVALID),
    "p_data_of_5": (head(4, 5) + bytes(5), INVALID),
    "huge_p_data": (head(4, 0xFFFFFFFF), INVALID),
    "pdv_of_1": (head(4, 6) + struct.pack(">IBB", 1, 1, 3), INVALID),
    "pdv_of_0": (head(4, 6) + struct.pack(">IBB", 0, 1, 3), INVALID),
    "pdv_longer_than_pdu": (head(4, 6) + struct.pack(">IBB", 100, 1, 3), INVALID),
    "rest_of_a_pdv_header": (pdu(pdv(1, 1, b"ab"), b"abc"), INVALID),
    "data_before_command": (pdu(pdv(1, 2, b"data")), UNEXPECTED_PARAMETER),
    "unknown_context": (pdu(pdv(77, 3, dimse.echo_request(1))), INVALID),
    "context_changes": (pdu(pdv(1, 1, b"\0\0"), pdv(3, 3, b"\0\0")), INVALID),
    "command_again": (
        pdu(pdv(1, 3, dimse.store_request(1, CT, "1.2"))) + pdu(pdv(1, 1, b"x")),
        UNEXPECTED_PARAMETER,
    ),
    "no_command_set": (pdu(pdv(1, 3, b"not a command set")), INVALID),
    "empty_command_set": (pdu(pdv(1, 3, b"")), INVALID),
    "command_of_200k": (b"".join(pdu(pdv(1, 1, bytes(50_000))) for _ in range(4)), INVALID),
}


@pytest.mark.parametrize("name", WITHIN_ASSOCIATION)
async def test_what_breaks_the_protocol_aborts_with_its_reason(gateway: Gateway, name: str) -> None:
    data, reason = WITHIN_ASSOCIATION[name]
    peer = await Peer.associate(gateway.port, (CT, ELE), (VERIFICATION, ELE))
    await peer.write(data)
    with pytest.raises(Aborted) as aborted:
        await peer.read_pdu()
    assert (aborted.value.source, aborted.value.reason) == (PROVIDER, reason)
    await peer.close()


@pytest.mark.parametrize("dicom_settings", [DicomSettings(artim_timeout_s=0.2)], indirect=True)
async def test_connection_that_asks_for_nothing_is_closed_in_time(gateway: Gateway) -> None:
    silent = await Peer.connect(gateway.port)
    half = await Peer.connect(gateway.port)
    await half.write(REQUEST[:50])
    for peer in (silent, half):
        with pytest.raises(EOFError):
            await peer.read_pdu()
        await peer.close()


@pytest.mark.parametrize("dicom_settings", [DicomSettings(idle_timeout_s=0.3)], indirect=True)
async def test_silent_association_is_aborted_also_within_an_object(gateway: Gateway) -> None:
    made = make(side=400)
    idle = await Peer.associate(gateway.port, (CT, ELE))
    stuck = await Peer.associate(gateway.port, (CT, ELE))
    whole = pdus(1, dimse.store_request(1, CT, made.identity.sop_instance_uid), made.data)
    await stuck.write(whole[:100_000])
    for peer in (idle, stuck):
        with pytest.raises(Aborted) as aborted:
            await peer.read_pdu()
        assert aborted.value.source == USER
        await peer.close()


@pytest.mark.parametrize(
    "dicom_settings", [DicomSettings(idle_timeout_s=0.3, artim_timeout_s=0.3)], indirect=True
)
async def test_peer_that_does_not_read_what_it_asked_for_is_cut_off(gateway: Gateway) -> None:
    large = make(side=4000)
    peer = await Peer.associate(
        gateway.port, (CT, ELE), (STUDY_GET, ILE), roles=(Role(CT, True, True),)
    )
    assert (await peer.store(CT, large.identity.sop_instance_uid, ELE, large.data)).status == 0
    keys = Dataset()
    keys.QueryRetrieveLevel = "STUDY"
    keys.StudyInstanceUID = uid(1)
    await peer.request(STUDY_GET, ILE, dimse.C_GET, encode(keys, implicit=True))

    async def gone() -> bool:
        return not gateway.server.services.sessions and not gateway.server.network.live

    await eventually(gone)
    await peer.close()


@pytest.mark.parametrize("dicom_settings", [DicomSettings(artim_timeout_s=0.2)], indirect=True)
async def test_peer_that_stays_after_an_abort_is_cut_off(gateway: Gateway) -> None:
    peer = await Peer.associate(gateway.port, (CT, ELE))
    await peer.write(bytes(100))
    with pytest.raises(Aborted):
        await peer.read_pdu()
    await peer.write(bytes(1000))
    with pytest.raises(EOFError):
        await peer.read_pdu()
    await peer.close()


async def test_flood_after_an_abort_is_cut_off(gateway: Gateway) -> None:
    peer = await Peer.associate(gateway.port, (CT, ELE))
    with pytest.raises(ConnectionError):
        for _ in range(1000):
            await peer.write(bytes(65536))
    await peer.close()


@pytest.mark.parametrize("seed", range(10))
async def test_random_bytes_disturb_nobody(gateway: Gateway, seed: int) -> None:
    chance = random.Random(seed)
    good = await Peer.associate(gateway.port, (CT, ELE))
    for number in range(1, 4):
        bad = await Peer.associate(gateway.port, (CT, ELE))
        made = make(number=number, side=200)
        whole = pdus(1, dimse.store_request(1, CT, made.identity.sop_instance_uid), made.data, 5000)
        broken = bytearray(whole)
        for _ in range(chance.randint(1, 40)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        with suppress(ConnectionError):
            await bad.write(bytes(broken) + chance.randbytes(300))
        await bad.close()
        fine = make(study=2, number=number)
        answer = await good.store(CT, fine.identity.sop_instance_uid, ELE, fine.data)
        assert answer.status == 0
    await good.release()

    async def gone() -> bool:
        return not gateway.server.services.sessions

    await eventually(gone)


async def test_five_thousand_bare_connections_leave_memory_as_it_was(gateway: Gateway) -> None:
    process = psutil.Process()
    good = await Peer.associate(gateway.port, (CT, ELE))

    async def knock(count: int) -> None:
        for _ in range(count // 100):
            writers = [
                (await asyncio.open_connection("127.0.0.1", gateway.port))[1] for _ in range(100)
            ]
            for writer in writers:
                writer.close()

    await knock(1000)
    before = process.memory_info().rss
    await knock(4000)
    grown = process.memory_info().rss - before
    assert grown < 8 << 20
    assert len(gateway.server.services.bare) <= 256
    made = make()
    assert (await good.store(CT, made.identity.sop_instance_uid, ELE, made.data)).status == 0
    await good.release()


async def test_idle_association_costs_less_than_16_kib(gateway: Gateway) -> None:
    loop = asyncio.get_running_loop()

    async def associate() -> socket.socket:
        peer = socket.create_connection(("127.0.0.1", gateway.port))
        peer.setblocking(False)
        await loop.sock_sendall(peer, REQUEST)
        assert await loop.sock_recv(peer, 1000)
        return peer

    peers = [await associate() for _ in range(20)]
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    more = [await associate() for _ in range(100)]
    gc.collect()
    grown = (tracemalloc.get_traced_memory()[0] - before) / len(more)
    tracemalloc.stop()
    assert len(gateway.server.services.sessions) == 120
    assert grown < 16 << 10
    for peer in peers + more:
        peer.close()

    async def gone() -> bool:
        return not gateway.server.services.sessions

    await eventually(gone)


async def test_idle_associations_hold_no_buffer(gateway: Gateway) -> None:
    peers = [await Peer.associate(gateway.port, (CT, ELE)) for _ in range(50)]
    for number, peer in enumerate(peers[:5], 1):
        made = make(number=number, side=300)
        assert (await peer.store(CT, made.identity.sop_instance_uid, ELE, made.data)).status == 0
    assert gateway.server.network.pool.taken == 0
    for peer in peers:
        await peer.release()


async def test_command_set_too_long_for_a_buffer_of_identifiers_is_refused(
    gateway: Gateway,
) -> None:
    peer = await Peer.associate(gateway.port, (STUDY_FIND, ELE))
    await peer.request(STUDY_FIND, ELE, dimse.C_FIND, bytes(3 << 20))
    answer = await peer.read_message()
    assert answer.status == 0xA700
    assert answer.comment == "the identifier is too long"
    await peer.release()
