"""What an acceptor answers to an A-ASSOCIATE-RQ: PS3.8 9.3.2 to 9.3.4, PS3.7 Annex D.3.

Rules only. Every storage SOP class and transfer syntax is accepted as it comes: the first proposed
transfer syntax that we know wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dataset.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from gateway.upper_layer.pdu import (
    ABSTRACT_NOT_SUPPORTED,
    ACCEPTED,
    APPLICATION_CONTEXT,
    PERMANENT,
    TRANSFER_NOT_SUPPORTED,
    TRANSIENT,
    Associate,
    ContextResult,
    ProposedContext,
    Rejection,
    Role,
    UserInformation,
)
from gateway.upper_layer.sop_classes import (
    IMPLICIT_LE,
    QUERY_CLASSES,
    QUERY_SYNTAXES,
    VERIFICATION,
    storage_classes,
    transfer_syntaxes,
)

# PS3.8 Table 9-21
NO_PROTOCOL_VERSION = Rejection(PERMANENT, 2, 2, "protocol version not supported")
NO_APPLICATION_CONTEXT = Rejection(PERMANENT, 1, 2, "application context name not supported")
UNKNOWN_CALLING = Rejection(PERMANENT, 1, 3, "calling AE title not recognized")
UNKNOWN_CALLED = Rejection(PERMANENT, 1, 7, "called AE title not recognized")
CONGESTION = Rejection(TRANSIENT, 3, 1, "temporary congestion")
TOO_MANY = Rejection(TRANSIENT, 3, 2, "local limit exceeded")


@dataclass(frozen=True, slots=True)
class Policy:
    """What this server takes part in."""

    ae_title: str
    max_pdu_bytes: int
    storage: frozenset[str]
    syntaxes: frozenset[str]

    @classmethod
    def of(
        cls,
        ae_title: str,
        max_pdu_bytes: int,
        private_sop_classes: tuple[str, ...] = (),
        private_transfer_syntaxes: tuple[str, ...] = (),
    ) -> Policy:
        """Everything in the dictionaries, and what a setting adds."""
        return cls(
            ae_title,
            max_pdu_bytes,
            storage_classes() | frozenset(private_sop_classes),
            transfer_syntaxes() | frozenset(private_transfer_syntaxes),
        )


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context."""

    id: int
    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """What holds on an association; ``roles`` of the peer by SOP class (default: SCU only).

    As acceptor ``peer_scp`` names the classes that the peer takes C-STORE requests for (C-GET).
    """

    contexts: Mapping[int, Context]
    peer_scp: frozenset[str]
    peer_max_pdu_bytes: int
    results: tuple[ContextResult, ...] = field(default=(), repr=False)


def protocol_fault(request: Associate) -> Rejection | None:
    """Reasons of the service provider (PS3.8 Table 9-21, source 2)."""
    return None if request.protocol_version & 1 else NO_PROTOCOL_VERSION


def rejection(request: Associate, policy: Policy, *, calling_known: bool) -> Rejection | None:
    """Reasons of the service user (PS3.8 Table 9-21, source 1), in the order they matter."""
    if request.application_context != APPLICATION_CONTEXT:
        return NO_APPLICATION_CONTEXT
    if request.called_ae_title != policy.ae_title:
        return UNKNOWN_CALLED
    if not calling_known:
        return UNKNOWN_CALLING
    return None


def agree(request: Associate, policy: Policy) -> Agreement:
    """The answer to each presentation context."""
    results = tuple(_answer(context, policy) for context in request.contexts)
    proposed = {context.id: context.abstract_syntax for context in request.contexts}
    contexts = {
        one.id: Context(one.id, proposed[one.id], one.transfer_syntax)
        for one in results
        if one.result == ACCEPTED
    }
    peer_scp = frozenset(
        role.sop_class_uid
        for role in request.user.roles
        if role.scp and role.sop_class_uid in policy.storage
    )
    return Agreement(contexts, peer_scp, request.user.max_pdu_bytes, results)


def _answer(context: ProposedContext, policy: Policy) -> ContextResult:
    uid = context.abstract_syntax
    if uid in policy.storage or uid == VERIFICATION:
        known: frozenset[str] | tuple[str, ...] = policy.syntaxes
    elif uid in QUERY_CLASSES:
        known = QUERY_SYNTAXES
    else:
        return ContextResult(context.id, ABSTRACT_NOT_SUPPORTED, _first(context))
    for syntax in context.transfer_syntaxes:
        if syntax in known:
            return ContextResult(context.id, ACCEPTED, syntax)
    return ContextResult(context.id, TRANSFER_NOT_SUPPORTED, _first(context))


def _first(context: ProposedContext) -> str:
    """A refused context names a transfer syntax nobody looks at (PS3.8 9.3.3.2)."""
    return context.transfer_syntaxes[0] if context.transfer_syntaxes else IMPLICIT_LE


def accept_answer(request: Associate, agreement: Agreement, policy: Policy) -> Associate:
    """The A-ASSOCIATE-AC: roles as asked where we can, one operation at a time.

    SOP Class Extended Negotiation of the Query/Retrieve classes: relational queries yes, all other
    options no (PS3.4 C.5.1.1). User identity is acknowledged when a response was asked for.
    """
    user = request.user
    roles = tuple(
        Role(role.sop_class_uid, role.scu, role.scp)
        for role in user.roles
        if role.sop_class_uid in policy.storage
    )
    extended = tuple(
        (uid, b"\x01" + bytes(len(info) - 1))
        for uid, info in user.extended
        if uid in QUERY_CLASSES and info
    )
    return Associate(
        request.called_ae_title,
        request.calling_ae_title,
        results=agreement.results,
        user=UserInformation(
            max_pdu_bytes=policy.max_pdu_bytes,
            implementation_class_uid=IMPLEMENTATION_CLASS_UID,
            implementation_version=IMPLEMENTATION_VERSION_NAME,
            asynchronous_operations=(1, 1) if user.asynchronous_operations else None,
            roles=roles,
            extended=extended,
            identity_response=b"" if user.identity_response_asked else None,
        ),
    )


def requested(request: Associate, answer: Associate) -> Agreement:
    """What a requestor may use after an A-ASSOCIATE-AC; contexts it never proposed do not count."""
    proposed = {context.id: context for context in request.contexts}
    contexts = {
        one.id: Context(one.id, proposed[one.id].abstract_syntax, one.transfer_syntax)
        for one in answer.results
        if one.result == ACCEPTED
        and one.id in proposed
        and one.transfer_syntax in proposed[one.id].transfer_syntaxes
    }
    return Agreement(contexts, frozenset(), answer.user.max_pdu_bytes, answer.results)
