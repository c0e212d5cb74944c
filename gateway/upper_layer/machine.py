"""The upper layer protocol state machine as data: PS3.8 section 9.2, Table 9-10.

Nothing acts here. ``step`` answers what the standard says for an event in a state; the association
performs the action. Pairs that the table leaves blank cannot come from the network: they are local
mistakes and raise ``IllegalStep``.
"""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """PS3.8 Tables 9-1 to 9-5."""

    IDLE = 1
    AWAITING_ASSOCIATE_RQ = 2
    AWAITING_LOCAL_ASSOCIATE = 3
    AWAITING_TRANSPORT = 4
    AWAITING_ASSOCIATE_AC = 5
    ESTABLISHED = 6
    AWAITING_RELEASE_RP = 7
    AWAITING_LOCAL_RELEASE = 8
    COLLISION_REQUESTOR_LOCAL = 9
    COLLISION_ACCEPTOR_RP = 10
    COLLISION_REQUESTOR_RP = 11
    COLLISION_ACCEPTOR_LOCAL = 12
    AWAITING_CLOSE = 13


class Event(IntEnum):
    """PS3.8 Table 9-10, first column."""

    ASSOCIATE_REQUEST = 1
    TRANSPORT_CONFIRM = 2
    ASSOCIATE_AC_PDU = 3
    ASSOCIATE_RJ_PDU = 4
    TRANSPORT_INDICATION = 5
    ASSOCIATE_RQ_PDU = 6
    ASSOCIATE_ACCEPT = 7
    ASSOCIATE_REJECT = 8
    P_DATA_REQUEST = 9
    P_DATA_PDU = 10
    RELEASE_REQUEST = 11
    RELEASE_RQ_PDU = 12
    RELEASE_RP_PDU = 13
    RELEASE_RESPONSE = 14
    ABORT_REQUEST = 15
    ABORT_PDU = 16
    TRANSPORT_CLOSED = 17
    ARTIM_EXPIRED = 18
    INVALID_PDU = 19


ABORT_ANYWHERE = (3, 5, 6, 7, 8, 9, 10, 11, 12)

# PS3.8 Table 9-10: event -> action -> the states in which it is taken.
TABLE_9_10: dict[Event, dict[str, tuple[int, ...]]] = {
    Event.ASSOCIATE_REQUEST: {"AE-1": (1,)},
    Event.TRANSPORT_CONFIRM: {"AE-2": (4,)},
    Event.ASSOCIATE_AC_PDU: {
        "AA-1": (2,),
        "AE-3": (5,),
        "AA-8": (3, 6, 7, 8, 9, 10, 11, 12),
        "AA-6": (13,),
    },
    Event.ASSOCIATE_RJ_PDU: {
        "AA-1": (2,),
        "AE-4": (5,),
        "AA-8": (3, 6, 7, 8, 9, 10, 11, 12),
        "AA-6": (13,),
    },
    Event.TRANSPORT_INDICATION: {"AE-5": (1,)},
    Event.ASSOCIATE_RQ_PDU: {"AE-6": (2,), "AA-8": ABORT_ANYWHERE, "AA-7": (13,)},
    Event.ASSOCIATE_ACCEPT: {"AE-7": (3,)},
    Event.ASSOCIATE_REJECT: {"AE-8": (3,)},
    Event.P_DATA_REQUEST: {"DT-1": (6,), "AR-7": (8,)},
    Event.P_DATA_PDU: {
        "AA-1": (2,),
        "DT-2": (6,),
        "AR-6": (7,),
        "AA-8": (3, 5, 8, 9, 10, 11, 12),
        "AA-6": (13,),
    },
    Event.RELEASE_REQUEST: {"AR-1": (6,)},
    Event.RELEASE_RQ_PDU: {
        "AA-1": (2,),
        "AR-2": (6,),
        "AR-8": (7,),
        "AA-8": (3, 5, 8, 9, 10, 11, 12),
        "AA-6": (13,),
    },
    Event.RELEASE_RP_PDU: {
        "AA-1": (2,),
        "AR-3": (7, 11),
        "AR-10": (10,),
        "AA-8": (3, 5, 6, 8, 9, 12),
        "AA-6": (13,),
    },
    Event.RELEASE_RESPONSE: {"AR-4": (8, 12), "AR-9": (9,)},
    Event.ABORT_REQUEST: {"AA-1": ABORT_ANYWHERE, "AA-2": (4,)},
    Event.ABORT_PDU: {"AA-2": (2, 13), "AA-3": ABORT_ANYWHERE},
    Event.TRANSPORT_CLOSED: {
        "AA-5": (2,),
        "AA-4": (3, 4, 5, 6, 7, 8, 9, 10, 11, 12),
        "AR-5": (13,),
    },
    Event.ARTIM_EXPIRED: {"AA-2": (2, 13)},
    Event.INVALID_PDU: {"AA-1": (2,), "AA-8": ABORT_ANYWHERE, "AA-7": (13,)},
}

