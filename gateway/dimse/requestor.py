"""Opening an association to another node (PS3.8 7.1), for C-MOVE sub-operations and C-ECHO."""

from __future__ import annotations

import asyncio

from dataset.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from gateway.dimse.command import (
    COMMAND_FIELD,
    RESPONSE,
    CommandError,
    has_data_set,
    number,
    parse,
)
from gateway.dimse.responses import Responses
from gateway.upper_layer.association import Association
from gateway.upper_layer.incoming import Disposal
from gateway.upper_layer.negotiation import requested
from gateway.upper_layer.network import Network
from gateway.upper_layer.pdu import (
    INVALID_PARAMETER,
    Associate,
    PduError,
    ProposedContext,
    Rejection,
    UserInformation,
)
from gateway.upper_layer.service_user import Limits
from kernel.errors import Denied, Unavailable


class Requestor:
    """The service user of an association that we opened; waits for one response at a time."""

    def __init__(self, association: Association) -> None:
        self.association = association
        self.confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.over = asyncio.Event()
        self.responses = Responses()

    async def release(self, timeout_s: float = 5.0) -> None:
        """A-RELEASE, and wait until it is over."""
        self.association.release()
        try:
            async with asyncio.timeout(timeout_s):
                await self.over.wait()
        except TimeoutError:
            self.association.abort("no release in time")

    # Calls of the upper layer

    def associate_indication(self, request: Associate) -> None:
        """Only an acceptor is asked."""

    def associate_confirmed(self, answer: Associate | Rejection) -> None:
        """The peer accepted or refused."""
        if self.confirmed.done():
            return
        if isinstance(answer, Rejection):
            self.confirmed.set_exception(
                Denied(
                    "peer.rejected",
                    "The node refused the association: result {result}, source {source}, "
                    "reason {reason}.",
                    result=answer.result,
                    source=answer.source,
                    reason=answer.reason,
                )
            )
            return
        if self.association.request is not None:
            self.association.agreement = requested(self.association.request, answer)
        self.confirmed.set_result(None)

    def release_indication(self) -> bool:
        """The peer wants to go."""
        return True

    def busy(self) -> bool:
        """Time limits are those of each sub-operation."""
        return True

    def ended(self, why: str) -> None:
        """Whoever waits for an answer will not get one."""
        self.over.set()
        if not self.confirmed.done():
            self.confirmed.set_exception(
                Unavailable("peer.lost", "The node ended the association: {why}.", why=why)
            )
        self.responses.lost(why)

    def command(self, context_id: int, command: bytes) -> Disposal:
        """A response; a request is out of place, for we proposed no role as SCP."""
        try:
            answer = parse(command)
            if not number(answer, COMMAND_FIELD) & RESPONSE:
                raise PduError("a request from an acceptor", INVALID_PARAMETER)
            self.responses.answered(answer)
            data_follows = has_data_set(answer)
        except CommandError as error:
            raise PduError(str(error), INVALID_PARAMETER) from error
        return Disposal.DISCARD if data_follows else Disposal.NO_DATA

    def spill(self, parts: list[memoryview]) -> None:
        """No data set is kept."""

    def data(self, parts: list[memoryview]) -> None:
        """No data set is kept."""


async def open_association(
    host: str,
    port: int,
    called: str,
    calling: str,
    contexts: tuple[ProposedContext, ...],
    network: Network,
    limits: Limits,
    timeout_s: float = 15.0,
) -> Requestor:
    """An established association.

    Raises:
        Unavailable: ``peer.unreachable`` or ``peer.lost``.
        Denied: ``peer.rejected``.
    """
    request = Associate(
        called,
        calling,
        contexts,
        user=UserInformation(
            max_pdu_bytes=limits.max_pdu_bytes,
            implementation_class_uid=IMPLEMENTATION_CLASS_UID,
            implementation_version=IMPLEMENTATION_VERSION_NAME,
        ),
    )
    users: list[Requestor] = []

    def user(association: Association) -> Requestor:
        users.append(Requestor(association))
        return users[0]

    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            await loop.create_connection(
                lambda: Association(network, limits, user, request), host, port
            )
            await users[0].confirmed
    except (OSError, TimeoutError) as error:
        for opened in users:
            opened.confirmed.cancel()
            opened.association.abort("no association in time")
        why = "no answer in time" if isinstance(error, TimeoutError) else str(error)
        raise Unavailable(
            "peer.unreachable",
            "{title} at {host}:{port} cannot be reached: {why}.",
            title=called,
            host=host,
            port=port,
            why=why,
        ) from error
    return users[0]
