"""C-MOVE and C-GET: as stored, converted, failed, cancelled, several associations."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pynetdicom.sop_class import _STORAGE_CLASSES

from archive.decisions.domain import CORRECT
from archive.decisions.service import Desk
from archive.journal.domain import Identity, Outcome
from dataset.correction import attribute_of
from dataset.refs import StudyRef
from gateway.dimse import command as dimse
from gateway.upper_layer.pdu import Role
from tests.archive.material import ORIGIN, Made, encode, make, uid
from tests.gateway.conftest import SYSTEM, Gateway
from tests.gateway.peer import (
    CT,
    ELE,
    ILE,
    STUDY_GET,
    STUDY_MOVE,
    Message,
    Peer,
    pdu,
    pdus,
    pdv,
)
from tests.gateway.scp import Received, storage_scp
from tests.waiting import eventually

RLE = "1.2.840.10008.1.2.5"
VIDEO = "1.2.840.10008.1.2.4.102"
MR = "1.2.840.10008.5.1.4.1.1.4"


def rle(number: int) -> tuple[bytes, bytes]:
    """A CT in RLE Lossless and its pixels; each run is one literal of a whole segment."""
    made = make(number=number, side=8)
    ds = read_dataset(DicomBytesIO(made.data), False, True)
    pixels = np.frombuffer(ds.PixelData, "<u2").reshape(8, 8)
    planes = [(pixels >> 8).astype("u1").tobytes(), (pixels & 0xFF).astype("u1").tobytes()]
    segments = [bytes([63]) + plane for plane in planes]
    segments = [one + b"\0" * (len(one) % 2) for one in segments]
    offsets = [64, 64 + len(segments[0])] + [0] * 13
    head = (2).to_bytes(4, "little") + b"".join(n.to_bytes(4, "little") for n in offsets)
    ds.PixelData = encapsulate([head + b"".join(segments)])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return encode(ds), pixels.tobytes()


async def put(gateway: Gateway, made: Iterable[tuple[str, str, str, bytes]]) -> None:
    """Put (class, instance, syntax, data set) into the archive."""
    receipts = await asyncio.gather(
        *(
            gateway.receiver.append(ORIGIN, Identity(sop_class, name, syntax), [data])
            for sop_class, name, syntax, data in made
        )
    )
    assert {one.outcome for one in receipts} == {Outcome.STORED}


def as_sent(made: Made) -> tuple[str, str, str, bytes]:
    one = made.identity
    return one.sop_class_uid, one.sop_instance_uid, one.transfer_syntax_uid, made.data


def identifier(**keys: Any) -> bytes:
    ds = Dataset()
    for keyword, value in keys.items():
        setattr(ds, keyword, value)
    return encode(ds, implicit=True)


STUDY_1 = identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID=uid(1))


class Mover:
    """One C-MOVE: its responses."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.pending: list[Message] = []

    @classmethod
    async def begin(cls, gateway: Gateway, keys: bytes, destination: str = "DEST") -> Mover:
        peer = await Peer.associate(gateway.port, (STUDY_MOVE, ILE), calling="MOVER")
        request = [
            (dimse.AFFECTED_SOP_CLASS_UID, dimse.ui(STUDY_MOVE)),
            (dimse.COMMAND_FIELD, dimse.us(dimse.C_MOVE)),
            (dimse.MESSAGE_ID, dimse.us(77)),
            (dimse.MOVE_DESTINATION, dimse.ae(destination)),
            (dimse.PRIORITY, dimse.us(0)),
            (dimse.DATA_SET_TYPE, dimse.us(dimse.DATA_SET)),
        ]
        await peer.write(pdus(1, dimse.encode(request), keys))
        return cls(peer)

    async def end(self) -> Message:
        while (message := await self.peer.read_message()).status == 0xFF00:
            self.pending.append(message)
        await self.peer.release()
        return message

    async def cancel(self) -> None:
        request = [
            (dimse.COMMAND_FIELD, dimse.us(dimse.C_CANCEL)),
            (dimse.RESPONDED_ID, dimse.us(77)),
            (dimse.DATA_SET_TYPE, dimse.us(dimse.NO_DATA_SET)),
        ]
        await self.peer.write(pdu(pdv(1, 3, dimse.encode(request))))


def counts(message: Message) -> tuple[int, int, int]:
    """Completed, failed, warning."""
    numbers = (dimse.COMPLETED, dimse.FAILED, dimse.WARNING)
    completed, failed, warning = (dimse.number(message.command, one) for one in numbers)
    return completed, failed, warning


def failed_uids(message: Message) -> list[str]:
    assert message.data is not None
    value = read_dataset(DicomBytesIO(message.data), True, True).FailedSOPInstanceUIDList
    return [value] if isinstance(value, str) else list(value)


