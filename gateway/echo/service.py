"""Verification (PS3.4 Annex A): answering as SCP, and asking another node as SCU."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from gateway.ae.domain import Ae
from gateway.dimse.command import (
    AFFECTED_SOP_CLASS_UID,
    C_ECHO,
    COMMAND_FIELD,
    DATA_SET_TYPE,
    MESSAGE_ID,
    NO_DATA_SET,
    Command,
    encode,
    response,
    ui,
    us,
)
from gateway.dimse.fragment import message
from gateway.dimse.requestor import open_association
from gateway.dimse.status import SUCCESS
from gateway.upper_layer.network import Network
from gateway.upper_layer.pdu import ProposedContext
from gateway.upper_layer.service_user import ConnectionLost, Limits
from gateway.upper_layer.sop_classes import VERIFICATION
from kernel.errors import Unavailable

ANSWER_S = 8.0
_IMPLICIT = "1.2.840.10008.1.2"
_CONTEXT = 1


def echo_answer(context_id: int, request: Command, max_pdu_bytes: int) -> bytes:
    """The C-ECHO-RSP as PDUs."""
    return message(context_id, response(request, SUCCESS), None, max_pdu_bytes)


def asker(ae_title: str) -> Callable[[Ae], Awaitable[float]]:
    """Asks nodes under the title `ae_title`; each question is an association of its own."""

    async def ask(node: Ae) -> float:
        """Milliseconds from the request of the association to the answer.

        Raises Unavailable `peer.unreachable`, `peer.lost`, `peer.echo`; Denied `peer.rejected`.
        """
        began = time.perf_counter()
        contexts = (ProposedContext(_CONTEXT, VERIFICATION, (_IMPLICIT,)),)
        network = Network()
        try:
            peer = await open_association(
                node.host, node.port, node.title, ae_title, contexts, network, Limits(), ANSWER_S
            )
            agreement = peer.association.agreement
            if agreement is None or _CONTEXT not in agreement.contexts:
                raise _refused(node, "no presentation context")
            answered = peer.responses.expect(1)
            peer.association.send(message(_CONTEXT, echo_request(1), None, 16384))
            async with asyncio.timeout(ANSWER_S):
                status = await answered
            taken_ms = (time.perf_counter() - began) * 1000
            await peer.release()
        except (TimeoutError, ConnectionLost) as error:
            raise _refused(node, str(error) or "no answer in time") from error
        finally:
            await network.close()
        if status != SUCCESS:
            raise _refused(node, f"{status:04X}H")
        return taken_ms

    return ask


def echo_request(message_id: int) -> bytes:
    """A C-ECHO-RQ (PS3.7 Table 9.3-12)."""
    return encode(
        (
            (AFFECTED_SOP_CLASS_UID, ui(VERIFICATION)),
            (COMMAND_FIELD, us(C_ECHO)),
            (MESSAGE_ID, us(message_id)),
            (DATA_SET_TYPE, us(NO_DATA_SET)),
        )
    )


def _refused(node: Ae, why: str) -> Unavailable:
    return Unavailable("peer.echo", "{title} did not answer: {why}.", title=node.title, why=why)