# PS3.8 Tables 9-6 to 9-9: the state that follows an action. AE-6 (acceptable or not) and
# AR-8 (which side opened the association) leave a choice, made by the association.
NEXT_STATE: dict[str, tuple[State, ...]] = {
    "AE-1": (State.AWAITING_TRANSPORT,),
    "AE-2": (State.AWAITING_ASSOCIATE_AC,),
    "AE-3": (State.ESTABLISHED,),
    "AE-4": (State.IDLE,),
    "AE-5": (State.AWAITING_ASSOCIATE_RQ,),
    "AE-6": (State.AWAITING_LOCAL_ASSOCIATE, State.AWAITING_CLOSE),
    "AE-7": (State.ESTABLISHED,),
    "AE-8": (State.AWAITING_CLOSE,),
    "DT-1": (State.ESTABLISHED,),
    "DT-2": (State.ESTABLISHED,),
    "AR-1": (State.AWAITING_RELEASE_RP,),
    "AR-2": (State.AWAITING_LOCAL_RELEASE,),
    "AR-3": (State.IDLE,),
    "AR-4": (State.AWAITING_CLOSE,),
    "AR-5": (State.IDLE,),
    "AR-6": (State.AWAITING_RELEASE_RP,),
    "AR-7": (State.AWAITING_LOCAL_RELEASE,),
    "AR-8": (State.COLLISION_REQUESTOR_LOCAL, State.COLLISION_ACCEPTOR_RP),
    "AR-9": (State.COLLISION_REQUESTOR_RP,),
    "AR-10": (State.COLLISION_ACCEPTOR_LOCAL,),
    "AA-1": (State.AWAITING_CLOSE,),
    "AA-2": (State.IDLE,),
    "AA-3": (State.IDLE,),
    "AA-4": (State.IDLE,),
    "AA-5": (State.IDLE,),
    "AA-6": (State.AWAITING_CLOSE,),
    "AA-7": (State.AWAITING_CLOSE,),
    "AA-8": (State.AWAITING_CLOSE,),
}

TRANSITIONS: dict[tuple[Event, State], str] = {
    (event, State(number)): action
    for event, actions in TABLE_9_10.items()
    for action, states in actions.items()
    for number in states
}


class IllegalStep(Exception):
    """A local request that PS3.8 Table 9-10 leaves blank for the present state."""

    def __init__(self, event: Event, state: State) -> None:
        super().__init__(f"PS3.8 Table 9-10 has no action for {event.name} in Sta{state.value}")
        self.event = event
        self.state = state


def step(event: Event, state: State) -> str:
    """The action of PS3.8 Table 9-10 for ``event`` in ``state``; raises ``IllegalStep``."""
    try:
        return TRANSITIONS[event, state]
    except KeyError:
        raise IllegalStep(event, state) from None