async def test_move_sends_what_is_stored_byte_for_byte(gateway: Gateway) -> None:
    data, _ = rle(3)
    made = [as_sent(make(number=n, side=64)) for n in (1, 2)]
    made += [(CT, uid(1, 1, 3), RLE, data)]
    made += [(CT, uid(1, 1, 4), ELE, make(number=4, side=1200).data)]
    await put(gateway, made)
    with storage_scp([(CT, [ELE, RLE])]) as dest:
        await gateway.add_ae("DEST", dest.port)
        mover = await Mover.begin(gateway, STUDY_1)
        final = await mover.end()
    assert (final.status, counts(final), final.data) == (0, (4, 0, 0), None)
    assert dest.data == {name: data for _, name, _, data in made}
    assert dest.syntaxes[uid(1, 1, 3)] == RLE
    assert dest.originators == [("MOVER", 77)] * 4
    assert dest.associations == 1
    first = mover.pending[0].command
    assert dimse.number(first, dimse.REMAINING) == 4
    assert dimse.REMAINING not in final.command


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": uid(1, 2)}, {(1, 2, 1), (1, 2, 2)}),
        (
            {
                "QueryRetrieveLevel": "IMAGE",
                "StudyInstanceUID": uid(1),
                "SOPInstanceUID": [uid(1, 1, 1), uid(1, 2, 2)],
            },
            {(1, 1, 1), (1, 2, 2)},
        ),
        (
            {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": [uid(2), uid(9)]},
            {(2, 1, 1), (2, 1, 2), (2, 2, 1), (2, 2, 2)},
        ),
        ({"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "9.9.9"}, set()),
    ],
)
async def test_move_takes_the_unique_keys_of_its_level(
    gateway: Gateway, keys: dict[str, Any], expected: set[tuple[int, int, int]]
) -> None:
    numbers = [(s, e, i) for s in (1, 2) for e in (1, 2) for i in (1, 2)]
    await put(gateway, [as_sent(make(*one)) for one in numbers])
    with storage_scp([(CT, [ELE])]) as dest:
        await gateway.add_ae("DEST", dest.port)
        final = await (await Mover.begin(gateway, identifier(**keys))).end()
    assert (final.status, counts(final)) == (0, (len(expected), 0, 0))
    assert set(dest.data) == {uid(*one) for one in expected}


@pytest.mark.parametrize("syntax", [ELE, ILE])
async def test_what_the_destination_cannot_take_is_decompressed(
    gateway: Gateway, syntax: str
) -> None:
    data, pixels = rle(1)
    await put(gateway, [(CT, uid(1, 1, 1), RLE, data), as_sent(make(number=2))])
    with storage_scp([(CT, [syntax])]) as dest:
        await gateway.add_ae("DEST", dest.port)
        final = await (await Mover.begin(gateway, STUDY_1)).end()
    assert (final.status, counts(final)) == (0, (2, 0, 0))
    assert set(dest.syntaxes.values()) == {syntax}
    got = read_dataset(DicomBytesIO(dest.data[uid(1, 1, 1)]), syntax == ILE, True)
    was = read_dataset(DicomBytesIO(data), False, True)
    assert got.PixelData == pixels
    assert [e for e in got if e.tag.group != 0x7FE0] == [e for e in was if e.tag.group != 0x7FE0]


async def test_what_cannot_be_converted_is_listed_and_the_rest_goes_on(gateway: Gateway) -> None:
    video = make(number=2)
    await put(
        gateway,
        [as_sent(make(number=1)), (CT, uid(1, 1, 2), VIDEO, video.data), as_sent(make(number=3))],
    )
    with storage_scp([(CT, [ELE])]) as dest:
        await gateway.add_ae("DEST", dest.port)
        final = await (await Mover.begin(gateway, STUDY_1)).end()
    assert (final.status, counts(final)) == (0xB000, (2, 1, 0))
    assert failed_uids(final) == [uid(1, 1, 2)]
    assert set(dest.data) == {uid(1, 1, 1), uid(1, 1, 3)}


async def test_answers_of_the_destination_are_counted(gateway: Gateway) -> None:
    await put(gateway, [as_sent(make(number=n)) for n in range(1, 5)])
    told = {uid(1, 1, 2): 0xA700, uid(1, 1, 3): 0xB007}
    with storage_scp([(CT, [ELE])], received=Received(status=lambda u: told.get(u, 0))) as dest:
        await gateway.add_ae("DEST", dest.port)
        final = await (await Mover.begin(gateway, STUDY_1)).end()
    assert (final.status, counts(final)) == (0xB000, (2, 1, 1))
    assert failed_uids(final) == [uid(1, 1, 2)]


async def test_destination_that_takes_nothing_fails_everything(gateway: Gateway) -> None:
    await put(gateway, [as_sent(make(number=n)) for n in (1, 2)])
    with storage_scp([(MR, [ELE])]) as dest:
        await gateway.add_ae("DEST", dest.port)
        final = await (await Mover.begin(gateway, STUDY_1)).end()
    assert (final.status, counts(final)) == (0xA702, (0, 2, 0))
    assert failed_uids(final) == [uid(1, 1, 1), uid(1, 1, 2)]


async def test_destination_that_is_unknown_or_silent_is_said_in_words(
    gateway: Gateway, unused_tcp_port: int
) -> None:
    await put(gateway, [as_sent(make())])
    final = await (await Mover.begin(gateway, STUDY_1, "NOBODY")).end()
    assert final.status == 0xA801
    assert "NOBODY" in final.comment
    await gateway.add_ae("SILENT", unused_tcp_port)
    final = await (await Mover.begin(gateway, STUDY_1, "SILENT")).end()
    assert (final.status, counts(final)) == (0xA702, (0, 1, 0))
    assert "SILENT" in final.comment


async def test_association_that_breaks_costs_one_instance(gateway: Gateway) -> None:
    await put(gateway, [as_sent(make(number=n)) for n in range(1, 6)])
    with storage_scp([(CT, [ELE])], received=Received(break_after=2)) as dest:
        await gateway.add_ae("DEST", dest.port)
        final = await (await Mover.begin(gateway, STUDY_1)).end()
    assert (final.status, counts(final)) == (0xB000, (4, 1, 0))
    assert failed_uids(final) == [uid(1, 1, 3)]
    assert dest.associations == 2


async def test_cancel_ends_a_move(gateway: Gateway) -> None:
    await put(gateway, [as_sent(make(number=n)) for n in range(1, 31)])
    with storage_scp([(CT, [ELE])], received=Received(delay_s=0.1)) as dest:
        await gateway.add_ae("DEST", dest.port)
        mover = await Mover.begin(gateway, STUDY_1)
        assert (await mover.peer.read_message()).status == 0xFF00
        await mover.cancel()
        final = await mover.end()
    assert final.status == 0xFE00
    remaining = dimse.number(final.command, dimse.REMAINING)
    assert remaining > 0
    assert remaining + counts(final)[0] == 30


async def test_asker_that_goes_away_ends_the_move(gateway: Gateway) -> None:
    await put(gateway, [as_sent(make(number=n)) for n in range(1, 31)])
    with storage_scp([(CT, [ELE])], received=Received(delay_s=0.05)) as dest:
        await gateway.add_ae("DEST", dest.port)
        mover = await Mover.begin(gateway, STUDY_1)
        assert (await mover.peer.read_message()).status == 0xFF00
        await mover.peer.close()

        async def over() -> bool:
            return not gateway.server.services.sessions

        await eventually(over)
    assert len(dest.data) < 30


async def test_more_classes_than_one_association_has_contexts_for(gateway: Gateway) -> None:
    classes = sorted(map(str, _STORAGE_CLASSES.values()))[:150]
    made = [
        (one, uid(1, 1, n), ELE, make(number=n, side=4, SOPClassUID=one).data)
        for n, one in enumerate(classes, 1)
    ]
    await put(gateway, made)
    with storage_scp([(one, [ELE]) for one in classes]) as dest:
        await gateway.add_ae("DEST", dest.port)
        final = await (await Mover.begin(gateway, STUDY_1)).end()
    assert (final.status, counts(final)) == (0, (150, 0, 0))
    assert dest.associations == 3
    assert dest.data == {name: data for _, name, _, data in made}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"StudyInstanceUID": uid(1)}, "(0008,0052) is missing"),
        ({"QueryRetrieveLevel": "STUDY"}, "(0020,000D)"),
        ({"QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": uid(1)}, "(0008,0018)"),
    ],
)
async def test_identifier_that_names_nothing_is_refused_in_words(
    gateway: Gateway, keys: dict[str, str], words: str
) -> None:
    await gateway.add_ae("DEST", 104)
    final = await (await Mover.begin(gateway, identifier(**keys))).end()
    assert final.status == 0xA900
    assert words in final.comment


