"""Every DIMSE service leaves audit lines, for what it gave and for what it refused."""

from __future__ import annotations

import pytest

from gateway.dimse import command as dimse
from kernel.audit.domain import AuditRecord
from kernel.audit.intake import take_in_files
from kernel.audit.service import recent
from tests.archive.material import encode, make, uid
from tests.gateway.conftest import SYSTEM, Gateway
from tests.gateway.peer import CT, ILE, STUDY_FIND, STUDY_GET, STUDY_MOVE, Peer, Refused
from tests.gateway.test_find import identifier
from tests.waiting import eventually

MODELS = {"FIND": STUDY_FIND, "MOVE": STUDY_MOVE, "GET": STUDY_GET}
FIELDS = {"FIND": dimse.C_FIND, "MOVE": dimse.C_MOVE, "GET": dimse.C_GET}


async def lines(gateway: Gateway, action: str) -> list[AuditRecord]:
    """The lines of one action, once there is one; the oldest first."""
    found: list[AuditRecord] = []

    async def there() -> bool:
        await take_in_files(gateway.database)
        async with gateway.database.session(SYSTEM) as session:
            every = await recent(session, SYSTEM)
        found[:] = [one for one in reversed(every) if one.action == action]
        return bool(found)

    await eventually(there)
    for one in found:
        assert one.actor.kind == "ae"
        assert one.peer.startswith("127.0.0.1") and one.purpose
    return found


async def ask(gateway: Gateway, verb: str, keys: bytes, destination: str = "") -> int:
    """The final status of one request; a C-MOVE goes to ASKER unless told otherwise."""
    to = (destination or "ASKER") if verb == "MOVE" else ""
    peer = await Peer.associate(gateway.port, (MODELS[verb], ILE), calling="ASKER")
    await peer.request(MODELS[verb], ILE, FIELDS[verb], keys, to)
    while True:
        message = await peer.read_message()
        if message.status >> 8 != 0xFF:
            await peer.release()
            return message.status


def study(number: int) -> bytes:
    return encode(
        identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID=uid(number)), implicit=True
    )


async def test_associations_are_noted_given_and_refused(gateway: Gateway) -> None:
    peer = await Peer.associate(gateway.port, (CT, ILE), calling="SENDER")
    await peer.release()
    with pytest.raises(Refused):
        await Peer.associate(gateway.port, (CT, ILE), calling="SENDER", called="ELSE")

    async def both() -> bool:
        return len(await lines(gateway, "dimse.associate")) == 2

    await eventually(both)
    outcomes = {one.outcome: one.actor.id for one in await lines(gateway, "dimse.associate")}
    assert outcomes == {"ok": "SENDER", "denied": "SENDER"}


async def test_a_refused_instance_is_noted_like_a_stored_one(gateway: Gateway) -> None:
    made = make()
    peer = await Peer.associate(gateway.port, (CT, ILE), calling="SENDER")
    good = await peer.store(CT, made.identity.sop_instance_uid, ILE, made.data)
    bad = await peer.store(CT, "not a uid", ILE, made.data)
    assert good.status != bad.status
    await peer.release()

    async def all_there() -> bool:
        found = await lines(gateway, "dimse.c-store")
        return {one.outcome for one in found} >= {"failed"} and len(found) == 2

    await eventually(all_there)


@pytest.mark.parametrize("verb", ["FIND", "MOVE", "GET"])
async def test_what_is_asked_without_sense_is_noted(gateway: Gateway, verb: str) -> None:
    assert set(gateway.server.services.operations) == set(MODELS)  # a new one needs its lines
    await gateway.add_ae("ASKER", 1)
    keys = encode(identifier(QueryRetrieveLevel="GALAXY"), implicit=True)
    status = await ask(gateway, verb, keys)
    assert status != 0
    (line,) = await lines(gateway, f"dimse.c-{verb.lower()}")
    assert (line.outcome, line.actor.id) == ("failed", "ASKER")
    assert line.detail["why"]


@pytest.mark.parametrize("verb", ["FIND", "MOVE", "GET"])
async def test_what_finds_nothing_is_noted_too(gateway: Gateway, verb: str) -> None:
    await gateway.add_ae("ASKER", 1)
    assert await ask(gateway, verb, study(9)) == 0
    (line,) = await lines(gateway, f"dimse.c-{verb.lower()}")
    assert (line.outcome, line.actor.id) == ("ok", "ASKER")


async def test_a_move_to_a_stranger_is_a_denied_access(gateway: Gateway) -> None:
    assert await ask(gateway, "MOVE", study(1), "STRANGER") == 0xA801
    (line,) = await lines(gateway, "dimse.c-move")
    assert (line.outcome, line.detail["destination"]) == ("denied", "STRANGER")


async def test_a_service_of_another_class_is_noted(gateway: Gateway) -> None:
    peer = await Peer.associate(gateway.port, (STUDY_FIND, ILE), calling="ASKER")
    await peer.request(STUDY_FIND, ILE, dimse.C_MOVE, study(1))
    assert (await peer.read_message()).status != 0
    await peer.release()
    (line,) = await lines(gateway, "dimse.c-move")
    assert line.outcome == "failed"
