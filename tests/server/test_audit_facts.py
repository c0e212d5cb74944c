"""What the rules of abnormal use learn about people."""

from __future__ import annotations

import pytest

from archive.decisions.domain import CLASSIFY
from archive.decisions.service import Desk
from archive.query.service import Catalog
from dataset.refs import StudyRef
from server.audit_facts import People
from tests.archive.conftest import LOCAL, Archive
from tests.archive.material import make


@pytest.mark.backend
async def test_whose_study_it_is_and_that_a_classified_one_is_of_a_protected_person(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make()
    await archive.store(made)
    desk = Desk(archive.database, archive.stores, archive.settler)
    people = People(archive.database, Catalog(archive.database))
    before = await people.person_of(made.study, None)
    assert "杨秀英" in "".join(before.names)
    assert not before.is_vip
    await desk.decide(
        LOCAL,
        CLASSIFY,
        StudyRef.parse(made.study),
        actor="test",
        reason="a public person",
        detail={"kinds": ["vip"]},
    )
    monkeypatch.setattr("server.audit_facts.KNOWN_FOR_S", -1.0)
    after = await people.person_of(made.study, None)
    assert (after.names, after.is_vip) == (before.names, True)