async def get(
    gateway: Gateway, contexts: list[tuple[str, str]], keys: bytes = STUDY_1, status: int = 0
) -> tuple[Message, dict[str, tuple[str, bytes]]]:
    """C-GET over ``contexts`` with the SCP role: the final response, and what was received."""
    roles = tuple(Role(one, False, True) for one in {abstract for abstract, _ in contexts})
    peer = await Peer.associate(gateway.port, (STUDY_GET, ILE), *contexts, roles=roles)
    await peer.request(STUDY_GET, ILE, dimse.C_GET, keys)
    got: dict[str, tuple[str, bytes]] = {}
    syntax_of = {number: syntax for (_, syntax), number in peer.contexts.items()}
    while True:
        message = await peer.read_message()
        if dimse.number(message.command, dimse.COMMAND_FIELD) == dimse.C_STORE:
            name = dimse.text(message.command, dimse.AFFECTED_SOP_INSTANCE_UID)
            assert message.data is not None
            got[name] = (syntax_of[message.context_id], message.data)
            await peer.write(
                pdus(message.context_id, dimse.response(message.command, status), None)
            )
        elif message.status != 0xFF00:
            await peer.release()
            return message, got


async def test_get_sends_what_is_stored_on_the_same_association(gateway: Gateway) -> None:
    data, pixels = rle(2)
    one, large = make(number=1), make(number=3, side=1000)
    await put(gateway, [as_sent(one), (CT, uid(1, 1, 2), RLE, data), as_sent(large)])
    final, got = await get(gateway, [(CT, ELE), (CT, RLE)])
    assert (final.status, counts(final)) == (0, (3, 0, 0))
    assert got == {
        uid(1, 1, 1): (ELE, one.data),
        uid(1, 1, 2): (RLE, data),
        uid(1, 1, 3): (ELE, large.data),
    }
    final, got = await get(gateway, [(CT, ELE)])
    assert (final.status, counts(final)) == (0, (3, 0, 0))
    assert pixels in got[uid(1, 1, 2)][1]


