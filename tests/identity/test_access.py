"""Decisions: scopes, masks, emergencies, and the answer to "who can see this study, and why"."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from identity.access.domain import (
    AUDIT_FIRST,
    MASKED,
    REVIEW_AFTER,
    Access,
    Decision,
    Resource,
    allow,
    explain,
)
from identity.break_glass.domain import BreakGlass
from identity.grants.domain import Grant, Rights, Subject
from identity.privacy.domain import Mask, mask_for, mask_name, mask_number
from identity.roles.domain import built_in
from kernel.errors import Denied, NotFound
from kernel.scope import Actor
from tests.identity.test_grant_rules import NOW, OWNERS, give

DOCTOR, OFFICER, ADMIN = Subject("account", 11), Subject("account", 12), Subject("account", 13)
READ, SEARCH = "archive.study.read", "archive.study.search"


def access(*grants: Grant, emergencies: tuple[BreakGlass, ...] = ()) -> Access:
    return Access(Rights(OWNERS, built_in(), grants), emergencies)


def ask(
    known: Access,
    subject: Subject,
    action: str,
    owner_id: int | None = None,
    *kinds: str,
    purpose: str = "care",
    now: float = NOW,
) -> Decision:
    actor = Actor("session", str(subject.id))
    return allow(known, actor, subject, action, Resource(owner_id, frozenset(kinds)), purpose, now)


def emergency(account_id: int, organisation_id: int, until: float = NOW + 60) -> BreakGlass:
    at = datetime.fromtimestamp(NOW - 60, UTC)
    end = datetime.fromtimestamp(until, UTC)
    return BreakGlass(1, account_id, organisation_id, "", "x", at, end, None, None, "", "")


def test_a_doctor_sees_the_hospital_and_nothing_else() -> None:
    known = access(give(DOCTOR, "radiologist", 4))
    found = ask(known, DOCTOR, READ)
    assert found.scope.owners == {4, 7} and found.scope.actor == Actor("session", "11")
    assert found.mask.is_open and not found.obligations
    assert ask(known, DOCTOR, READ, 7).scope.owners == {7}
    with pytest.raises(NotFound):
        ask(known, DOCTOR, READ, 5)
    with pytest.raises(Denied):
        ask(known, DOCTOR, "archive.study.delete", 4)


def test_an_everywhere_grant_still_names_its_owners() -> None:
    owners = ask(access(give(ADMIN, "platform_admin", None)), ADMIN, READ).scope.owners
    assert owners == OWNERS.all


def test_an_officer_finds_studies_but_no_names() -> None:
    found = ask(access(give(OFFICER, "health_bureau_officer", 1)), OFFICER, SEARCH)
    assert found.mask.names and found.obligations == {MASKED}
    assert found.mask.name("王小明") == "王**"


def test_a_search_is_masked_when_one_of_its_owners_is() -> None:
    known = access(give(DOCTOR, "radiologist", 4), give(DOCTOR, "health_bureau_officer", 2))
    assert ask(known, DOCTOR, SEARCH).mask.names
    assert not ask(known, DOCTOR, SEARCH, 4).mask.names
    assert ask(known, DOCTOR, SEARCH, 5).mask.names


@pytest.mark.parametrize("kind", ["vip", "mental_health", "hiv"])
def test_sensitive_data_are_masked_without_the_right_for_them(kind: str) -> None:
    known = access(give(DOCTOR, "radiologist", 4))
    found = ask(known, DOCTOR, READ, 4, kind)
    assert found.mask.names and found.mask.hidden == {kind}
    cared = access(give(DOCTOR, "radiologist", 4), give(DOCTOR, "sensitive_care", 2))
    assert ask(cared, DOCTOR, READ, 4, kind).mask.is_open
    elsewhere = access(give(DOCTOR, "radiologist", 4), give(DOCTOR, "sensitive_care", 6))
    assert ask(elsewhere, DOCTOR, READ, 4, kind).mask.names


def test_teaching_needs_no_names() -> None:
    known = access(give(DOCTOR, "radiologist", 4))
    assert ask(known, DOCTOR, READ, 4, purpose="teaching").mask.names


def test_breaking_the_glass_opens_one_organisation_for_a_time() -> None:
    known = access(give(DOCTOR, "clinician", 4), emergencies=(emergency(11, 6),))
    found = ask(known, DOCTOR, READ, 6, "hiv")
    assert found.scope.owners == {6} and found.scope.purpose == "emergency"
    assert found.obligations == {AUDIT_FIRST, REVIEW_AFTER} and found.mask.is_open
    assert ask(known, DOCTOR, READ).scope.owners == {4, 6, 7}
    own = ask(known, DOCTOR, READ, 4)
    assert own.scope.purpose == "care" and not own.obligations
    with pytest.raises(NotFound):
        ask(known, DOCTOR, READ, 5)
    with pytest.raises(Denied):
        ask(known, DOCTOR, "archive.study.delete", 6)
    with pytest.raises(NotFound):
        ask(known, DOCTOR, READ, 6, now=NOW + 60)
    with pytest.raises(Denied):
        ask(known, OFFICER, READ, 6)


def test_who_can_see_a_study_and_why() -> None:
    known = access(
        give(DOCTOR, "radiologist", 4, valid_until=NOW + 5),
        give(DOCTOR, "clinician", 2),
        give(OFFICER, "health_bureau_officer", 1),
        give(ADMIN, "platform_admin", None),
        give(Subject("client", 3), "reader", 6),
        emergencies=(emergency(12, 4),),
    )
    told = [
        (one.subject, one.role, one.path, one.emergency, one.mask.is_open)
        for one in explain(known, SEARCH, 7, NOW)
    ]
    assert told == [
        (DOCTOR, "clinician", "/52/5226/522601", False, True),
        (DOCTOR, "radiologist", "/52/5226/522601/H1", False, True),
        (OFFICER, "health_bureau_officer", "/52/5226", False, True),
        (OFFICER, "", "/52/5226/522601/H1", True, True),
        (ADMIN, "platform_admin", "", False, True),
    ]
    for one in explain(known, READ, 7, NOW, sensitivity=["vip"]):
        assert one.mask.is_open == (one.subject != DOCTOR)
        assert ask(known, one.subject, READ, 7)
    assert {one.subject for one in explain(known, SEARCH, 6, NOW)} == {
        OFFICER,
        ADMIN,
        Subject("client", 3),
    }
    with pytest.raises(NotFound):
        explain(known, READ, 99, NOW)


@pytest.mark.parametrize(
    ("name", "masked"),
    [
        ("王小明", "王**"),
        ("王", "王*"),
        ("欧阳^真真", "欧*^**"),
        ("Wang^Xiaoming", "W***^***"),
        ("Wang^Xiaoming=王^小明=wang^xiaoming", "W***^***=王*^**"),
        ("", ""),
    ],
)
def test_a_masked_name_keeps_its_first_letter(name: str, masked: str) -> None:
    assert mask_name(name) == masked


def test_masked_numbers_keep_head_and_tail() -> None:
    assert mask_number("13812345678") == "138****5678"
    assert mask_number("522601198703124521") == "522***********4521"
    assert mask_number("12345") == "*****"
    assert Mask(phones=True).phone("13812345678") == "138****5678"
    assert Mask().id_number("522601198703124521") == "522601198703124521"
    assert mask_for({"archive.identifiers.read"}, [], "care").is_open
