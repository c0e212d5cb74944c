"""C-STORE over real sockets: byte identity, cuts of the stream, odd fragments, aborts."""

from __future__ import annotations

import random
import zlib

import pytest
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pynetdicom import sop_class

from dataset.part10 import parse_head
from dataset.syntax import EXPLICIT_BIG, is_deflated
from gateway.dimse import command as dimse
from gateway.dimse.fragment import fragment_bytes
from gateway.upper_layer.pdu import RELEASE_RP, RELEASE_RQ_PDU, encode_abort
from gateway.upper_layer.sop_classes import IMPLICIT_LE, storage_classes, transfer_syntaxes
from tests.archive.material import encode, make, uid
from tests.gateway.conftest import SYSTEM, Gateway
from tests.gateway.peer import CT, ELE, VERIFICATION, Aborted, Peer, pdu, pdus, pdv
from tests.waiting import eventually

PAPYRUS = "1.2.840.10008.1.20"
LARGE_SIDE = 1200  # 2.9 MB: longer than a receive buffer


def body(file: bytes) -> bytes:
    head = parse_head(file, final=True)
    assert head is not None
    return file[head.dataset_offset :]


async def test_stored_data_set_is_byte_identical(gateway: Gateway) -> None:
    made = make()
    peer = await Peer.associate(gateway.port, (CT, ELE))
    answer = await peer.store(CT, made.identity.sop_instance_uid, ELE, made.data)
    assert answer.status == 0
    assert dimse.text(answer.command, dimse.AFFECTED_SOP_INSTANCE_UID) == (
        made.identity.sop_instance_uid
    )
    assert dimse.number(answer.command, dimse.COMMAND_FIELD) == 0x8001
    assert dimse.number(answer.command, dimse.RESPONDED_ID) == 1
    await peer.release()
    assert body(await gateway.stored(made.identity.sop_instance_uid)) == made.data


@pytest.mark.parametrize(
    ("side", "fragment"),
    [
        *[(16, 2), (16, 30), (400, 1000), (400, 16378), (400, 262_138)],
        *[(LARGE_SIDE, 1000), (LARGE_SIDE, 16378), (LARGE_SIDE, 100_000), (LARGE_SIDE, 262_138)],
    ],
)
async def test_fragments_of_any_size_make_the_same_instance(
    gateway: Gateway, side: int, fragment: int
) -> None:
    made = make(side=side)
    peer = await Peer.associate(gateway.port, (CT, ELE))
    answer = await peer.store(CT, made.identity.sop_instance_uid, ELE, made.data, fragment)
    assert answer.status == 0
    await peer.release()
    assert body(await gateway.stored(made.identity.sop_instance_uid)) == made.data


@pytest.mark.parametrize("seed", range(6))
async def test_cuts_of_the_tcp_stream_do_not_matter(gateway: Gateway, seed: int) -> None:
    chance = random.Random(seed)
    peer = await Peer.associate(gateway.port, (CT, ELE), (VERIFICATION, ELE), cut=chance)
    for number in range(1, 6):
        made = make(number=number, side=chance.choice((8, 64, 300, 800)))
        answer = await peer.store(
            CT,
            made.identity.sop_instance_uid,
            ELE,
            made.data,
            chance.choice((512, 16378, 131066, 262138)),
        )
        assert answer.status == 0
        assert body(await gateway.stored(made.identity.sop_instance_uid)) == made.data
        await peer.request(VERIFICATION, ELE, dimse.C_ECHO, None)
        assert (await peer.read_message()).status == 0
    await peer.release()


async def test_several_pdvs_in_a_pdu_and_a_command_over_pdvs(gateway: Gateway) -> None:
    made = make()
    name = made.identity.sop_instance_uid
    peer = await Peer.associate(gateway.port, (CT, ELE))
    command = dimse.store_request(1, CT, name)
    half = len(made.data) // 2 & ~1
    await peer.write(
        pdu(pdv(1, 1, command[:10]))
        + pdu(pdv(1, 1, command[10:11]), pdv(1, 3, command[11:]), pdv(1, 0, made.data[:half]))
        + pdu(pdv(1, 0, b""), pdv(1, 0, made.data[half:]), pdv(1, 2, b""))
    )
    assert (await peer.read_message()).status == 0
    await peer.release()
    assert body(await gateway.stored(name)) == made.data


