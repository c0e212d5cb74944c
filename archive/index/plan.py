"""What one commit batch does to the index, written once for both databases.

The plan is a generator: it yields `Call`s (a statement with its parameters) and `Instances` (the
rows of the batch) and receives the rows that came back. `archive.index.commit` runs it on a plain
sqlite3 connection or on asyncpg. Nothing here does I/O.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from archive.index import statements as sql
from archive.index.arrival import Arrival
from archive.index.mismatch import SERIES_IN_TWO_STUDIES, Mismatch, contradictions
from archive.index.values import PATIENT_TAGS, SERIES_TAGS, json_attributes
from archive.journal.domain import Outcome
from archive.journal.segment import Segment
from dataset.names import PersonName, name_keys
from kernel.db.statement import Statement
from kernel.events.service import EMIT

JOURNAL_STORE = "journal"
STUDY_REGISTERED = "study.registered.v1"
BATCH_COMMITTED = "archive.batch.v1"


class Call(NamedTuple):
    """One statement to run; the plan receives its rows."""

    statement: Statement
    params: dict[str, Any]


class Instances(NamedTuple):
    """Instance rows to insert; the plan receives the (owner, UID) pairs that were new."""

    rows: list[tuple[Any, ...]]


Step = Call | Instances
Rows = Sequence[Any]
Steps = Generator[Step, Rows, Any]


@dataclass(slots=True)
class SeriesContext:
    """What the committer remembers of a series it has written to."""

    series_id: int
    study_id: int
    fingerprint: tuple[bytes | None, ...] | None = None  # None: read from the index, unchecked
    differing: set[tuple[bytes | None, ...]] = field(default_factory=set)


@dataclass(slots=True)
class Memory:
    """Row ids that a committer knows, so that an instance of a known series costs one insert."""

    series: dict[tuple[int, str, str], SeriesContext] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    limit: int = 4096

    def absorb(self, fresh: Memory) -> None:
        """Take over what a committed batch has learnt; the oldest goes when there is too much."""
        self.codes.update(fresh.codes)
        self.series.update(fresh.series)
        while len(self.series) > self.limit:
            del self.series[next(iter(self.series))]

    def clear(self) -> None:
        """Forget all: some row is gone."""
        self.series.clear()
        self.codes.clear()


@dataclass(slots=True)
class _Tally:
    instances: int = 0
    bytes: int = 0


class BatchPlan:
    """The index transaction of one batch. `outcomes` is in the order of `arrivals` afterwards."""

    def __init__(self, arrivals: Sequence[Arrival], known: Memory, node_id: str, now_ms: int):
        self.arrivals = arrivals
        self.outcomes: list[Outcome] = [Outcome.STORED] * len(arrivals)
        self.fresh = Memory()
        self.packs: dict[str, int] = {}
        self._known = known
        self._node_id = node_id
        self._now_ms = now_ms

    def steps(self) -> Steps:
        """The whole transaction but BEGIN and COMMIT."""
        for segment in {a.segment.key: a.segment for a in self.arrivals}.values():
            yield from self._segment(segment)
        good = [(n, a) for n, a in enumerate(self.arrivals) if a.reason is None]
        for n, arrival in enumerate(self.arrivals):
            if arrival.reason is not None:
                self.outcomes[n] = Outcome.QUARANTINED
                yield from self._quarantine(arrival)
        if good:
            # One order for all writers, so that two of them never wait for each other.
            good.sort(key=lambda pair: (pair[1].study_instance_uid, pair[1].series_instance_uid))
            yield from self._instances(good)

    def _segment(self, segment: Segment) -> Steps:
        if segment.pack_id is not None:
            self.packs[segment.key] = segment.pack_id
            return
        pack = {
            "kind": "journal",
            "state": "writing",
            "owner_id": None,
            "series_fk": None,
            "created_ms": self._now_ms,
            "lease_ms": 0,
        }
        ((pack_id,),) = yield Call(sql.PACK_INSERT, pack)
        copy = {
            "pack_id": pack_id,
            "store": JOURNAL_STORE,
            "key": segment.key,
            "node_id": self._node_id,
        }
        yield Call(sql.PACK_COPY_INSERT, copy)
        self.packs[segment.key] = pack_id

    def _instances(self, good: list[tuple[int, Arrival]]) -> Steps:
        batch_id = yield from self._emit(BATCH_COMMITTED, {"instances": len(good)}, good[0][1])
        rows = []
        contexts = []
        for _, arrival in good:
            context = yield from self._context(arrival)
            contexts.append(context)
            rows.append((yield from self._row(arrival, context, batch_id)))
        inserted = yield Instances(rows)
        new = set(inserted)
        tallies: dict[int, _Tally] = {}
        studies: dict[int, int] = {}
        for (n, arrival), context, row in zip(good, contexts, rows, strict=True):
            key = (row[0], row[2])
            if key in new:
                new.discard(key)  # a second one of the same batch is "again"
                tally = tallies.setdefault(context.series_id, _Tally())
                tally.instances += 1
                tally.bytes += arrival.byte_length
                studies[context.study_id] = arrival.received_ms
            else:
                self.outcomes[n] = Outcome.AGAIN
                yield from self._again(arrival)
        for series_id in sorted(tallies):
            yield self._series_add(series_id, tallies[series_id])
        for study_id in sorted(studies):
            yield Call(sql.STUDY_TOUCH, {"id": study_id, "received_ms": studies[study_id]})

    def _series_add(self, series_id: int, tally: _Tally) -> Call:
        added = {
            "id": series_id,
            "n": tally.instances,
            "bytes": tally.bytes,
            "received_ms": self._now_ms,
        }
        return Call(sql.SERIES_ADD, added)

    def _row(self, arrival: Arrival, context: SeriesContext, batch_id: int) -> Steps:
        """The instance row in the order of `INSTANCE_COLUMNS`."""
        sop_class_id = yield from self._code(arrival.sop_class_uid)
        transfer_syntax_id = yield from self._code(arrival.transfer_syntax_uid)
        frames = arrival.number(0x00280008)
        return (
            arrival.origin.owner_id,
            context.series_id,
            arrival.sop_instance_uid,
            sop_class_id,
            transfer_syntax_id,
            arrival.number(0x00200013),
            frames if frames is not None and 0 < frames < 2**31 else 1,
            arrival.number(0x00280010),
            arrival.number(0x00280011),
            arrival.number(0x00280100),
            self.packs[arrival.segment.key],
            arrival.byte_offset,
            arrival.byte_length,
            batch_id,
        )

    def _again(self, arrival: Arrival) -> Steps:
        owner_id = arrival.origin.owner_id
        rows = yield Call(
            sql.INSTANCE_SELECT,
            {"owner_id": owner_id, "sop_instance_uid": arrival.sop_instance_uid},
        )
        instance_fk, pack_id, byte_offset = rows[0]
        if (pack_id, byte_offset) == (self.packs[arrival.segment.key], arrival.byte_offset):
            return  # recovery met a record whose row is there
        version = {
            "owner_id": owner_id,
            "instance_fk": instance_fk,
            "sop_class_id": (yield from self._code(arrival.sop_class_uid)),
            "transfer_syntax_id": (yield from self._code(arrival.transfer_syntax_uid)),
            "pack_id": self.packs[arrival.segment.key],
            "byte_offset": arrival.byte_offset,
            "byte_length": arrival.byte_length,
            "study_instance_uid": arrival.study_instance_uid,
            "series_instance_uid": arrival.series_instance_uid,
            "source": arrival.origin.source,
            "received_ms": arrival.received_ms,
        }
        yield Call(sql.VERSION_INSERT, version)

    def _quarantine(self, arrival: Arrival) -> Steps:
        kept = {
            "owner_id": arrival.origin.owner_id,
            "reason": arrival.reason,
            "detail": arrival.detail[:500],
            "via": arrival.origin.via,
            "source": arrival.origin.source,
            "sop_class_uid": arrival.sop_class_uid[:64],
            "sop_instance_uid": arrival.sop_instance_uid[:64],
            "transfer_syntax_uid": arrival.transfer_syntax_uid[:64],
            "checksum": arrival.checksum,
            "pack_id": self.packs[arrival.segment.key],
            "byte_offset": arrival.byte_offset,
            "byte_length": arrival.byte_length,
            "received_ms": arrival.received_ms,
        }
        yield Call(sql.QUARANTINE_INSERT, kept)

    def _emit(self, topic: str, payload: dict[str, Any], arrival: Arrival) -> Steps:
        event = {
            "topic": topic,
            "key": payload.get("study_instance_uid", ""),
            "payload": json.dumps(payload, separators=(",", ":")),
            "owner_id": arrival.origin.owner_id,
            "created_at": self._now_ms / 1000,
        }
        rows = yield Call(EMIT, event)
        return rows[0][0]

    def _code(self, uid: str) -> Steps:
        code = self._known.codes.get(uid) or self.fresh.codes.get(uid)
        if code is None:
            code = yield from _insert_or_select(
                sql.CODE_INSERT, {"uid": uid}, sql.CODE_SELECT, {"uid": uid}
            )
            self.fresh.codes[uid] = code
        return code

    def _context(self, arrival: Arrival) -> Steps:
        key = (
            arrival.origin.owner_id,
            arrival.study_instance_uid,
            arrival.series_instance_uid,
        )
        context = self.fresh.series.get(key) or self._known.series.get(key)
        if context is None:
            context = yield from self._resolve(arrival)
            self.fresh.series[key] = context
        fingerprint = arrival.fingerprint
        if context.fingerprint != fingerprint and fingerprint not in context.differing:
            yield from self._compare(arrival, context, fingerprint)
        return context

    def _compare(
        self, arrival: Arrival, context: SeriesContext, fingerprint: tuple[bytes | None, ...]
    ) -> Steps:
        """Flag what contradicts the stored first values, once for each distinct contradiction."""
        study = yield Call(sql.STUDY_ATTRS, {"id": context.study_id})
        series = yield Call(sql.SERIES_ATTRS, {"id": context.series_id})
        arrived = json_attributes(arrival.values, PATIENT_TAGS | SERIES_TAGS, [])
        found = contradictions(study[0][0], series[0][0], arrived)
        for mismatch in found:
            yield self._mismatch(arrival, context.study_id, mismatch)
        if found or context.fingerprint is not None:
            context.differing.add(fingerprint)
        else:
            context.fingerprint = fingerprint

    def _mismatch(self, arrival: Arrival, study_id: int, mismatch: Mismatch) -> Call:
        flag = {
            "owner_id": arrival.origin.owner_id,
            "study_fk": study_id,
            "kind": mismatch.kind,
            "series_instance_uid": arrival.series_instance_uid,
            "sop_instance_uid": arrival.sop_instance_uid,
            "stored": mismatch.stored,
            "received": mismatch.received,
            "noted_ms": self._now_ms,
        }
        return Call(sql.MISMATCH_INSERT, flag)

    def _resolve(self, arrival: Arrival) -> Steps:
        """The series an instance belongs to, with its study and patient made where new."""
        owner_id = arrival.origin.owner_id
        where = {"owner_id": owner_id, "study_instance_uid": arrival.study_instance_uid}
        rows = yield Call(sql.STUDY_SELECT, where)
        if rows:
            return (yield from self._series(arrival, rows[0][0]))
        study_id, fresh = yield from self._study(arrival, where)
        context = yield from self._series(arrival, study_id)
        if fresh:
            context.fingerprint = arrival.fingerprint
        return context

    def _study(self, arrival: Arrival, where: dict[str, Any]) -> Steps:
        name_id = yield from self._name(arrival.text(0x00100010))
        patient_fk = yield from self._patient(arrival, name_id)
        study = {
            **where,
            "patient_fk": patient_fk,
            "name_id": name_id,
            "referring_name_id": (yield from self._name(arrival.text(0x00080090))),
            "study_date": arrival.date(0x00080020),
            "study_time": arrival.time(0x00080030),
            "accession_number": arrival.text(0x00080050),
            "study_id": arrival.text(0x00200010),
            "description": arrival.text(0x00081030),
            "attrs": arrival.study_attributes(),
            "received_ms": arrival.received_ms,
        }
        rows = yield Call(sql.STUDY_INSERT, study)
        if not rows:  # another process was faster
            rows = yield Call(sql.STUDY_SELECT, where)
            return rows[0][0], False
        registered = {"study_instance_uid": arrival.study_instance_uid}
        yield from self._emit(STUDY_REGISTERED, registered, arrival)
        return rows[0][0], True

    def _series(self, arrival: Arrival, study_id: int) -> Steps:
        owner_id = arrival.origin.owner_id
        where = {"study_fk": study_id, "series_instance_uid": arrival.series_instance_uid}
        rows = yield Call(sql.SERIES_SELECT, where)
        if rows:
            return SeriesContext(rows[0][0], study_id)
        elsewhere = yield Call(
            sql.SERIES_ELSEWHERE,
            {**where, "owner_id": owner_id},
        )
        if elsewhere:
            found = Mismatch(SERIES_IN_TWO_STUDIES, elsewhere[0][0], arrival.study_instance_uid)
            yield self._mismatch(arrival, study_id, found)
        made = {
            **where,
            "owner_id": owner_id,
            "modality": arrival.text(0x00080060),
            "series_number": arrival.number(0x00200011),
            "description": arrival.text(0x0008103E),
            "body_part": arrival.text(0x00180015),
            "pps_date": arrival.date(0x00400244),
            "pps_time": arrival.time(0x00400245),
            "attrs": arrival.series_attributes(),
        }
        rows = yield Call(sql.SERIES_INSERT, made)
        if not rows:
            rows = yield Call(sql.SERIES_SELECT, where)
        return SeriesContext(rows[0][0], study_id)

    def _patient(self, arrival: Arrival, name_id: int) -> Steps:
        patient_id = arrival.text(0x00100020)
        key = {
            "owner_id": arrival.origin.owner_id,
            "issuer": arrival.text(0x00100021),
            "patient_id": patient_id,
            "unidentified": "" if patient_id else arrival.study_instance_uid,
        }
        made = {
            **key,
            "name_id": name_id,
            "birth_date": arrival.date(0x00100030),
            "sex": arrival.text(0x00100040),
            "attrs": arrival.patient_attributes(),
        }
        return (yield from _insert_or_select(sql.PATIENT_INSERT, made, sql.PATIENT_SELECT, key))

    def _name(self, text: str) -> Steps:
        display = text.partition("\\")[0]
        rows = yield Call(sql.NAME_SELECT, {"display": display})
        if rows:
            return rows[0][0]
        keys = name_keys(PersonName.parse(display))
        made = {
            "display": display,
            "folded": keys.folded,
            "hanzi": keys.hanzi,
            "pinyin": keys.pinyin,
            "initials": keys.initials,
        }
        rows = yield Call(sql.NAME_INSERT, made)
        if not rows:
            rows = yield Call(sql.NAME_SELECT, {"display": display})
            return rows[0][0]
        for gram in sorted(set(keys.grams)):
            yield Call(sql.GRAM_INSERT, {"gram": gram, "name_id": rows[0][0]})
        return rows[0][0]


def _insert_or_select(
    insert: Statement, values: dict[str, Any], select: Statement, key: dict[str, Any]
) -> Steps:
    """The id of a row that may be there already."""
    rows = yield Call(select, key)
    if not rows:
        rows = yield Call(insert, values)
    if not rows:  # another process was faster
        rows = yield Call(select, key)
    return rows[0][0]
