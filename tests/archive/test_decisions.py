"""A deletion is complete, survives crashes, and what is sent again afterwards is new."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Table, func, select, update

from archive.decisions import rows
from archive.decisions.deciding import Decided, delete, finish_decisions
from archive.decisions.domain import DELETE, Decision
from archive.decisions.log import read_log
from archive.decisions.removal import remove
from archive.index.tables import (
    decision,
    instance,
    instance_version,
    mismatch,
    name_gram,
    pack,
    pack_copy,
    patient,
    person_name,
    series,
    study,
)
from archive.journal.clock import now_ms
from archive.journal.domain import Outcome
from archive.query.domain import Query
from archive.receive.recovery import recover
from archive.receive.service import Receiver
from archive.store.s3 import S3Store
from archive.store.service import Stores
from dataset.refs import InstanceRef, SeriesRef, StudyRef
from kernel.audit.tables import audit
from kernel.errors import NotFound, Unavailable
from kernel.events.service import feed, number_events
from kernel.scope import Actor, Scope
from kernel.settings import ObjectSettings
from tests.archive.conftest import LOCAL, Archive
from tests.archive.material import ORIGIN, make, uid
from tests.archive.test_store_and_find import stored_dataset

pytestmark = pytest.mark.backend

SYSTEM = Scope.system("test")
INDEX = (patient, study, series, instance, instance_version, mismatch, person_name, name_gram)


async def values(archive: Archive, *columns: Any, order: Any = None) -> list[tuple[Any, ...]]:
    async with archive.database.session(SYSTEM) as session:
        found = await session.execute(
            select(*columns).order_by(columns[0] if order is None else order)
        )
        return [tuple(row) for row in found]


async def count(archive: Archive, table: Table) -> int:
    async with archive.database.session(SYSTEM) as session:
        return int(await session.scalar(select(func.count()).select_from(table)) or 0)


async def drop(archive: Archive, ref: StudyRef | SeriesRef | InstanceRef) -> Decided:
    return await delete(
        archive.database,
        archive.stores,
        archive.settler,
        LOCAL,
        ref,
        actor="dr.li",
        reason="wrong patient",
    )


async def finish(archive: Archive) -> int:
    return await finish_decisions(archive.database, archive.stores, archive.settler, quiet_ms=-1)


def out_of_reach() -> Stores:
    """Stores whose objects nobody can read or write now."""
    settings = ObjectSettings(
        url="s3://archive", endpoint="http://127.0.0.1:1", access_key="a", secret_key="b"
    )
    return Stores(None, S3Store(settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("settled", [False, True])
async def test_a_deleted_study_leaves_nothing_behind(archive: Archive, settled: bool) -> None:
    await archive.store(make(1, 1, 1), make(1, 2, 1), make(1, 2, 1, seed=1))
    if settled:
        await archive.settle()
    assert (await drop(archive, StudyRef.parse(uid(1)))).instances == 2
    for table in INDEX:
        assert await count(archive, table) == 0, table.name
    states = {
        row[1] for row in await values(archive, pack.c.kind, pack.c.state) if row[0] != "journal"
    }
    assert states == ({"dying"} if settled else set())
    assert (await archive.catalog.search(LOCAL, Query("STUDY"))).matches == []
    with pytest.raises(NotFound):
        await archive.reader.find(LOCAL, StudyRef.parse(uid(1)))
    with pytest.raises(NotFound, match="no such study"):
        await drop(archive, StudyRef.parse(uid(1)))


async def test_a_deletion_is_logged_audited_and_told(archive: Archive) -> None:
    await archive.store(make(1, 1, 1), make(1, 2, 1))
    await drop(archive, SeriesRef.parse(uid(1), uid(1, 1)))
    logged, damaged = read_log(archive.stores.objects)
    ((key, made),) = logged.values()
    assert not damaged
    assert key.startswith("decisions/20")
    assert (made.kind, made.actor, made.reason) == (DELETE, "dr.li", "wrong patient")
    assert (made.study_instance_uid, made.series_instance_uid) == (uid(1), uid(1, 1))
    assert made.detail["instances"] == 1
    assert made.detail["overlay_version"] >= 1
    line = json.loads(archive.stores.objects.read(key))
    assert line["format"] == 1
    assert await values(archive, decision.c.log_key, decision.c.decided_ms) == [
        (key, made.decided_ms)
    ]
    audited = await values(archive, audit.c.action, audit.c.actor_id, audit.c.study_instance_uid)
    assert audited == [("archive.study.delete", LOCAL.actor.id, uid(1))]
    await number_events(archive.database)
    events = [one for one in await feed(archive.database, 0, 100) if "amended" in one.topic]
    assert [one.payload for one in events] == [{"study_instance_uid": uid(1), "deleted": False}]


@pytest.mark.parametrize("settled", [False, True])
async def test_what_is_left_of_a_study_is_counted_and_described(
    archive: Archive, settled: bool
) -> None:
    kept = make(1, 1, 1)
    await archive.store(kept, make(1, 1, 2), make(1, 2, 1))
    if settled:
        await archive.settle()
    ref = SeriesRef.parse(uid(1), uid(1, 1))
    before = await archive.reader.series_metadata(LOCAL, ref)
    await drop(archive, InstanceRef.parse(uid(1), uid(1, 1), uid(1, 1, 2)))
    await drop(archive, SeriesRef.parse(uid(1), uid(1, 2)))
    ((instances, size, unsettled),) = await values(
        archive, series.c.instances, series.c.bytes, series.c.unsettled
    )
    (found,) = await archive.reader.find(LOCAL, StudyRef.parse(uid(1)))
    assert (instances, size, unsettled) == (1, found.byte_length, 0 if settled else 1)
    assert await stored_dataset(archive, kept) == kept.data
    after = await archive.reader.series_metadata(LOCAL, ref)
    assert [one["00080018"]["Value"] for one in after.datasets()] == [[uid(1, 1, 1)]]
    assert (after.gzip is not None) == settled
    assert after.etag != before.etag


async def test_first_values_are_those_of_what_is_left(archive: Archive) -> None:
    wrong: dict[str, Any] = {
        "PatientName": "Li^Wei=李^伟",
        "StudyDescription": "wrong",
        "PatientBirthDate": "19500505",
    }
    await archive.store(make(1, 1, 1, SeriesDescription="a", **wrong), make(1, 1, 2), make(1, 2, 1))
    await archive.settle()
    assert len(await values(archive, mismatch.c.kind)) == 4
    await drop(archive, InstanceRef.parse(uid(1), uid(1, 1), uid(1, 1, 1)))
    (match,) = (await archive.catalog.search(LOCAL, Query("STUDY"))).matches
    assert match.dataset["00100010"]["Value"][0]["Ideographic"] == "杨^秀英"
    assert match.dataset["00081030"]["Value"] == ["胸部CT平扫"]
    assert await values(archive, series.c.description) == [("",), ("",)]
    assert await values(archive, patient.c.birth_date, patient.c.patient_id) == [
        ("19700101", "P00001")
    ]
    assert await count(archive, mismatch) == 0
    assert [row[0] for row in await values(archive, person_name.c.display)] == [
        "",
        "Yang^XiuYing=杨^秀英",
    ]


async def test_a_contradiction_stays_flagged_on_another_that_has_it(archive: Archive) -> None:
    await archive.store(
        make(1, 1, 1),
        make(1, 1, 2, PatientSex="M"),
        make(1, 1, 3, PatientSex="M"),
    )
    flags = (mismatch.c.kind, mismatch.c.sop_instance_uid)
    assert await values(archive, *flags) == [("sex_differs", uid(1, 1, 2))]
    await drop(archive, InstanceRef.parse(uid(1), uid(1, 1), uid(1, 1, 2)))
    assert await values(archive, *flags) == [("sex_differs", uid(1, 1, 3))]


async def test_a_study_moves_to_the_patient_that_what_is_left_names(archive: Archive) -> None:
    await archive.store(make(1, 1, 1, PatientID="X"), make(1, 1, 2), make(2, PatientID="P00001"))
    await drop(archive, InstanceRef.parse(uid(1), uid(1, 1), uid(1, 1, 1)))
    assert await values(archive, patient.c.patient_id) == [("P00001",)]
    both = await values(archive, study.c.study_instance_uid, study.c.patient_fk)
    assert both[0][1] == both[1][1]


async def test_a_patient_has_the_values_of_the_first_study_left(archive: Archive) -> None:
    await archive.store(make(1, PatientBirthDate="19690101"), make(2, PatientID="P00001"))
    await drop(archive, StudyRef.parse(uid(1)))
    assert await values(archive, patient.c.birth_date) == [("19700101",)]


async def test_a_series_uid_in_two_studies_is_flagged_only_while_it_is(archive: Archive) -> None:
    shared: dict[str, Any] = {"SeriesInstanceUID": uid(9)}
    await archive.store(*[make(number, **shared) for number in (1, 2, 3)])
    flags = (mismatch.c.received, mismatch.c.stored, mismatch.c.kind)
    kind = "series_in_two_studies"
    assert await values(archive, *flags) == [(uid(2), uid(1), kind), (uid(3), uid(1), kind)]
    await drop(archive, StudyRef.parse(uid(1)))
    assert await values(archive, *flags) == [(uid(3), uid(2), kind)]
    await drop(archive, StudyRef.parse(uid(3)))
    assert await values(archive, *flags) == []


@pytest.mark.parametrize(
    "ref",
    [
        StudyRef.parse(uid(1)),
        SeriesRef.parse(uid(1), uid(1, 1)),
        InstanceRef.parse(uid(1), uid(1, 1), uid(1, 1, 1)),
    ],
)
@pytest.mark.parametrize("settled", [False, True])
async def test_what_was_deleted_and_is_sent_again_is_new(
    archive: Archive, ref: StudyRef | SeriesRef | InstanceRef, settled: bool
) -> None:
    made = [make(1, 1, 1), make(1, 1, 2), make(1, 2, 1)]
    await archive.store(*made)
    if settled:
        await archive.settle()
    old = {row[0] for row in await values(archive, series.c.id)}
    gone = (await drop(archive, ref)).instances
    other = make(1, 1, 1, seed=7)
    receipts = await archive.store(other, *made[1:])
    stored = [receipt.outcome for receipt in receipts].count(Outcome.STORED)
    assert stored == gone
    assert await stored_dataset(archive, other) == other.data
    if isinstance(ref, StudyRef):
        assert not old & {row[0] for row in await values(archive, series.c.id)}
    assert await finish(archive) == 0
    await archive.settle()
    for one in (other, *made[1:]):
        assert await stored_dataset(archive, one) == one.data
    metadata = await archive.reader.series_metadata(LOCAL, SeriesRef.parse(uid(1), uid(1, 1)))
    assert metadata.gzip is not None
    assert len(metadata.datasets()) == 2


async def test_an_outage_leaves_a_decision_that_is_finished_later(archive: Archive) -> None:
    await archive.store(make(1, 1, 1, StudyDescription="first"), make(1, 1, 2), make(1, 2, 1))
    await archive.settle()
    away = replace_objects(archive.stores)
    ref = InstanceRef.parse(uid(1), uid(1, 1), uid(1, 1, 1))
    with pytest.raises(Unavailable):
        await delete(
            archive.database, away, archive.settler, LOCAL, ref, actor="dr.li", reason="wrong"
        )
    with pytest.raises(NotFound):
        await archive.reader.find(LOCAL, ref)
    assert await values(archive, decision.c.log_key) == [(None,)]
    assert await finish(archive) == 1
    assert await finish(archive) == 0
    assert [row[0] for row in await values(archive, study.c.description)] == ["胸部CT平扫"]
    ((key,),) = await values(archive, decision.c.log_key)
    assert key in {one.key for one in archive.stores.objects.keys("decisions/")}


def replace_objects(stores: Stores) -> Stores:
    return replace(stores, objects=out_of_reach().objects)


async def test_a_large_study_goes_in_steps(archive: Archive) -> None:
    await archive.store(*[make(1, 1, number) for number in range(1, 8)])
    detail = {"id": "1", "state": "open", "instances": 0, "also": []}
    made = Decision(1, DELETE, "dr.li", "", uid(1), "", "", detail, now_ms() + 1)
    async with archive.database.session(SYSTEM, write=True) as session:
        decision_id = await rows.add(session, made)
    for left in (4, 1, 0):
        async with archive.database.session(SYSTEM, write=True) as session:
            await remove(session, decision_id, now_ms(), at_once=3)
        assert [row[0] for row in await values(archive, series.c.instances)] == (
            [left] if left else []
        )
    async with archive.database.session(SYSTEM, write=True) as session:
        await session.execute(update(decision).values(decided_ms=now_ms() - 2))
    assert await finish(archive) == 1
    ((text,),) = await values(archive, decision.c.detail)
    assert json.loads(text)["instances"] == 7


async def test_what_turns_up_just_after_a_decision_goes_too(archive: Archive) -> None:
    await archive.store(make(1, 1, 1), make(2))
    await drop(archive, StudyRef.parse(uid(1)))
    await archive.store(make(1, 1, 1), make(1, 1, 2))
    async with archive.database.session(SYSTEM, write=True) as session:
        await session.execute(update(decision).values(decided_ms=now_ms() + 1))
    assert await finish(archive) == 1
    assert [row[0] for row in await values(archive, study.c.study_instance_uid)] == [uid(2)]


async def test_recovery_does_not_bring_back_what_was_deleted(archive: Archive) -> None:
    await archive.store(make(1, 1, 1), make(1, 1, 2), make(2))
    await drop(archive, StudyRef.parse(uid(1)))
    await archive.receiver.close()
    async with archive.database.session(SYSTEM, write=True) as session:
        await session.execute(update(pack).values(state="writing"))
    assert (await recover(archive.settings, archive.database)).records == 3
    assert [row[0] for row in await values(archive, study.c.study_instance_uid)] == [uid(2)]
    assert await count(archive, instance) == 1


async def test_a_segment_of_nothing_but_deleted_records_is_kept_for_the_sweep(
    archive: Archive,
) -> None:
    await archive.store(make())
    await drop(archive, StudyRef.parse(uid(1)))
    await archive.receiver.close()
    async with archive.database.session(SYSTEM, write=True) as session:
        await session.execute(pack_copy.delete())
        await session.execute(pack.delete())
    await recover(archive.settings, archive.database)
    assert await values(archive, pack.c.kind, pack.c.state) == [("journal", "live")]
    assert list((archive.settings.data / "journal").glob("*.seg"))


async def test_nobody_deletes_outside_the_scope(archive: Archive) -> None:
    await archive.store(make())
    others = Scope(frozenset({2}), Actor("client", "other"), "test")
    with pytest.raises(NotFound):
        await delete(
            archive.database,
            archive.stores,
            archive.settler,
            others,
            StudyRef.parse(uid(1)),
            actor="x",
            reason="y",
        )
    assert await count(archive, instance) == 1


async def test_receiving_and_deleting_at_once_end_in_a_right_count(archive: Archive) -> None:
    second = await Receiver.open(archive.settings, archive.database)

    async def send(receiver: Receiver, series_number: int) -> None:
        for number in range(1, 40):
            made = make(1, series_number, number)
            await receiver.append(ORIGIN, made.identity, [made.data])

    async def remove_again_and_again() -> None:
        for _ in range(6):
            try:
                await drop(archive, StudyRef.parse(uid(1)))
            except NotFound:
                await asyncio.sleep(0)

    await asyncio.gather(send(archive.receiver, 1), send(second, 2), remove_again_and_again())
    await second.close()
    await finish(archive)
    counted = await values(
        archive,
        series.c.id,
        series.c.instances,
        select(func.count()).where(instance.c.series_fk == series.c.id).scalar_subquery(),
    )
    assert all(one[1] == one[2] for one in counted)
    assert await count(archive, instance) == sum(one[2] for one in counted)