async def test_requests_sent_ahead_are_answered_in_order(gateway: Gateway) -> None:
    made = [make(number=number, side=500) for number in range(1, 9)]
    peer = await Peer.associate(gateway.port, (CT, ELE))
    stream = b"".join(
        pdus(1, dimse.store_request(index, CT, one.identity.sop_instance_uid), one.data)
        for index, one in enumerate(made, 1)
    )
    await peer.write(stream)
    for index in range(1, 9):
        answer = await peer.read_message()
        assert (answer.status, dimse.number(answer.command, dimse.RESPONDED_ID)) == (0, index)
    await peer.release()
    for one in made:
        assert body(await gateway.stored(one.identity.sop_instance_uid)) == one.data


async def test_release_sent_with_the_request_still_gets_the_answer(gateway: Gateway) -> None:
    made = make()
    peer = await Peer.associate(gateway.port, (CT, ELE))
    command = dimse.store_request(1, CT, made.identity.sop_instance_uid)
    await peer.write(pdus(1, command, made.data) + RELEASE_RQ_PDU)
    assert (await peer.read_message()).status == 0
    assert (await peer.read_pdu())[0] == RELEASE_RP
    await peer.close()


@pytest.mark.parametrize("side", [400, LARGE_SIDE])
@pytest.mark.parametrize("how", ["abort", "close", "release"])
async def test_object_that_breaks_off_is_not_stored(gateway: Gateway, side: int, how: str) -> None:
    made = make(side=side)
    name = made.identity.sop_instance_uid
    peer = await Peer.associate(gateway.port, (CT, ELE))
    command = dimse.store_request(1, CT, name)
    whole = pdus(1, command, made.data, 10_000)
    half = len(pdus(1, command, None)) + len(made.data) // 20_000 * 10_012  # a whole PDU
    await peer.write(whole[:half])

    async def received() -> bool:
        return gateway.server.network.pool.taken == 1

    await eventually(received)
    if how == "abort":
        await peer.write(encode_abort(0, 0))
    elif how == "release":
        await peer.write(RELEASE_RQ_PDU)
        assert (await peer.read_pdu())[0] == RELEASE_RP
    await peer.close()

    async def gone() -> bool:
        return not gateway.server.services.sessions and gateway.server.network.pool.taken == 0

    await eventually(gone)
    again = await Peer.associate(gateway.port, (CT, ELE))
    assert not await gateway.reader.find_any(SYSTEM, sop_uids=[name])
    assert (await again.store(CT, name, ELE, made.data)).status == 0
    await again.release()
    assert body(await gateway.stored(name)) == made.data


async def test_announced_uid_that_is_not_in_the_data_set_is_a_stated_reason(
    gateway: Gateway,
) -> None:
    made = make()
    peer = await Peer.associate(gateway.port, (CT, ELE))
    answer = await peer.store(CT, uid(9, 9, 9), ELE, made.data)
    assert answer.status == 0xA900
    assert "SOP Instance UID" in answer.comment
    assert len(answer.comment) <= 64
    await peer.release()


@pytest.mark.parametrize(
    ("keyword", "status", "words"),
    [
        ("StudyInstanceUID", 0xC000, "Study Instance UID"),
        ("SeriesInstanceUID", 0xC000, "Series Instance UID"),
    ],
)
async def test_data_set_without_a_needed_uid_is_refused_for_a_stated_reason(
    gateway: Gateway, keyword: str, status: int, words: str
) -> None:
    made = make(**{keyword: None})
    peer = await Peer.associate(gateway.port, (CT, ELE))
    answer = await peer.store(CT, made.identity.sop_instance_uid, ELE, made.data)
    assert answer.status == status
    assert words in answer.comment
    fine = make(number=2)
    assert (await peer.store(CT, fine.identity.sop_instance_uid, ELE, fine.data)).status == 0
    await peer.release()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({dimse.AFFECTED_SOP_CLASS_UID: dimse.ui("1.2.840.10008.5.1.4.1.1.4")}, 0x0122),
        ({dimse.AFFECTED_SOP_INSTANCE_UID: dimse.ui("not.a.uid")}, 0x0117),
        ({dimse.AFFECTED_SOP_INSTANCE_UID: b""}, 0x0117),
        ({dimse.COMMAND_FIELD: dimse.us(0x0100)}, 0x0211),
        ({dimse.COMMAND_FIELD: dimse.us(dimse.C_FIND)}, 0x0118),
    ],
)
async def test_request_that_cannot_be_is_refused_and_the_association_goes_on(
    gateway: Gateway, change: dict[int, bytes], status: int
) -> None:
    made = make()
    name = made.identity.sop_instance_uid
    peer = await Peer.associate(gateway.port, (CT, ELE))
    request = dimse.parse(dimse.store_request(1, CT, name))
    request.pop(0)
    await peer.write(pdus(1, dimse.encode(sorted((request | change).items())), made.data))
    assert (await peer.read_message()).status == status
    assert (await peer.store(CT, name, ELE, made.data)).status == 0
    await peer.release()


