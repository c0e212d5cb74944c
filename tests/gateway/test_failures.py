"""What a sender is told when the archive fails, and what the audit keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import cast

import pytest

from archive.query.service import Catalog
from archive.receive.service import Receiver
from archive.retrieve.service import Reader
from gateway.dimse import command as dimse
from gateway.server import Server, assemble
from gateway.upper_layer.pdu import RELEASE_RP
from kernel.errors import Conflict, Denied, Invalid, Unavailable
from kernel.settings import DicomSettings
from tests.archive.material import make
from tests.gateway.fakes import FULL, FailingDirectory, FailingReceiver, Trail
from tests.gateway.peer import CT, ELE, ILE, STUDY_FIND, VERIFICATION, Peer, Refused, pdus
from tests.waiting import eventually


@dataclass
class Failing:
    """A server over parts that fail."""

    server: Server
    receiver: FailingReceiver
    directory: FailingDirectory
    trail: Trail

    @property
    def port(self) -> int:
        return self.server.port


@pytest.fixture
async def failing() -> AsyncIterator[Failing]:
    receiver, directory, trail = FailingReceiver(), FailingDirectory(), Trail()
    server = assemble(
        DicomSettings(),
        directory,
        cast(Receiver, receiver),
        cast(Reader, None),
        cast(Catalog, None),
        trail,
    )
    await server.listen("127.0.0.1", 0)
    yield Failing(server, receiver, directory, trail)
    await server.close()
    assert server.network.pool.taken == 0


ERRORS = [
    (FULL, 0xA700, "the journal's disk is full"),
    (Unavailable("index.failed", "the index could not be written"), 0xA700, "the index"),
    (Invalid("instance.whatever", "it is “wrong” \\ 错误"), 0xC000, "it is ?wrong? ? ??"),
    (Denied("ae.denied", "no"), 0x0124, "no"),
    (Conflict("x", "y" * 200), 0x0110, "y" * 64),
    (RuntimeError("a secret of ours"), 0x0110, "internal error"),
]


@pytest.mark.parametrize("side", [16, 1200])
@pytest.mark.parametrize(("error", "status", "words"), ERRORS, ids=lambda one: str(one)[:12])
async def test_failure_of_the_archive_becomes_a_status(
    failing: Failing, error: Exception, status: int, words: str, side: int
) -> None:
    made = make(side=side)
    peer = await Peer.associate(failing.port, (CT, ELE))
    failing.receiver.later = error
    answer = await peer.store(CT, made.identity.sop_instance_uid, ELE, made.data)
    assert (answer.status, answer.comment) == (status, words) or words in answer.comment
    failing.receiver.later = None
    if not isinstance(error, RuntimeError):
        failing.receiver.now = error
        answer = await peer.store(CT, made.identity.sop_instance_uid, ELE, made.data)
        assert answer.status == status
        failing.receiver.now = None
    assert (await peer.store(CT, made.identity.sop_instance_uid, ELE, made.data)).status == 0
    assert failing.receiver.stored == [made.data]
    await peer.release()


async def test_disk_that_fills_within_an_object_is_told_after_it(failing: Failing) -> None:
    made = make(side=2000)
    peer = await Peer.associate(failing.port, (CT, ELE))
    failing.receiver.stream_after = 3 << 20
    answer = await peer.store(CT, made.identity.sop_instance_uid, ELE, made.data)
    assert answer.status == 0xA700
    assert failing.receiver.aborted == 1
    failing.receiver.stream_after = 1 << 40
    assert (await peer.store(CT, made.identity.sop_instance_uid, ELE, made.data)).status == 0
    await peer.release()


async def test_directory_that_fails_refuses_for_now(failing: Failing) -> None:
    for error in (Unavailable("database.busy", "busy"), RuntimeError("broken")):
        failing.directory.error = error
        with pytest.raises(Refused) as refused:
            await Peer.associate(failing.port, (CT, ELE))
        assert (refused.value.rejection.result, refused.value.rejection.reason) == (2, 1)
    failing.directory.error = None
    await (await Peer.associate(failing.port, (CT, ELE))).release()


async def test_nothing_is_read_that_cannot_be_recorded(failing: Failing) -> None:
    peer = await Peer.associate(failing.port, (STUDY_FIND, ILE))
    failing.trail.error = Unavailable("audit.failed", "The access cannot be recorded.")
    await peer.request(STUDY_FIND, ILE, dimse.C_FIND, b"")
    answer = await peer.read_message()
    assert (answer.status, answer.comment) == (0xA700, "The access cannot be recorded.")
    await peer.release()


async def test_audit_has_a_line_for_each_study_of_an_association(failing: Failing) -> None:
    peer = await Peer.associate(failing.port, (CT, ELE), calling="CT_ROOM1")
    for number in (1, 2, 3):
        made = make(number=number)
        await peer.store(CT, made.identity.sop_instance_uid, ELE, made.data)
    failing.receiver.later = FULL
    await peer.store(CT, made.identity.sop_instance_uid, ELE, made.data)
    await peer.release()

    async def noted() -> bool:
        return len(failing.trail.lines) == 3

    await eventually(noted)
    opened, stored, failed = failing.trail.lines
    assert (opened.action, opened.outcome, opened.actor.id) == ("dimse.associate", "ok", "CT_ROOM1")
    assert (stored.action, stored.outcome) == ("dimse.c-store", "ok")
    assert (stored.study_instance_uid, stored.count, stored.owner_id) == ("1.2", 3, 1)
    assert stored.detail == {"stored": 3, "again": 0, "failed": 0}
    assert (failed.outcome, failed.count) == ("failed", 1)
    assert stored.peer.startswith("127.0.0.1:")


async def test_refused_association_is_in_the_audit(failing: Failing) -> None:
    with pytest.raises(Refused):
        await Peer.associate(failing.port, (CT, ELE), called="WRONG")
    (line,) = failing.trail.lines
    assert (line.action, line.outcome) == ("dimse.associate", "denied")
    assert line.detail["why"] == "called AE title not recognized"


async def test_store_that_outlives_its_association_is_still_counted(failing: Failing) -> None:
    failing.receiver.hold = asyncio.Event()
    made = make()
    peer = await Peer.associate(failing.port, (CT, ELE))
    command = dimse.store_request(1, CT, made.identity.sop_instance_uid)
    await peer.write(pdus(1, command, made.data))

    async def received() -> bool:
        return any(session.busy() for session in failing.server.services.sessions)

    await eventually(received)
    await peer.close()

    async def gone() -> bool:
        return not failing.server.services.sessions

    await eventually(gone)
    failing.receiver.hold.set()

    async def noted() -> bool:
        return "dimse.c-store" in [line.action for line in failing.trail.lines]

    await eventually(noted)


async def test_closing_server_waits_for_what_is_being_stored(failing: Failing) -> None:
    failing.receiver.hold = asyncio.Event()
    made = make()
    busy = await Peer.associate(failing.port, (CT, ELE))
    idle = await Peer.associate(failing.port, (VERIFICATION, ELE))
    command = dimse.store_request(1, CT, made.identity.sop_instance_uid)
    await busy.write(pdus(1, command, made.data))

    async def received() -> bool:
        return any(session.busy() for session in failing.server.services.sessions)

    await eventually(received)
    closing = asyncio.create_task(failing.server.close())
    with pytest.raises(Exception, match="source 0"):
        await idle.read_pdu()
    failing.receiver.hold.set()
    assert (await busy.read_message()).status == 0
    await closing
    assert failing.receiver.stored == [made.data]
    await busy.close()
    await idle.close()
    assert RELEASE_RP == 6
