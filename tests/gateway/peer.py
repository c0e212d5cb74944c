"""A raw DICOM peer: whole control over PDUs, PDVs and the cuts of the TCP stream."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from gateway.dimse import command as dimse
from gateway.upper_layer.pdu import (
    ABORT,
    ACCEPTED,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    P_DATA_TF,
    RELEASE_RP,
    RELEASE_RQ_PDU,
    Associate,
    ProposedContext,
    Rejection,
    Role,
    UserInformation,
    decode_abort,
    decode_associate,
    decode_reject,
    encode_associate,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
PATIENT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.3"
ILE = "1.2.840.10008.1.2"
ELE = "1.2.840.10008.1.2.1"


class Refused(Exception):
    """The server answered by A-ASSOCIATE-RJ."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(str(rejection))
        self.rejection = rejection


class Aborted(Exception):
    """The server answered by A-ABORT."""

    def __init__(self, source: int, reason: int) -> None:
        super().__init__(f"source {source}, reason {reason}")
        self.source = source
        self.reason = reason


@dataclass
class Message:
    """A DIMSE message as received."""

    context_id: int
    command: dimse.Command
    data: bytes | None

    @property
    def status(self) -> int:
        return dimse.number(self.command, dimse.STATUS)

    @property
    def comment(self) -> str:
        return dimse.text(self.command, dimse.ERROR_COMMENT)


@dataclass
class Peer:
    """A connection; ``cut`` chooses where each write is cut into TCP pieces."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    accept: Associate | None = None
    cut: random.Random | None = None
    message_id: int = 0
    contexts: dict[tuple[str, str], int] = field(default_factory=dict)

    @classmethod
    async def connect(cls, port: int, cut: random.Random | None = None) -> Peer:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        return cls(reader, writer, cut=cut)

    @classmethod
    async def associate(
        cls,
        port: int,
        *contexts: tuple[str, str | Sequence[str]],
        called: str = "YUNYING",
        calling: str = "RAW_PEER",
        max_pdu: int = 16384,
        roles: tuple[Role, ...] = (),
        user: UserInformation | None = None,
        cut: random.Random | None = None,
    ) -> Peer:
        """An established association; raises Refused or Aborted."""
        peer = await cls.connect(port, cut)
        proposed = tuple(
            ProposedContext(
                2 * index + 1,
                abstract,
                (syntaxes,) if isinstance(syntaxes, str) else tuple(syntaxes),
            )
            for index, (abstract, syntaxes) in enumerate(contexts)
        )
        information = user or UserInformation(max_pdu, "1.2.3.4", "RAW", roles=roles)
        await peer.write(
            encode_associate(Associate(called, calling, proposed, user=information), ASSOCIATE_RQ)
        )
        try:
            kind, body = await peer.read_pdu()
        except (Aborted, EOFError):
            await peer.close()
            raise
        if kind == ASSOCIATE_RJ:
            await peer.close()
            raise Refused(decode_reject(body))
        assert kind == ASSOCIATE_AC, kind
        peer.accept = decode_associate(body, ASSOCIATE_AC)
        asked = {context.id: context for context in proposed}
        for result in peer.accept.results:
            if result.result == ACCEPTED:
                key = (asked[result.id].abstract_syntax, result.transfer_syntax)
                peer.contexts[key] = result.id
        return peer

    async def write(self, data: bytes) -> None:
        """Send bytes, cut at random places where asked for."""
        if self.cut is None:
            self.writer.write(data)
            await self.writer.drain()
            return
        at = 0
        while at < len(data):
            size = self.cut.choice((1, 2, 5, 6, 7, 11, 64, 500, 4096, 30000, 200000))
            self.writer.write(data[at : at + size])
            await self.writer.drain()
            await asyncio.sleep(0)
            at += size

    async def read_pdu(self) -> tuple[int, bytes]:
        """The next PDU; raises Aborted for an A-ABORT and EOFError at the end."""
        async with asyncio.timeout(20):
            try:
                kind, _, length = struct.unpack(">BBI", await self.reader.readexactly(6))
                body = await self.reader.readexactly(length)
            except asyncio.IncompleteReadError:
                raise EOFError from None
        if kind == ABORT:
            raise Aborted(*decode_abort(body))
        return kind, body

    async def read_message(self) -> Message:
        """The next whole DIMSE message."""
        command, data = b"", b""
        parsed: dimse.Command | None = None
        while True:
            kind, body = await self.read_pdu()
            assert kind == P_DATA_TF, kind
            at = 0
            while at < len(body):
                length, context, flags = struct.unpack_from(">IBB", body, at)
                fragment = body[at + 6 : at + 4 + length]
                at += 4 + length
                if flags & 1:
                    command += fragment
                    if flags & 2:
                        parsed = dimse.parse(command)
                        if not dimse.has_data_set(parsed):
                            return Message(context, parsed, None)
                else:
                    data += fragment
                    if flags & 2:
                        assert parsed is not None
                        return Message(context, parsed, data)

    def next_id(self) -> int:
        self.message_id += 1
        return self.message_id

    async def store(
        self,
        sop_class: str,
        sop_instance: str,
        syntax: str,
        data: bytes,
        fragment: int = 16378,
    ) -> Message:
        """C-STORE a data set exactly as given, and its response."""
        context = self.contexts[sop_class, syntax]
        command = dimse.store_request(self.next_id(), sop_class, sop_instance)
        await self.write(pdus(context, command, data, fragment))
        return await self.read_message()

    async def request(
        self, sop_class: str, syntax: str, verb: int, data: bytes | None, destination: str = ""
    ) -> int:
        """Any request with an identifier; its Message ID."""
        number = self.next_id()
        to = [(dimse.MOVE_DESTINATION, dimse.ae(destination))] if destination else []
        command = dimse.encode(
            [
                (dimse.AFFECTED_SOP_CLASS_UID, dimse.ui(sop_class)),
                (dimse.COMMAND_FIELD, dimse.us(verb)),
                (dimse.MESSAGE_ID, dimse.us(number)),
                *to,
                (dimse.PRIORITY, dimse.us(0)),
                (
                    dimse.DATA_SET_TYPE,
                    dimse.us(dimse.NO_DATA_SET if data is None else dimse.DATA_SET),
                ),
            ]
        )
        await self.write(pdus(self.contexts[sop_class, syntax], command, data))
        return number

    async def release(self) -> None:
        """A-RELEASE and its answer."""
        await self.write(RELEASE_RQ_PDU)
        kind, _ = await self.read_pdu()
        assert kind == RELEASE_RP
        await self.close()

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


def pdu(*pdvs: bytes) -> bytes:
    """A P-DATA-TF."""
    body = b"".join(pdvs)
    return struct.pack(">BBI", P_DATA_TF, 0, len(body)) + body


def pdv(context: int, flags: int, fragment: bytes) -> bytes:
    """A Presentation Data Value; flags: 1 command, 2 last."""
    return struct.pack(">IBB", len(fragment) + 2, context, flags) + fragment


def pieces(data: bytes, size: int) -> Iterable[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)] or [b""]


def pdus(context: int, command: bytes, data: bytes | None, fragment: int = 16378) -> bytes:
    """A message, each fragment in a PDU of its own."""
    out = []
    for flag, payload in ((1, command), (0, data)):
        if payload is not None:
            parts = list(pieces(payload, fragment))
            out += [pdu(pdv(context, flag, part)) for part in parts[:-1]]
            out.append(pdu(pdv(context, flag | 2, parts[-1])))
    return b"".join(out)
