"""An association that a peer opened: who it is, what it asks for, one operation at a time.

The upper layer's service user (PS3.8 section 7) on the acceptor's side. C-STORE takes the short way
through ``Storing``; C-FIND, C-MOVE and C-GET run as tasks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

import structlog

from archive.journal.domain import Origin
from gateway.ae.domain import LOCAL_OWNER, Ae
from gateway.ae.service import Directory, Reach
from gateway.audit import Auditor, Trail
from gateway.dimse.command import (
    C_CANCEL,
    C_ECHO,
    C_FIND,
    C_GET,
    C_MOVE,
    C_STORE,
    COMMAND_FIELD,
    MESSAGE_ID,
    RESPONDED_ID,
    RESPONSE,
    Command,
    CommandError,
    has_data_set,
    number,
    parse,
    response,
)
from gateway.dimse.exchange import Exchange
from gateway.dimse.fragment import message
from gateway.dimse.responses import Responses
from gateway.dimse.status import (
    MISTYPED_ARGUMENT,
    NO_SUCH_SOP_CLASS,
    OUT_OF_RESOURCES,
    PROCESSING_FAILURE,
    UNRECOGNIZED_OPERATION,
    status_of,
)
from gateway.echo.service import echo_answer
from gateway.store.service import Receiver, Storing
from gateway.upper_layer.association import Association
from gateway.upper_layer.incoming import Disposal
from gateway.upper_layer.negotiation import (
    CONGESTION,
    TOO_MANY,
    Context,
    Policy,
    accept_answer,
    agree,
    rejection,
)
from gateway.upper_layer.pdu import INVALID_PARAMETER, Associate, PduError, Rejection
from gateway.upper_layer.service_user import ConnectionLost
from gateway.upper_layer.sop_classes import QUERY_CLASSES, Verb
from kernel.errors import AppError
from kernel.scope import SENSITIVE_KINDS, Actor, Scope, Sight

_log: structlog.stdlib.BoundLogger = structlog.get_logger()

Operation = Callable[[Exchange], Awaitable[object]]
_VERBS: dict[int, Verb] = {C_FIND: "FIND", C_MOVE: "MOVE", C_GET: "GET"}
_ACTIONS = {verb: f"dimse.c-{name.lower()}" for verb, name in _VERBS.items()}


@dataclass(slots=True)
class Services:
    """What every session of one server shares."""

    policy: Policy
    directory: Directory
    receiver: Receiver
    operations: Mapping[Verb, Operation]
    trail: Trail
    reach: Reach
    accept_unknown_calling: bool
    max_associations: int
    sessions: set[Session] = field(default_factory=set)
    # Connections that have not asked for an association yet, oldest first.
    bare: dict[Session, None] = field(default_factory=dict)


class Session:
    """The service user of one accepted association."""

    def __init__(self, services: Services, association: Association) -> None:
        self._services = services
        self._association = association
        self._contexts: Mapping[int, Context] = {}
        self._storing: Storing | None = None
        self._task: asyncio.Task[None] | None = None
        self._exchange: Exchange | None = None
        self._pending: tuple[Context, Command] | None = None  # waits for its identifier
        self._identifier: bytearray | None = None
        self._responses = Responses()
        self._releasing = False
        self._peer_pdu = 0
        self._over = False
        self._auditor = Auditor(services.trail, "")
        self.ae = Ae("", "", 0)

    # Association

    def associate_indication(self, request: Associate) -> None:
        """The peer asks for an association."""
        self._services.bare.pop(self, None)
        self._auditor = Auditor(self._services.trail, self._association.peer)
        if len(self._services.sessions) >= self._services.max_associations:
            self._reject(request, TOO_MANY)
            return
        self._services.sessions.add(self)
        self._task = asyncio.create_task(self._decide(request))

    async def _decide(self, request: Associate) -> None:
        """Find out who calls, then accept or refuse."""
        services = self._services
        try:
            known = await services.directory.find(request.calling_ae_title)
        except Exception as error:  # noqa: BLE001 - the edge: one association fails, for now
            _log.error("ae_lookup_failed", error=repr(error))
            self._reject(request, CONGESTION)
            return
        finally:
            self._task = None
        may = services.accept_unknown_calling if known is None else known.state == "active"
        refused = rejection(request, services.policy, calling_known=may)
        if refused is not None:
            self._reject(request, refused)
            return
        self.ae = self._auditor.ae = known or Ae(request.calling_ae_title, "", 0, LOCAL_OWNER)
        agreement = agree(request, services.policy)
        self._contexts = agreement.contexts
        self._peer_pdu = agreement.peer_max_pdu_bytes
        origin = Origin(
            self.ae.owner_id,
            "dimse",
            request.calling_ae_title,
            self._association.peer,
            request.called_ae_title,
        )
        self._storing = Storing(services.receiver, origin, self._answered)
        self._auditor.association(calling=self.ae.title, called=request.called_ae_title)
        self._association.accept(accept_answer(request, agreement, services.policy), agreement)

    def _reject(self, request: Associate, why: Rejection) -> None:
        _log.info(
            "association_rejected",
            calling=request.calling_ae_title,
            called=request.called_ae_title,
            peer=self._association.peer,
            why=why.text,
        )
        self._auditor.association(
            calling=request.calling_ae_title, called=request.called_ae_title, refused=why.text
        )
        self._association.reject(why)

    def associate_confirmed(self, answer: Associate | Rejection) -> None:
        """Only a requestor is told."""

    def release_indication(self) -> bool:
        """The peer wants to release; an operation that goes on is answered first."""
        self._releasing = self.busy()
        return not self._releasing

    def busy(self) -> bool:
        """Whether an operation is going on."""
        storing = self._storing is not None and self._storing.committing
        return storing or self._task is not None

    def ended(self, why: str) -> None:
        """The association is over."""
        self._services.sessions.discard(self)
        self._services.bare.pop(self, None)
        self._over = True
        if self._storing is not None:
            self._storing.close()
            self._note_stored()
        self._responses.lost(why)
        if self._task is not None:
            self._task.cancel()
        _log.debug("association_ended", calling=self.ae.title, why=why)

    def abort(self, why: str) -> None:
        """End it from our side."""
        self._association.abort(why)

    def close(self) -> None:
        """Close the connection."""
        self._association.close()

    # Messages

    def command(self, context_id: int, command: bytes) -> Disposal:
        """A whole command set."""
        context = self._contexts.get(context_id)
        if context is None:
            raise PduError(f"presentation context {context_id} was not accepted", INVALID_PARAMETER)
        try:
            request = parse(command)
            verb = number(request, COMMAND_FIELD)
            data_follows = has_data_set(request)
            if verb & RESPONSE:
                self._responses.answered(request)
                return Disposal.DISCARD if data_follows else Disposal.NO_DATA
            if verb == C_CANCEL:
                return self._cancel(request, data_follows=data_follows)
            number(request, MESSAGE_ID)
        except CommandError as error:
            raise PduError(str(error), INVALID_PARAMETER) from error
        if self.busy():
            return Disposal.HOLD
        if verb == C_STORE and self._storing is not None:
            self._pending = None
            wanted = self._storing.begin(context, request, data_follows=data_follows)
            kept = Disposal.COLLECT if wanted else Disposal.DISCARD
            return kept if data_follows else Disposal.NO_DATA
        return self._other(context, request, verb, data_follows=data_follows)

    def _other(
        self, context: Context, request: Command, verb: int, *, data_follows: bool
    ) -> Disposal:
        """Anything but C-STORE."""
        refusal = self._refusal(context, verb, data_follows=data_follows)
        if refusal is None and verb == C_ECHO:
            self._association.send(echo_answer(context.id, request, self._peer_pdu))
        elif refusal is not None:
            self._auditor.failed(_ACTIONS.get(verb, "dimse.unknown"), refusal[1])
            self._answered(context.id, response(request, *refusal))
        else:
            self._pending = (context, request)
            self._identifier = bytearray()
            return Disposal.COLLECT
        self._pending = None
        return Disposal.DISCARD if data_follows else Disposal.NO_DATA

    def _refusal(
        self, context: Context, verb: int, *, data_follows: bool
    ) -> tuple[int, str] | None:
        if verb == C_ECHO:
            return None
        asked = _VERBS.get(verb)
        if asked is None:
            return UNRECOGNIZED_OPERATION, "operation not supported"
        model = QUERY_CLASSES.get(context.abstract_syntax)
        if model is None or model.verb != asked:
            return NO_SUCH_SOP_CLASS, f"C-{asked} does not belong to this SOP class"
        if not data_follows:
            return MISTYPED_ARGUMENT, "a query without an identifier"
        return None

    def spill(self, parts: list[memoryview]) -> None:
        """Parts of a data set longer than a buffer."""
        if self._pending is None:
            if self._storing is not None:
                self._storing.spill(parts)
        else:
            self._identifier = None  # an identifier of a mebibyte is none

    def data(self, parts: list[memoryview]) -> None:
        """The data set is complete."""
        if self._pending is not None:
            self._operate(*self._pending, parts)
        elif self._storing is not None and self._storing.waiting:
            self._storing.data(parts)

    def _operate(self, context: Context, request: Command, parts: list[memoryview]) -> None:
        self._pending = None
        if self._identifier is None:
            words = "the identifier is too long"
            verb = QUERY_CLASSES[context.abstract_syntax].verb
            self._auditor.failed(f"dimse.c-{verb.lower()}", words)
            self._answered(context.id, response(request, OUT_OF_RESOURCES, words))
            return
        verb = QUERY_CLASSES[context.abstract_syntax].verb
        actor = Actor("ae", self.ae.title)
        self._exchange = Exchange(
            self._association,
            context,
            request,
            b"".join(parts),
            Scope(frozenset({self.ae.owner_id}), actor, f"dimse.c-{verb.lower()}"),
            self.ae,
            self._auditor,
            self._responses.expect,
        )
        operation = self._services.operations[verb]
        self._task = asyncio.create_task(self._run(operation, self._exchange))

    async def _run(self, operation: Operation, exchange: Exchange) -> None:
        """One operation from its identifier to its last response."""
        action = exchange.scope.purpose
        try:
            self._auditor.check()
            owners = await self._services.reach(self.ae.owner_id)
            exchange.scope = replace(exchange.scope, owners=owners, sight=_sight(self.ae, owners))
            await operation(exchange)
        except ConnectionLost:
            self._auditor.failed(action, "connection lost")
            return
        except AppError as error:
            self._auditor.failed(action, error.code)
            self._association.send(exchange.encoded(status_of(error), words=str(error)))
        except Exception:  # noqa: BLE001 - the edge: one operation fails, not the server
            _log.exception("operation_failed", sop_class=exchange.context.abstract_syntax)
            self._auditor.failed(action, "internal error")
            self._association.send(exchange.encoded(PROCESSING_FAILURE, words="internal error"))
        finally:
            self._task = self._exchange = None
        self._done()

    def _answered(self, context_id: int, answer: bytes) -> None:
        self._association.send(message(context_id, answer, None, self._peer_pdu))
        self._done()

    def _done(self) -> None:
        """An operation is over: go on with what had to wait."""
        if self._over:
            self._note_stored()
        elif self._releasing:
            self._association.release_response()
        else:
            self._association.resume()

    def _note_stored(self) -> None:
        """Audit what the association sent, a line for each study, when all of it is answered."""
        if self._storing is not None and not self._storing.committing:
            for uid, (stored, again, failed) in self._storing.tally.take().items():
                self._auditor.stored(uid, stored, again, failed)

    def _cancel(self, request: Command, *, data_follows: bool) -> Disposal:
        """C-CANCEL (PS3.7 9.3.2.3): of something already over it means nothing."""
        exchange = self._exchange
        if exchange is not None and number(request, RESPONDED_ID) == exchange.message_id:
            exchange.cancelled = True
        return Disposal.DISCARD if data_follows else Disposal.NO_DATA


def _sight(ae: Ae, owners: frozenset[int]) -> Sight:
    """Nodes work in care: persons are named to them, but sensitive cases of other organisations."""
    return Sight(owners, dict.fromkeys(SENSITIVE_KINDS, frozenset({ae.owner_id})))
