"""One association over one transport connection: the upper layer's actions (PS3.8 section 9.2).

Events go through ``machine.step`` (Table 9-10) and the action it names; only a P-DATA-TF in Sta6
takes a short cut (DT-2 changes nothing). Whatever a peer sends costs this one connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.upper_layer.connection import Connection
from gateway.upper_layer.incoming import Disposal, Incoming
from gateway.upper_layer.machine import NEXT_STATE, Event, State, step
from gateway.upper_layer.negotiation import Agreement, protocol_fault
from gateway.upper_layer.network import Network
from gateway.upper_layer.pdu import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    NOT_SPECIFIED,
    RELEASE_RP,
    RELEASE_RP_PDU,
    RELEASE_RQ,
    RELEASE_RQ_PDU,
    SOURCE_PROVIDER,
    SOURCE_USER,
    UNEXPECTED_PDU,
    Associate,
    PduError,
    Rejection,
    decode_abort,
    decode_associate,
    decode_reject,
    encode_abort,
    encode_associate,
    encode_reject,
)
from gateway.upper_layer.service_user import ConnectionLost, Limits, ServiceUser

DISCARD_LIMIT_BYTES = 8 << 20


class Association(Connection):
    """The connection of an acceptor, or of a requestor when ``request`` is given."""

    __slots__ = (
        "_discarded",
        "_incoming",
        "_user",
        "acceptor",
        "agreement",
        "request",
        "state",
        "why",
    )

    def __init__(
        self,
        network: Network,
        limits: Limits,
        user: Callable[[Association], ServiceUser],
        request: Associate | None = None,
    ) -> None:
        super().__init__(network, limits)
        self.acceptor = request is None
        self.request = request
        self.state = State.IDLE if request is None else State.AWAITING_TRANSPORT
        self.agreement: Agreement | None = None
        self.why = ""
        self._discarded = 0
        self._user: ServiceUser | None = user(self)
        self._incoming = Incoming(network.pool, self, limits.max_pdu_bytes)

    # Calls of the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Evt5 for an acceptor, Evt2 for a requestor."""
        super().connection_made(transport)
        self._event(Event.TRANSPORT_INDICATION if self.acceptor else Event.TRANSPORT_CONFIRM)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return self._incoming.window()

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes arrived; what is wrong with them is answered by an A-ABORT."""
        self._last_heard = self._loop.time()
        if self.state is State.AWAITING_CLOSE:
            self._discarded += nbytes
            if self._discarded > DISCARD_LIMIT_BYTES:
                self._close()
        try:
            self._incoming.received(nbytes)
        except PduError as fault:
            self._invalid(fault)
        if self._incoming.held is not None and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """The peer closed its side: the transport closes itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Evt17."""
        if self.state is not State.IDLE:
            self._event(Event.TRANSPORT_CLOSED)
        super().connection_lost(exc)
        self._incoming.close()
        self._end("connection closed")

    # Requests of the service user

    def accept(self, answer: Associate, agreement: Agreement) -> None:
        """A-ASSOCIATE response: accepted (Evt7)."""
        if self.state is State.AWAITING_LOCAL_ASSOCIATE:
            self.agreement = agreement
            self._event(Event.ASSOCIATE_ACCEPT, answer)

    def reject(self, rejection: Rejection) -> None:
        """A-ASSOCIATE response: refused (Evt8)."""
        if self.state is State.AWAITING_LOCAL_ASSOCIATE:
            self._event(Event.ASSOCIATE_REJECT, rejection)

    def send(self, pdus: bytes) -> None:
        """Whole P-DATA-TF PDUs (Evt9); what comes after the end of the association is dropped."""
        if self.open and self._transport is not None:
            self._transport.write(pdus)

    async def drain(self) -> None:
        """Wait until the peer has taken enough. Raises ConnectionLost."""
        if self._drained is not None:
            await asyncio.shield(self._drained)
        if not self.open:
            raise ConnectionLost(self.why)

    def resume(self) -> None:
        """The operation is over: go on with a request that was held."""
        if self._incoming.held is None:
            return
        self._last_heard = self._loop.time()
        try:
            again = self._incoming.resume()
        except PduError as fault:
            self._invalid(fault)
            again = True
        if again and self._transport is not None:
            self._transport.resume_reading()

    def release(self) -> None:
        """A-RELEASE request (Evt11), when there is still something to release."""
        if self.state is State.ESTABLISHED:
            self._event(Event.RELEASE_REQUEST)

    def release_response(self) -> None:
        """A-RELEASE response (Evt14) to an indication that was left waiting."""
        if self.state in (State.AWAITING_LOCAL_RELEASE, State.COLLISION_ACCEPTOR_LOCAL):
            self._event(Event.RELEASE_RESPONSE)

    def abort(self, why: str) -> None:
        """A-ABORT request (Evt15)."""
        if self.state is State.AWAITING_ASSOCIATE_RQ:
            self._close()
        elif self.state not in (State.IDLE, State.AWAITING_CLOSE):
            self.why = self.why or why
            self._event(Event.ABORT_REQUEST)

    def close(self) -> None:
        """Close the connection without a word (a bare connection that only takes room)."""
        self._close()

    def drop(self) -> None:
        """Close the connection at once, whatever is waiting to be sent."""
        self._close()
        super().drop()

    @property
    def open(self) -> bool:
        """Whether P-DATA may be sent: Sta6, or Sta8 while the peer waits for our release."""
        return self.state is State.ESTABLISHED or self.state is State.AWAITING_LOCAL_RELEASE

    # What the parser found

    def control(self, kind: int, body: bytes) -> None:
        """A PDU other than P-DATA-TF."""
        if kind == ASSOCIATE_RQ:
            self._associate(Event.ASSOCIATE_RQ_PDU, State.AWAITING_ASSOCIATE_RQ, kind, body)
        elif kind == ASSOCIATE_AC:
            self._associate(Event.ASSOCIATE_AC_PDU, State.AWAITING_ASSOCIATE_AC, kind, body)
        elif kind == ASSOCIATE_RJ:
            wanted = self.state is State.AWAITING_ASSOCIATE_AC
            self._event(Event.ASSOCIATE_RJ_PDU, decode_reject(body) if wanted else None)
        elif kind == RELEASE_RQ:
            self._event(Event.RELEASE_RQ_PDU)
        elif kind == RELEASE_RP:
            self._event(Event.RELEASE_RP_PDU)
        elif kind == ABORT:
            self._event(Event.ABORT_PDU, decode_abort(body))

    def p_data(self) -> bool:
        """A P-DATA-TF begins."""
        if self.state is State.ESTABLISHED:
            return True
        self._event(Event.P_DATA_PDU)
        return self.state is State.AWAITING_RELEASE_RP

    def command(self, context_id: int, command: bytes) -> Disposal:
        """A whole command set."""
        if self._user is None:
            return Disposal.NO_DATA
        return self._user.command(context_id, command)

    def spill(self, parts: list[memoryview]) -> None:
        """Parts of a data set that does not fit in a buffer."""
        if self._user is not None:
            self._user.spill(parts)

    def data(self, parts: list[memoryview]) -> None:
        """The (last) parts of a complete data set."""
        if self._user is not None:
            self._user.data(parts)

    def _associate(self, event: Event, expected: State, kind: int, body: bytes) -> None:
        """Read an A-ASSOCIATE only where one is expected."""
        wanted = self.state is expected
        self._event(event, decode_associate(body, kind) if wanted else None)

    def _invalid(self, fault: PduError) -> None:
        self.why = self.why or str(fault)
        if self.state is not State.IDLE:
            self._event(Event.INVALID_PDU, fault.reason)

    def _event(self, event: Event, argument: Any = None) -> None:
        action = step(event, self.state)
        self.state = NEXT_STATE[action][0]
        ACTIONS[action](self, argument)

    # Actions, PS3.8 Tables 9-6 to 9-9. The state is already the one that follows.

    def _send_request(self, _: object) -> None:
        """AE-2."""
        self._start_artim()
        if self.request is not None:
            self._write(encode_associate(self.request, ASSOCIATE_RQ))

    def _confirm_accept(self, answer: Associate) -> None:
        """AE-3."""
        self._stop_artim()
        if self._user is not None:
            self._user.associate_confirmed(answer)

    def _confirm_reject(self, rejection: Rejection) -> None:
        """AE-4."""
        if self._user is not None:
            self._user.associate_confirmed(rejection)
        self._close()

    def _wait_for_request(self, _: object) -> None:
        """AE-5."""
        self._start_artim()

    def _indicate_request(self, request: Associate) -> None:
        """AE-6."""
        self._stop_artim()
        self.request = request
        fault = protocol_fault(request)
        if fault is not None:
            self.state = NEXT_STATE["AE-6"][1]
            self._send_reject(fault)
        elif self._user is not None:
            self._user.associate_indication(request)

    def _send_accept(self, answer: Associate) -> None:
        """AE-7."""
        self._write(encode_associate(answer, ASSOCIATE_AC))
        self._watch_idle()

    def _send_reject(self, rejection: Rejection) -> None:
        """AE-8."""
        self._end(rejection.text)
        self._write(encode_reject(rejection))
        self._start_artim()

    def _send_release_request(self, _: object) -> None:
        """AR-1."""
        self._write(RELEASE_RQ_PDU)
        self._start_artim()

    def _indicate_release(self, _: object) -> None:
        """AR-2."""
        if self._user is None or self._user.release_indication():
            self.release_response()

    def _confirm_release(self, _: object) -> None:
        """AR-3."""
        self._end("released")
        self._close()

    def _send_release_response(self, _: object) -> None:
        """AR-4, and AR-9, after which the peer's own response is awaited."""
        self._write(RELEASE_RP_PDU)
        self._start_artim()
        if self.state is State.AWAITING_CLOSE:
            self._end("released")

    def _release_collision(self, _: object) -> None:
        """AR-8: the requestor answers first (Sta9), the acceptor waits (Sta10)."""
        if self.acceptor:
            self.state = NEXT_STATE["AR-8"][1]
        else:
            self._event(Event.RELEASE_RESPONSE)

    def _collision_answered(self, _: object) -> None:
        """AR-10."""
        self.release_response()

    def _abort_user(self, _: object) -> None:
        """AA-1."""
        self._write(encode_abort(SOURCE_USER, NOT_SPECIFIED))
        self._start_artim()
        self._incoming.close()
        self._end(self.why or "aborted")

    def _abort_provider(self, reason: int | None) -> None:
        """AA-8; without another reason the PDU was a good one at the wrong time."""
        self._write(encode_abort(SOURCE_PROVIDER, UNEXPECTED_PDU if reason is None else reason))
        self._start_artim()
        self._incoming.close()
        self._end(self.why or "unexpected PDU")

    def _abort_again(self, reason: int | None) -> None:
        """AA-7."""
        self._write(encode_abort(SOURCE_PROVIDER, UNEXPECTED_PDU if reason is None else reason))

    def _indicate_abort(self, told: tuple[int, int]) -> None:
        """AA-3."""
        self._end(f"aborted by the peer, source {told[0]}, reason {told[1]}")
        self._close()

    def _stop(self, _: object) -> None:
        """AA-2, AA-4, AA-5, AR-5: the connection is over."""
        self._end("connection closed")
        self._close()

    def _nothing(self, _: object) -> None:
        """AA-6, AR-6: the PDU is ignored, or indicated by its content."""

    # Small things

    def _close(self) -> None:
        self.state = State.IDLE
        self._stop_artim()
        self._incoming.close()
        if self._transport is not None:
            self._transport.close()

    def _end(self, why: str) -> None:
        """Tell the service user once that it is over."""
        user, self._user = self._user, None
        self.why = self.why or why
        self._stop_idle()
        self._wake()
        if user is not None:
            user.ended(self.why)

    def _artim_expired(self) -> None:
        self._artim = None
        if self.state in (State.AWAITING_ASSOCIATE_RQ, State.AWAITING_CLOSE):
            self._event(Event.ARTIM_EXPIRED)
            self.drop()  # what the peer does not read is not waited for
        else:
            self.abort("no answer in time")

    def _idle_due(self) -> None:
        """Nothing heard for ``idle_s``: abort, unless it is we who are at work."""
        silent = self._loop.time() - self._last_heard
        waiting = self._user is not None and self._user.busy() and self._drained is None
        if silent < self._limits.idle_s - 0.001:
            self._watch_idle()
        elif waiting:
            self._idle = self._loop.call_later(self._limits.idle_s, self._idle_due)
        else:
            self.abort("silent for too long")


ACTIONS: dict[str, Callable[[Association, Any], None]] = {
    "AE-2": Association._send_request,
    "AE-3": Association._confirm_accept,
    "AE-4": Association._confirm_reject,
    "AE-5": Association._wait_for_request,
    "AE-6": Association._indicate_request,
    "AE-7": Association._send_accept,
    "AE-8": Association._send_reject,
    "AR-1": Association._send_release_request,
    "AR-2": Association._indicate_release,
    "AR-3": Association._confirm_release,
    "AR-4": Association._send_release_response,
    "AR-5": Association._stop,
    "AR-6": Association._nothing,
    "AR-8": Association._release_collision,
    "AR-9": Association._send_release_response,
    "AR-10": Association._collision_answered,
    "AA-1": Association._abort_user,
    "AA-2": Association._stop,
    "AA-3": Association._indicate_abort,
    "AA-4": Association._stop,
    "AA-5": Association._stop,
    "AA-6": Association._nothing,
    "AA-7": Association._abort_again,
    "AA-8": Association._abort_provider,
}
