"""PS3.8 Table 9-10, held against pynetdicom's copy of it."""

from __future__ import annotations

import pytest
from pynetdicom.fsm import TRANSITION_TABLE

from gateway.upper_layer.association import ACTIONS
from gateway.upper_layer.machine import (
    NEXT_STATE,
    TRANSITIONS,
    Event,
    IllegalStep,
    State,
    step,
)

ILLEGAL = [
    (event, state) for event in Event for state in State if (event, state) not in TRANSITIONS
]


def test_table_equals_an_independent_transcription() -> None:
    ours = {
        (f"Evt{event.value}", f"Sta{state.value}"): action
        for (event, state), action in TRANSITIONS.items()
    }
    assert ours == TRANSITION_TABLE


@pytest.mark.parametrize(("event", "state"), ILLEGAL, ids=lambda one: one.name)
def test_blank_pair_is_a_local_mistake(event: Event, state: State) -> None:
    with pytest.raises(IllegalStep, match=f"Sta{state.value}"):
        step(event, state)


def test_blank_pairs_are_those_of_the_standard() -> None:
    assert len(ILLEGAL) == 19 * 13 - len(TRANSITION_TABLE)
    from_the_network = {3, 4, 6, 10, 12, 13, 16, 17, 18, 19}
    reachable = [
        (event, state)
        for event, state in ILLEGAL
        if event.value in from_the_network and state not in (State.IDLE, State.AWAITING_TRANSPORT)
    ]
    # Only the ARTIM timer is not running everywhere.
    assert {event for event, _ in reachable} == {Event.ARTIM_EXPIRED}


def test_every_action_is_performed_and_leads_somewhere() -> None:
    named = set(TRANSITIONS.values())
    done_elsewhere = {"AE-1", "DT-1", "DT-2", "AR-7"}  # connecting, and P-DATA in its own states
    assert named - done_elsewhere <= set(ACTIONS)
    assert named == set(NEXT_STATE)