async def test_get_without_the_scp_role_sends_nothing(gateway: Gateway) -> None:
    await put(gateway, [as_sent(make())])
    peer = await Peer.associate(gateway.port, (STUDY_GET, ILE), (CT, ELE))
    await peer.request(STUDY_GET, ILE, dimse.C_GET, STUDY_1)
    while (final := await peer.read_message()).status == 0xFF00:
        pass
    assert (final.status, counts(final)) == (0xA702, (0, 1, 0))
    assert failed_uids(final) == [uid(1, 1, 1)]
    await peer.release()


async def test_get_counts_what_the_asker_refuses(gateway: Gateway) -> None:
    await put(gateway, [as_sent(make())])
    final, _ = await get(gateway, [(CT, ELE)], status=0xA700)
    assert (final.status, counts(final)) == (0xA702, (0, 1, 0))


async def test_asker_that_takes_small_pdus_gets_small_pdus(gateway: Gateway) -> None:
    made = make(side=100)
    await put(gateway, [as_sent(made)])
    role = Role(CT, False, True)
    peer = await Peer.associate(
        gateway.port, (STUDY_GET, ILE), (CT, ELE), roles=(role,), max_pdu=500
    )
    await peer.request(STUDY_GET, ILE, dimse.C_GET, STUDY_1)
    longest = 0
    data = b""
    while len(data) < len(made.data):
        kind, body = await peer.read_pdu()
        assert kind == 4
        longest = max(longest, len(body))
        if not body[5] & 1:
            data += body[6:]
    assert longest == 500
    assert data == made.data
    await peer.close()


async def corrected(gateway: Gateway) -> None:
    desk = await Desk.open(gateway.settings, gateway.database)
    name = attribute_of(0x00100010, "Li^Wei=李^伟")
    ref = StudyRef.parse(uid(1))
    detail = {"attributes": {"00100010": name}}
    await desk.decide(SYSTEM, CORRECT, ref, actor="dr.li", reason="typo", detail=detail)


async def test_move_and_get_send_what_a_decision_corrected(gateway: Gateway) -> None:
    made = [as_sent(make(number=n, side=900)) for n in (1, 2)]
    await put(gateway, made)
    await corrected(gateway)
    with storage_scp([(CT, [ELE])]) as dest:
        await gateway.add_ae("DEST", dest.port)
        assert counts(await (await Mover.begin(gateway, STUDY_1)).end()) == (2, 0, 0)
    final, got = await get(gateway, [(CT, ELE)])
    assert counts(final) == (2, 0, 0)
    for _, name, _, before in made:
        assert got[name] == (ELE, dest.data[name])
        ds = read_dataset(DicomBytesIO(dest.data[name]), False, True)
        assert str(ds.PatientName) == "Li^Wei=李^伟"
        told = ds.OriginalAttributesSequence[0].ModifiedAttributesSequence[0]
        assert str(told.PatientName) == "Yang^XiuYing=杨^秀英"
        assert ds.PixelData == read_dataset(DicomBytesIO(before), False, True).PixelData


async def test_what_is_converted_on_the_way_is_corrected_too(gateway: Gateway) -> None:
    data, pixels = rle(1)
    await put(gateway, [(CT, uid(1, 1, 1), RLE, data)])
    await corrected(gateway)
    _, got = await get(gateway, [(CT, ELE)])
    ds = read_dataset(DicomBytesIO(got[uid(1, 1, 1)][1]), False, True)
    assert (str(ds.PatientName), ds.PixelData) == ("Li^Wei=李^伟", pixels)
