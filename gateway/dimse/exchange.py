"""One operation that a peer asked for, while it is going on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.ae.domain import Ae
from gateway.audit import Auditor
from gateway.dimse.command import MESSAGE_ID, Command, number, response
from gateway.dimse.fragment import message
from gateway.upper_layer.association import Association
from gateway.upper_layer.negotiation import Context
from gateway.upper_layer.sop_classes import IMPLICIT_LE
from kernel.scope import Scope


@dataclass(slots=True)
class Exchange:
    """A C-FIND, C-MOVE or C-GET: its request and the way to answer it.

    ``ae`` is who asks; ``expect(message_id)`` gives the status that will answer a request of ours
    on the same association (C-GET); ``cancelled`` becomes true when a C-CANCEL names the operation
    (PS3.7 9.3.2.3).
    """

    association: Association
    context: Context
    request: Command
    identifier: bytes
    scope: Scope
    ae: Ae
    auditor: Auditor
    expect: Callable[[int], asyncio.Future[int]]
    cancelled: bool = False

    @property
    def implicit(self) -> bool:
        """Whether its data sets are Implicit VR Little Endian."""
        return self.context.transfer_syntax == IMPLICIT_LE

    @property
    def message_id(self) -> int:
        """The Message ID of the request."""
        return number(self.request, MESSAGE_ID, 0)

    def encoded(
        self,
        status: int,
        data: bytes | None = None,
        words: str = "",
        counters: Iterable[tuple[int, int]] = (),
        offending: int | None = None,
    ) -> bytes:
        """A response as PDUs."""
        command = response(
            self.request,
            status,
            words,
            data_set=data is not None,
            counters=counters,
            offending=offending,
        )
        agreement = self.association.agreement
        limit = agreement.peer_max_pdu_bytes if agreement is not None else 0
        return message(self.context.id, command, data, limit)

    async def answer(
        self,
        status: int,
        data: bytes | None = None,
        words: str = "",
        counters: Iterable[tuple[int, int]] = (),
        offending: int | None = None,
    ) -> None:
        """Send a response. Raises ConnectionLost."""
        self.association.send(self.encoded(status, data, words, counters, offending))
        await self.association.drain()
