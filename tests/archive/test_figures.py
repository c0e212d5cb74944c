"""What the overview counts: what people would find, of whom they may see."""

from __future__ import annotations

from datetime import date

import pytest

from archive.decisions.domain import REJECT
from archive.decisions.service import Desk
from archive.figures.service import figures
from dataset.refs import StudyRef
from kernel.scope import Actor, Scope
from tests.archive.conftest import LOCAL, Archive
from tests.archive.material import make

DAY = date(2026, 11, 25)


@pytest.mark.backend
async def test_what_is_rejected_counts_no_more(archive: Archive) -> None:
    first, more, second = (
        make(study, number=number, StudyDate=f"{DAY:%Y%m%d}")
        for study, number in ((1, 1), (1, 2), (2, 1))
    )
    await archive.store(first, more, second)
    before = await figures(archive.database, LOCAL, DAY)
    assert (before.studies, before.today, before.instances_today) == (2, 2, 3)
    assert before.by_day[DAY] == before.by_owner[1] == before.in_period == 2
    assert sum(before.by_modality.values()) == 2
    desk = Desk(archive.database, archive.stores, archive.settler)
    ref = StudyRef.parse(second.study)
    await desk.decide(LOCAL, REJECT, ref, actor="test", reason="blurred", detail={"code": "113001"})
    after = await figures(archive.database, LOCAL, DAY)
    assert (after.studies, after.today, after.instances_today) == (1, 1, 2)
    elsewhere = Scope(frozenset({2}), Actor("client", "test"), "test")
    assert (await figures(archive.database, elsewhere, DAY)).studies == 0
