"""Codes, kinds, steps of life and paths of organisations, as pure rules."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.organisations.domain import (
    KINDS,
    PARENTS,
    STATES,
    TRANSITIONS,
    check_code,
    check_kind,
    check_uscc,
    covers,
    divisions,
    path_of,
    step,
    uscc_check_character,
)
from kernel.errors import Conflict, Invalid

STEPS = sorted({taken for _, taken in TRANSITIONS})
# Published codes of well-known companies (business register of China).
KNOWN_USCC = ("9144030071526726XG", "914403001922038216", "91330100799655058B")
LETTERS = "0123456789ABCDEFGHJKLMNPQRTUWXY"
code = st.text("ABCDEFGH0123456789", min_size=1, max_size=5)
path = st.lists(code, min_size=0, max_size=5).map(lambda parts: "".join(f"/{p}" for p in parts))


@pytest.mark.parametrize("known", KNOWN_USCC)
def test_published_credit_codes_are_right(known: str) -> None:
    assert check_uscc(known.lower()) == known


@given(st.text(LETTERS, min_size=17, max_size=17), st.integers(0, 16), st.sampled_from(LETTERS))
def test_one_mistyped_character_of_a_credit_code_is_found(first: str, at: int, other: str) -> None:
    good = first + uscc_check_character(first)
    assert check_uscc(good) == good
    if good[at] != other:
        with pytest.raises(Invalid) as caught:
            check_uscc(good[:at] + other + good[at + 1 :])
        assert caught.value.code == "organisation.uscc_check"


@pytest.mark.parametrize("bad", ["", "9144030071526726X", "91440300715267I6XG", "９" * 18])
def test_what_is_no_credit_code_is_refused(bad: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_uscc(bad)
    assert caught.value.code == "organisation.uscc"


def test_only_the_listed_steps_are_taken() -> None:
    for state, taken in itertools.product(STATES, STEPS):
        if (state, taken) in TRANSITIONS:
            assert step(state, taken) == TRANSITIONS[state, taken]
        else:
            with pytest.raises(Conflict):
                step(state, taken)


@given(st.lists(st.sampled_from(STEPS), max_size=30))
def test_a_retired_organisation_stays_retired_and_a_draft_never_comes_back(
    taken: list[str],
) -> None:
    state = "draft"
    for one in taken:
        before = state
        try:
            state = step(state, one)
        except Conflict:
            continue
        assert before != "retired"
        assert state != "draft"


def test_kinds_stand_below_the_kinds_that_the_table_says() -> None:
    for kind, parent in itertools.product(KINDS, [None, *KINDS]):
        if parent in PARENTS[kind]:
            check_kind(kind, parent)
        else:
            with pytest.raises(Invalid):
                check_kind(kind, parent)


@given(path, path, code)
def test_a_path_covers_itself_and_what_is_below_and_nothing_else(a: str, b: str, c: str) -> None:
    assert covers(a, a) and covers(a, a + "/" + c) and covers("", a)
    assert covers(a, b) == (b.split("/")[: len(a.split("/"))] == a.split("/"))
    if a and not b.startswith(a):
        assert not covers(a, b)


@given(path, path, path)
def test_covering_is_an_order(a: str, b: str, c: str) -> None:
    if covers(a, b) and covers(b, c):
        assert covers(a, c)
    if covers(a, b) and covers(b, a):
        assert a == b


def test_the_sixteen_counties_have_codes_of_the_prefecture() -> None:
    prefecture, counties = divisions()
    assert prefecture.code == "5226" and len(counties) == 16
    assert [one.code for one in counties] == ["522601", *(str(n) for n in range(522622, 522637))]
    top = path_of("prefecture", "5226", None)
    assert path_of("county", "522632", top) == "/52/5226/522632"
    for one in counties:
        assert check_code("county", one.code, prefecture.code) == one.code
    with pytest.raises(Invalid):
        check_code("county", "520102", prefecture.code)
