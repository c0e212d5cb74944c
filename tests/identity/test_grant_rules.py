"""Which owners grants cover, who may grant what, and what excludes what, as pure rules."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from identity.grants.domain import (
    Grant,
    Owners,
    Rights,
    Subject,
    check_grant,
    check_withdrawal,
)
from identity.organisations.domain import covers
from identity.roles.domain import Role, built_in, expand, permissions
from kernel.errors import AppError, Conflict, Denied, Invalid

# 1 prefecture, 2–3 counties, 4–6 hospitals, 7 department; 8 has a path that only begins alike.
PATHS = {
    1: "/52/5226",
    2: "/52/5226/522601",
    3: "/52/5226/522632",
    4: "/52/5226/522601/H1",
    5: "/52/5226/522601/H10",
    6: "/52/5226/522632/H2",
    7: "/52/5226/522601/H1/D1",
    8: "/52/5226/5226010",
    9: "/local",
}
OWNERS = Owners(PATHS)
ROLES = built_in()
NOW = 1_000_000.0
ME, YOU, CLIENT = Subject("account", 1), Subject("account", 2), Subject("client", 1)

places = st.sampled_from([None, *PATHS])
roles = st.sampled_from(sorted(ROLES.roles))
subjects = st.sampled_from([ME, YOU, CLIENT])
moments = st.floats(NOW - 100, NOW + 100)


@st.composite
def grants(draw: st.DrawFn) -> list[Grant]:
    made = []
    for number in range(draw(st.integers(0, 8))):
        begin = draw(moments)
        end = draw(st.none() | moments)
        made.append(Grant(number, draw(subjects), draw(roles), draw(places), begin, end))
    return made


def rights(*given_grants: Grant) -> Rights:
    return Rights(OWNERS, ROLES, given_grants)


def give(subject: Subject, role: str, place: int | None, **times: float) -> Grant:
    return Grant(0, subject, role, place, **times)


@given(st.sampled_from(["", "/52", *PATHS.values(), "/nowhere", "/52/5226/52260"]))
def test_the_index_of_paths_finds_exactly_what_a_path_covers(path: str) -> None:
    expected = {owner_id for owner_id, other in PATHS.items() if covers(path, other)}
    assert OWNERS.below(path) == expected


@given(grants(), subjects, st.sampled_from(sorted(permissions())), moments, moments)
@settings(max_examples=300)
def test_owners_are_those_below_grants_in_force_with_the_permission(
    given_grants: list[Grant], subject: Subject, permission: str, now: float, later: float
) -> None:
    held = rights(*given_grants)
    for moment in (now, max(now, later)):  # the second answer may come from what was kept
        expected = {
            owner_id
            for owner_id, path in PATHS.items()
            for one in given_grants
            if one.subject == subject
            and permission in ROLES.roles[one.role].permissions
            and one.valid_from <= moment
            and (one.valid_until is None or moment < one.valid_until)
            and covers(OWNERS.path(one.organisation_id) or "", path)
        }
        assert held.owners_for(subject, permission, moment) == expected


@given(grants(), roles, places)
@settings(max_examples=300)
def test_nobody_gives_what_the_giver_could_not_give_or_where_the_giver_may_not(
    given_grants: list[Grant], role: str, place: int | None
) -> None:
    held = rights(*given_grants)
    new = give(YOU, role, place, valid_from=NOW)
    try:
        check_grant(held, ME, new, NOW)
    except AppError:
        return
    path = OWNERS.path(place)
    assert path is not None
    mine = [one for one in held.held(ME, NOW) if covers(one.path, path)]
    assert any("identity.role.grant" in one.role.permissions for one in mine)
    own = frozenset().union(*(one.role.grantable for one in mine))
    assert ROLES.roles[role].grantable <= own
    after = rights(*given_grants, new)
    for permission in ROLES.roles[role].permissions:
        gained = after.owners_for(YOU, permission, NOW) - held.owners_for(YOU, permission, NOW)
        assert all(covers(path, PATHS[owner_id]) for owner_id in gained)


@given(grants(), roles, places)
def test_two_roles_that_exclude_each_other_never_meet(
    given_grants: list[Grant], role: str, place: int | None
) -> None:
    new = give(YOU, role, place, valid_from=NOW)
    try:
        check_grant(rights(*given_grants), None, new, NOW)
    except AppError:
        return
    for other in given_grants:
        if other.subject == YOU and other.in_force(NOW) and ROLES.conflict(role, other.role):
            mine, theirs = OWNERS.path(place) or "", OWNERS.path(other.organisation_id) or ""
            assert not covers(mine, theirs) and not covers(theirs, mine)


@pytest.mark.parametrize(
    ("admin", "place", "role", "at", "code"),
    [
        ("platform_admin", None, "county_admin", 2, None),
        ("platform_admin", None, "auditor", None, None),
        ("county_admin", 2, "hospital_admin", 4, None),
        ("county_admin", 2, "radiologist", 4, None),
        ("county_admin", 2, "hospital_admin", 6, "grant.scope"),
        ("county_admin", 2, "county_admin", 2, None),
        ("county_admin", 2, "platform_admin", 2, "grant.beyond"),
        ("county_admin", 2, "county_admin", 1, "grant.scope"),
        ("county_admin", 2, "county_admin", None, "grant.scope"),
        ("county_admin", 2, "radiologist", 8, "grant.scope"),
        ("hospital_admin", 4, "radiologist", 7, None),
        ("hospital_admin", 4, "county_admin", 4, "grant.beyond"),
        ("hospital_admin", 4, "operator", 4, "grant.beyond"),
        ("radiologist", 4, "radiologist", 4, "grant.scope"),
        ("auditor", None, "auditor", 4, "grant.scope"),
    ],
)
def test_administrators_grant_below_themselves_only(
    admin: str, place: int | None, role: str, at: int | None, code: str | None
) -> None:
    held = rights(give(ME, admin, place))
    if code is None:
        check_grant(held, ME, give(YOU, role, at), NOW)
        check_withdrawal(held, ME, give(YOU, role, at), NOW)
        return
    with pytest.raises(Denied) as caught:
        check_grant(held, ME, give(YOU, role, at), NOW)
    assert caught.value.code == code
    with pytest.raises(Denied):
        check_withdrawal(held, ME, give(YOU, role, at), NOW)


def test_nobody_changes_their_own_roles() -> None:
    held = rights(give(ME, "platform_admin", None))
    with pytest.raises(Denied) as caught:
        check_grant(held, ME, give(ME, "radiologist", 4), NOW)
    assert caught.value.code == "grant.self"


def test_an_expired_administrator_grants_nothing() -> None:
    held = rights(give(ME, "platform_admin", None, valid_until=NOW))
    with pytest.raises(Denied):
        check_grant(held, ME, give(YOU, "radiologist", 4), NOW)
    check_grant(held, ME, give(YOU, "radiologist", 4, valid_from=NOW - 1), NOW - 1)


def test_separation_of_duties_says_why() -> None:
    held = rights(give(YOU, "hospital_admin", 4))
    for place in (None, 2, 4, 7):
        with pytest.raises(Conflict) as caught:
            check_grant(held, None, give(YOU, "auditor", place), NOW)
        assert caught.value.code == "grant.conflict"
        assert caught.value.fields["reason"] == "Who administers does not audit"
    check_grant(held, None, give(YOU, "auditor", 5), NOW)
    check_grant(held, None, give(ME, "auditor", 4), NOW)


def test_a_grant_needs_a_role_a_place_and_a_time() -> None:
    for new, code in (
        (give(YOU, "king", 4), "role.unknown"),
        (give(YOU, "auditor", 99), "grant.place"),
        (give(YOU, "auditor", 4, valid_until=NOW), "grant.time"),
        (give(YOU, "auditor", 4, valid_from=NOW + 9, valid_until=NOW + 9), "grant.time"),
    ):
        with pytest.raises(Invalid) as caught:
            check_grant(rights(), None, new, NOW)
        assert caught.value.code == code


def test_patterns_stand_for_permissions_that_exist() -> None:
    assert expand(["archive.study.*"]) > {"archive.study.read", "archive.study.store"}
    assert expand(["*"]) == permissions()
    assert "public" not in permissions()
    with pytest.raises(Invalid):
        expand(["archive.study.paint"])


def test_every_conflict_names_roles_that_exist() -> None:
    for conflict in ROLES.conflicts:
        assert len(conflict.roles) == 2 and conflict.roles <= set(ROLES.roles)


def test_an_installation_cannot_change_the_built_in_roles() -> None:
    own = [Role("auditor", "x", frozenset()), Role("courier", "Courier", frozenset())]
    both = ROLES.with_roles(own)
    assert both.roles["auditor"] == ROLES.roles["auditor"]
    assert both.role("courier").title == "Courier"


def test_administrators_of_hospitals_read_no_studies() -> None:
    for code in ("county_admin", "hospital_admin"):
        assert "archive.study.read" not in ROLES.roles[code].permissions
