"""Passwords, networks, lockout and steps of life, as pure rules."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.accounts.domain import (
    STATES,
    STEPS,
    TRANSITIONS,
    Account,
    check_licence,
    check_login,
    check_networks,
    check_password,
    generate_password,
    is_locked,
    is_within,
    password_expired,
    step,
)
from kernel.errors import Conflict, Denied, Invalid
from kernel.settings import AccessSettings

POLICY = AccessSettings()
NOW = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("Short-1", "password.short"),
        ("x" * 300, "password.short"),
        ("onlysmallletters", "password.simple"),
        ("small-and-dashes", "password.simple"),
        ("Wang.jun-2026", "password.guessable"),
        ("Password-2026", "password.guessable"),
        ("Aa1-Aa1-Aa1-", "password.guessable"),
    ],
)
def test_weak_passwords_are_refused(password: str, code: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_password(password, POLICY, login="wang.jun", display_name="王军")
    assert caught.value.code == code


def test_a_good_password_may_be_chinese() -> None:
    check_password("苗岭Drums七7七8", POLICY, login="wang.jun")


@given(st.integers(8, 24), st.integers(1, 4))
def test_generated_passwords_satisfy_every_policy(length: int, classes: int) -> None:
    policy = AccessSettings(password_length=length, password_classes=classes)
    made = generate_password(policy)
    check_password(made, policy, login="admin")
    assert made != generate_password(policy)


def test_only_the_listed_steps_are_taken() -> None:
    for state, taken in itertools.product(STATES, STEPS):
        if (state, taken) in TRANSITIONS:
            assert step(state, taken) == TRANSITIONS[state, taken]
        else:
            with pytest.raises(Conflict):
                step(state, taken)


@given(st.integers(0, 20), st.floats(0, 5000))
def test_an_account_is_locked_after_five_attempts_for_a_quarter_of_an_hour(
    attempts: int, ago_s: float
) -> None:
    last = NOW - timedelta(seconds=ago_s)
    recently = (NOW - last).total_seconds() < POLICY.lockout_s
    assert is_locked(attempts, last, NOW, POLICY) == (attempts >= 5 and recently)


def test_passwords_expire_by_the_policy() -> None:
    old = NOW - timedelta(days=90)
    assert password_expired(old, NOW, POLICY)
    assert not password_expired(old + timedelta(days=1), NOW, POLICY)
    assert not password_expired(old, NOW, AccessSettings(password_days=0))


@pytest.mark.parametrize("bad", ["", "a", "-a", "a b", "王军", "a" * 33, "a/b", "a@b"])
def test_login_names_are_plain(bad: str) -> None:
    with pytest.raises(Invalid):
        check_login(bad)
    assert check_login(" Wang.Jun ") == "wang.jun"


@pytest.mark.parametrize(
    ("address", "networks", "within"),
    [
        ("10.52.3.4", [], True),
        ("10.52.3.4", ["10.52.0.0/16"], True),
        ("10.53.3.4", ["10.52.0.0/16", "10.53.3.4"], True),
        ("10.53.3.5", ["10.52.0.0/16", "10.53.3.4"], False),
        ("::ffff:10.52.3.4", ["10.52.0.0/16"], True),
        ("2001:db8::1", ["10.52.0.0/16", "2001:db8::/32"], True),
        ("", ["10.52.0.0/16"], False),
    ],
)
def test_networks_bound_addresses(address: str, networks: list[str], within: bool) -> None:
    assert is_within(address, networks) is within


def test_networks_are_checked_when_they_are_written_down() -> None:
    assert check_networks("10.52.1.1/16，192.168.0.1") == "10.52.0.0/16,192.168.0.1/32"
    with pytest.raises(Invalid):
        check_networks("10.52")


@pytest.mark.parametrize(
    ("number", "until", "good"),
    [
        ("", None, False),
        ("110522", None, True),
        ("110522", NOW.date(), True),
        ("110522", date(2026, 4, 30), False),
    ],
)
def test_a_licence_must_be_in_force(number: str, until: date | None, good: bool) -> None:
    account = Account(1, "a", "A", "staff", "active", 1, licence_number=number, licence_until=until)
    if good:
        check_licence(account, NOW.date())
    else:
        with pytest.raises(Denied):
            check_licence(account, NOW.date())
