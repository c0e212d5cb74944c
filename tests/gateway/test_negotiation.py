"""What is accepted, what is refused and for which reason (PS3.8 Table 9-21)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.ae.tables import ae
from gateway.upper_layer.pdu import (
    ABSTRACT_NOT_SUPPORTED,
    ACCEPTED,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    TRANSFER_NOT_SUPPORTED,
    Associate,
    ProposedContext,
    Role,
    UserInformation,
    decode_reject,
    encode_associate,
)
from gateway.upper_layer.sop_classes import QUERY_CLASSES
from kernel.settings import DicomSettings
from tests.gateway.conftest import SYSTEM, Gateway
from tests.gateway.peer import CT, ELE, ILE, STUDY_FIND, VERIFICATION, Peer, Refused
from tests.waiting import eventually

PRIVATE_CLASS, PRIVATE_SYNTAX = "1.2.826.0.1.3680043.10.999.5", "1.2.826.0.1.3680043.10.999.6"


@pytest.fixture
def dicom_settings(request: pytest.FixtureRequest) -> DicomSettings:
    return getattr(request, "param", DicomSettings())


async def rejection_of(gateway: Gateway, **fields: object) -> tuple[int, int, int]:
    peer = await Peer.connect(gateway.port)
    context = ProposedContext(1, VERIFICATION, (ELE,))
    request = replace(Associate("YUNYING", "PEER", (context,)), **fields)  # type: ignore[arg-type]
    raw = bytearray(encode_associate(request, ASSOCIATE_RQ))
    raw[6:8] = request.protocol_version.to_bytes(2, "big")
    await peer.write(bytes(raw))
    kind, body = await peer.read_pdu()
    await peer.close()
    assert kind == ASSOCIATE_RJ
    found = decode_reject(body)
    return found.result, found.source, found.reason


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"called_ae_title": "OTHER"}, (1, 1, 7)),
        ({"application_context": "1.2.3"}, (1, 1, 2)),
        ({"protocol_version": 2}, (1, 2, 2)),
    ],
)
async def test_rejection_names_its_reason(
    gateway: Gateway, fields: dict[str, object], expected: tuple[int, int, int]
) -> None:
    assert await rejection_of(gateway, **fields) == expected


@pytest.mark.parametrize(
    "dicom_settings", [DicomSettings(accept_unknown_calling=False)], indirect=True
)
async def test_unknown_calling_is_refused_where_the_setting_says_so(gateway: Gateway) -> None:
    assert await rejection_of(gateway) == (1, 1, 3)
    await gateway.add_ae("PEER", 104)
    peer = await Peer.associate(gateway.port, (VERIFICATION, ELE), calling="PEER")
    await peer.release()


async def test_suspended_calling_is_refused(gateway: Gateway) -> None:
    await gateway.add_ae("PEER", 104)
    async with gateway.database.session(SYSTEM, write=True) as session:
        await session.execute(ae.update().values(state="suspended"))
    assert await rejection_of(gateway) == (1, 1, 3)


@pytest.mark.parametrize("dicom_settings", [DicomSettings(max_associations=2)], indirect=True)
async def test_one_association_too_many_is_refused_for_now(gateway: Gateway) -> None:
    peers = [await Peer.associate(gateway.port, (VERIFICATION, ELE)) for _ in range(2)]
    assert await rejection_of(gateway) == (2, 3, 2)
    await peers.pop().release()
    peers.append(await Peer.associate(gateway.port, (VERIFICATION, ELE)))
    for peer in peers:
        await peer.release()


async def test_contexts_are_answered_one_by_one(gateway: Gateway) -> None:
    peer = await Peer.associate(
        gateway.port,
        (CT, [ELE, ILE]),
        ("1.2.3.4", ELE),
        (CT, "1.2.3.4.5"),
        (STUDY_FIND, ["1.2.840.10008.1.2.2", ILE]),
    )
    assert peer.accept is not None
    answers = [(one.id, one.result, one.transfer_syntax) for one in peer.accept.results]
    assert answers == [
        (1, ACCEPTED, ELE),
        (3, ABSTRACT_NOT_SUPPORTED, ELE),
        (5, TRANSFER_NOT_SUPPORTED, "1.2.3.4.5"),
        (7, ACCEPTED, ILE),
    ]
    await peer.release()


@pytest.mark.parametrize(
    "dicom_settings",
    [
        DicomSettings(
            private_sop_classes=(PRIVATE_CLASS,), private_transfer_syntaxes=(PRIVATE_SYNTAX,)
        )
    ],
    indirect=True,
)
async def test_private_classes_and_syntaxes_are_accepted_by_setting(gateway: Gateway) -> None:
    peer = await Peer.associate(gateway.port, (PRIVATE_CLASS, PRIVATE_SYNTAX))
    assert peer.contexts == {(PRIVATE_CLASS, PRIVATE_SYNTAX): 1}
    await peer.release()


async def test_other_negotiation_items_are_tolerated(gateway: Gateway) -> None:
    asked = UserInformation(
        16384,
        "1.2.3",
        "RAW",
        asynchronous_operations=(5, 9),
        roles=(Role(CT, True, True), Role("1.2.3.4", True, True)),
        extended=((STUDY_FIND, b"\1\1\1"), (CT, b"\2\0\1\0\0\0")),
    )
    peer = await Peer.associate(gateway.port, (CT, ELE), (STUDY_FIND, ILE), user=asked)
    assert peer.accept is not None
    told = peer.accept.user
    assert told.asynchronous_operations == (1, 1)
    assert told.roles == (Role(CT, True, True),)
    assert told.extended == ((STUDY_FIND, b"\1\0\0"),)
    assert told.max_pdu_bytes == 262144
    await peer.release()


async def test_user_identity_and_common_extended_negotiation_are_tolerated(
    gateway: Gateway,
) -> None:
    request = Associate("YUNYING", "PEER", (ProposedContext(1, VERIFICATION, (ELE,)),))
    raw = encode_associate(request, ASSOCIATE_RQ)
    identity = b"\1\1\0\4user\0\0"
    uid = CT.encode()
    common = len(uid).to_bytes(2, "big") + uid + b"\0\0" + b"\0\0"
    extra = b"".join(
        bytes([kind, 0]) + len(value).to_bytes(2, "big") + value
        for kind, value in ((0x58, identity), (0x57, common), (0x7F, b"whatever"))
    )
    at = raw.rindex(b"\x50\x00", 0, raw.rindex(b"\x51\x00") + 1)
    length = int.from_bytes(raw[at + 2 : at + 4], "big") + len(extra)
    raw = raw[: at + 2] + length.to_bytes(2, "big") + raw[at + 4 :] + extra
    raw = raw[:2] + (len(raw) - 6).to_bytes(4, "big") + raw[6:]
    peer = await Peer.connect(gateway.port)
    await peer.write(raw)
    kind, body = await peer.read_pdu()
    assert kind == 2
    assert b"\x59\x00\x00\x02\x00\x00" in body
    await peer.close()

    async def gone() -> bool:
        return not gateway.server.services.sessions

    await eventually(gone)


async def test_titles_may_have_spaces_around_them(gateway: Gateway) -> None:
    peer = await Peer.associate(gateway.port, (VERIFICATION, ELE), called=" YUNYING ")
    await peer.release()
    with pytest.raises(Refused):
        await Peer.associate(gateway.port, (VERIFICATION, ELE), called="yunying")


def test_query_models_are_those_of_the_standard() -> None:
    assert QUERY_CLASSES["1.2.840.10008.5.1.4.1.2.1.1"].root == "PATIENT"
    assert QUERY_CLASSES["1.2.840.10008.5.1.4.1.2.2.2"].verb == "MOVE"
    assert QUERY_CLASSES["1.2.840.10008.5.1.4.1.2.2.3"].verb == "GET"