async def test_store_request_without_data_set_is_refused(gateway: Gateway) -> None:
    peer = await Peer.associate(gateway.port, (CT, ELE))
    await peer.request(CT, ELE, dimse.C_STORE, None)
    assert (await peer.read_message()).status == 0x0212
    await peer.release()


async def test_message_on_a_context_that_was_not_accepted_aborts(gateway: Gateway) -> None:
    peer = await Peer.associate(gateway.port, (CT, ELE), ("1.2.3.4.5.6", ELE))
    assert len(peer.contexts) == 1
    await peer.write(pdus(3, dimse.store_request(1, CT, uid(1)), b"data"))
    with pytest.raises(Aborted) as aborted:
        await peer.read_pdu()
    assert (aborted.value.source, aborted.value.reason) == (2, 6)
    await peer.close()


async def test_every_storage_class_and_transfer_syntax_is_accepted_as_it_comes(
    gateway: Gateway,
) -> None:
    classes, syntaxes = sorted(storage_classes()), sorted(transfer_syntaxes())
    pairs = [(CT, syntax) for syntax in syntaxes]
    pairs += [(one, syntaxes[index % len(syntaxes)]) for index, one in enumerate(classes)]
    for start in range(0, len(pairs), 128):
        part = pairs[start : start + 128]
        peer = await Peer.associate(gateway.port, *part)
        assert set(peer.contexts) == set(part)
        await peer.release()


def encoded_as(syntax: str, number: int) -> bytes:
    """A data set as ``syntax`` would have its elements."""
    ds = read_dataset(DicomBytesIO(make(number=number).data), False, True)
    if syntax in (EXPLICIT_BIG, IMPLICIT_LE, PAPYRUS):
        return encode(ds, implicit=syntax != EXPLICIT_BIG, little=syntax != EXPLICIT_BIG)
    plain = encode(ds)
    if is_deflated(syntax):
        packer = zlib.compressobj(wbits=-15)
        plain = packer.compress(plain) + packer.flush()
        return plain + bytes(len(plain) % 2)
    return plain


async def test_every_transfer_syntax_is_kept_byte_for_byte(gateway: Gateway) -> None:
    syntaxes = sorted(transfer_syntaxes())
    sent = {}
    peer = await Peer.associate(gateway.port, *[(CT, syntax) for syntax in syntaxes])
    for number, syntax in enumerate(syntaxes, 1):
        sent[uid(1, 1, number)] = (syntax, encoded_as(syntax, number))
        answer = await peer.store(CT, uid(1, 1, number), *sent[uid(1, 1, number)])
        assert answer.status == 0, (syntax, answer.comment)
    await peer.release()
    for name, (syntax, data) in sent.items():
        (found,) = await gateway.reader.find_any(SYSTEM, sop_uids=[name])
        assert found.transfer_syntax_uid == syntax
        assert body(await gateway.reader.read(found)) == data


def test_storage_classes_hold_all_that_pynetdicom_knows() -> None:
    known = {
        *sop_class._STORAGE_CLASSES.values(),
        *(
            uid
            for name, uid in sop_class._NON_PATIENT_OBJECT_CLASSES.items()
            if name.endswith("Storage")
        ),
    }
    assert {str(one) for one in known} <= storage_classes()


async def test_first_proposed_transfer_syntax_wins(gateway: Gateway) -> None:
    jpeg = "1.2.840.10008.1.2.4.70"
    peer = await Peer.associate(gateway.port, (CT, ["1.2.3.4", jpeg, ELE]))
    assert list(peer.contexts) == [(CT, jpeg)]
    await peer.release()


def test_fragments_are_even_and_never_empty() -> None:
    assert [fragment_bytes(size) for size in (0, 1, 7, 16384, 1 << 30)] == [
        262138, 2, 2, 16378, 262138,
    ]  # fmt: skip
