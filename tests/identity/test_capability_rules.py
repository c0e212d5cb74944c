"""Capability tokens: what they open, how they are narrowed, and that nobody widens one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from identity.capabilities.domain import (
    LONGEST,
    MOST_STATEMENTS,
    PREFIX,
    Capability,
    Caveat,
    attenuate,
    check_use,
    mint,
    verify,
)
from kernel.errors import AppError, Denied, Invalid

KEYS = {"k1": b"1" * 32, "k2": b"2" * 32}
NOW = 1_000_000.0
READ, SEARCH = "archive.study.read", "archive.study.search"
UIDS = ["1.2.1", "1.2.2", "1.2.3"]
FIRST = Caveat(
    studies=frozenset(UIDS),
    permissions=frozenset({READ, SEARCH}),
    until=NOW + 1000,
    purpose="share",
)

caveats = st.builds(
    Caveat,
    studies=st.none() | st.frozensets(st.sampled_from([*UIDS, "9.9"])),
    permissions=st.none() | st.frozensets(st.sampled_from([READ, SEARCH, "archive.study.delete"])),
    until=st.none() | st.floats(NOW + 1, NOW + 2000),
    purpose=st.none() | st.sampled_from(["research", "teaching"]),
    networks=st.none() | st.sampled_from([("10.0.0.0/8",), ("10.1.0.0/16", "192.168.0.0/16")]),
)


def fresh(key_id: str = "k1") -> str:
    return mint(key_id, KEYS[key_id], owners=[4, 7], issuer=11, caveat=FIRST)


def opened(token: str, now: float = NOW, *revoked: str) -> Capability:
    return verify(token, KEYS, frozenset(revoked), now)


def code_of(token: str, now: float = NOW, *revoked: str) -> str:
    with pytest.raises(Denied) as caught:
        opened(token, now, *revoked)
    return caught.value.code


def test_a_token_opens_what_it_names_until_its_end() -> None:
    found = opened(fresh())
    assert (found.owners, found.issuer, found.purpose) == ({4, 7}, 11, "share")
    assert found.studies == set(UIDS) and found.permissions == {READ, SEARCH}
    assert opened(fresh("k2")).id != found.id
    assert code_of(fresh(), NOW + 1000) == "capability.expired"


@given(st.lists(caveats, max_size=4))
@settings(max_examples=200)
def test_narrowing_only_ever_narrows(more: list[Caveat]) -> None:
    token = fresh()
    wide = opened(token)
    for one in more:
        token = attenuate(token, one)
        narrow = opened(token)
        assert narrow.studies <= wide.studies
        assert narrow.permissions <= wide.permissions
        assert narrow.until <= wide.until
        assert narrow.networks[: len(wide.networks)] == wide.networks
        assert narrow.owners == wide.owners
        assert narrow.revocation_ids[:-1] == wide.revocation_ids
        wide = narrow


@given(st.lists(caveats, min_size=1, max_size=3), st.data())
@settings(max_examples=200)
def test_no_statement_can_be_changed_left_out_or_reordered(
    more: list[Caveat], data: st.DataObject
) -> None:
    token = fresh()
    for one in more:
        token = attenuate(token, one)
    *statements, seal = token.removeprefix(PREFIX).split(".")
    kind = data.draw(st.sampled_from(["drop", "swap", "flip", "widen"]))
    changed = list(statements)
    if kind == "drop":
        del changed[data.draw(st.integers(0, len(changed) - 1))]
    elif kind == "swap":
        changed = [changed[-1], *changed[1:-1], changed[0]]
    elif kind == "flip":
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at] = base64.urlsafe_b64encode(b'{"s":["1.2.1"]}').decode().rstrip("=")
    else:
        head = json.loads(base64.urlsafe_b64decode(changed[0] + "=="))
        head["o"] = [1, 2, 3]
        changed[0] = base64.urlsafe_b64encode(json.dumps(head).encode()).decode().rstrip("=")
    if changed != statements:
        assert code_of(PREFIX + ".".join([*changed, seal])) == "capability.damaged"


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda b: base64.b64encode(b).decode()))
def test_what_is_no_token_is_refused_and_nothing_else_happens(text: str) -> None:
    for token in (text, PREFIX + text, PREFIX + text + "." + "A" * 43):
        assert code_of(token) == "capability.damaged"


def test_a_statement_of_an_unknown_kind_closes_the_token() -> None:
    token = fresh()
    *statements, seal = token.removeprefix(PREFIX).split(".")
    extra = b'{"z":1}'
    raw = base64.urlsafe_b64decode(seal + "=")
    parts = [*statements, base64.urlsafe_b64encode(extra).decode().rstrip("=")]
    sealed = base64.urlsafe_b64encode(hmac.digest(raw, extra, hashlib.sha256)).decode().rstrip("=")
    assert code_of(PREFIX + ".".join([*parts, sealed])) == "capability.damaged"


def test_a_key_that_is_gone_opens_nothing() -> None:
    with pytest.raises(Denied):
        verify(fresh("k2"), {"k1": KEYS["k1"]}, frozenset(), NOW)


def test_revoking_a_token_revokes_those_made_from_it_and_not_the_wider_one() -> None:
    wide = fresh()
    narrow = attenuate(wide, Caveat(studies=frozenset({"1.2.1"})))
    narrower = attenuate(narrow, Caveat(until=NOW + 5))
    name = opened(narrow).revocation_ids[-1]
    assert opened(wide, NOW, name)
    assert code_of(narrow, NOW, name) == "capability.revoked"
    assert code_of(narrower, NOW, name) == "capability.revoked"
    assert code_of(narrower, NOW, opened(wide).id) == "capability.revoked"


def test_a_purpose_can_only_become_one_without_names() -> None:
    assert opened(attenuate(fresh(), Caveat(purpose="teaching"))).purpose == "teaching"
    for wanted in ("emergency", "care"):
        assert code_of(attenuate(fresh(), Caveat(purpose=wanted))) == "capability.damaged"


def test_a_token_cannot_grow_without_end() -> None:
    token = fresh()
    with pytest.raises(Invalid):
        for _ in range(MOST_STATEMENTS + 1):
            token = attenuate(token, Caveat(until=NOW + 1))
    with pytest.raises(Invalid):
        attenuate(fresh(), Caveat(studies=frozenset(str(n) for n in range(LONGEST))))


def test_use_is_bounded_by_permission_study_and_network() -> None:
    found = opened(attenuate(fresh(), Caveat(networks=("10.0.0.0/8",))))
    check_use(found, READ, "1.2.1", "10.9.9.9")
    for permission, study, address, code in (
        ("archive.study.delete", "1.2.1", "10.9.9.9", "capability.beyond"),
        (SEARCH, None, "10.9.9.9", "capability.beyond"),
        (READ, "1.2.1", "11.0.0.1", "capability.network"),
    ):
        with pytest.raises(AppError) as caught:
            check_use(found, permission, study, address)
        assert caught.value.code == code
    with pytest.raises(ValueError, match="names owners"):
        mint("k1", KEYS["k1"], owners=[], issuer=1, caveat=FIRST)
