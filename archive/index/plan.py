"""What one commit batch does to the index, written once for both databases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from archive.index import statements as sql
from archive.index.arrival import Arrival
from archive.index.levels import Levels, instance_values
from archive.index.steps import Call, Instances, Memory, SeriesContext, Stale, Steps
from archive.journal.domain import Outcome
from archive.journal.segment import Segment

JOURNAL_STORE = "journal"
BATCH_COMMITTED = "archive.batch.v1"


@dataclass(slots=True)
class _Tally:
    """What a batch adds to a series or study: counts, and when it was received."""

    first_ms: int
    last_ms: int
    instances: int = 0
    bytes: int = 0
    unsettled: int = 0

    def add(self, arrival: Arrival) -> None:
        self.first_ms = min(self.first_ms, arrival.received_ms)
        self.last_ms = max(self.last_ms, arrival.received_ms)
        self.instances += 1
        self.bytes += arrival.byte_length
        self.unsettled += not arrival.segment.settled


class BatchPlan:
    """The index transaction of one batch. `outcomes` is in the order of `arrivals` afterwards."""

    def __init__(self, arrivals: Sequence[Arrival], known: Memory, node_id: str, now_ms: int):
        self.arrivals = arrivals
        self.outcomes: list[Outcome] = [Outcome.STORED] * len(arrivals)
        self.packs: dict[str, int] = {}
        # One order for all writers, so that two of them never wait for each other.
        self._good = sorted(
            [(n, a) for n, a in enumerate(arrivals) if a.reason is None],
            key=lambda pair: (pair[1].study_instance_uid, pair[1].series_instance_uid),
        )
        self._firsts = _firsts(self._good)
        firsts = [arrival for n, arrival in self._good if n in self._firsts]
        self._levels = Levels(firsts, known, now_ms)
        self._node_id = node_id
        self._now_ms = now_ms

    @property
    def fresh(self) -> Memory:
        """What the plan found out; true once it is committed."""
        return self._levels.fresh

    def steps(self) -> Steps:
        """The whole transaction but BEGIN and COMMIT."""
        for segment in {a.segment.key: a.segment for a in self.arrivals}.values():
            yield from self._segment(segment)
        for n, arrival in enumerate(self.arrivals):
            if arrival.reason is not None:
                self.outcomes[n] = Outcome.QUARANTINED
                yield from self._quarantine(arrival)
        if self._good:
            yield from self._instances(self._good)

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
        batch = {"instances": len(good)}
        batch_id = yield from self._levels.emit(BATCH_COMMITTED, batch, good[0][1])
        placed: list[tuple[SeriesContext | None, tuple[Any, ...] | None]] = []
        for n, arrival in good:
            again = n not in self._firsts
            context = yield from self._levels.context(arrival, again=again)
            fresh = context is not None and not again
            row = (yield from self._row(arrival, context, batch_id)) if fresh else None
            placed.append((context, row))
        rows = [row for _, row in placed if row is not None]
        new = set((yield Instances(rows)) if rows else ())
        series: dict[int, _Tally] = {}
        studies: dict[int, _Tally] = {}
        for (n, arrival), (context, row) in zip(good, placed, strict=True):
            if context is not None and row is not None and (row[0], row[2]) in new:
                for tallies, row_id in ((series, context.series_id), (studies, context.study_id)):
                    start = _Tally(arrival.received_ms, arrival.received_ms)
                    tallies.setdefault(row_id, start).add(arrival)
            else:
                self.outcomes[n] = Outcome.AGAIN
                yield from self._again(arrival)
        known = {c.series_id: c for c, _ in placed if c is not None}
        for series_id, context in sorted(known.items()):
            if series_id in series:
                found = yield _series_add(series_id, series[series_id])
            else:
                found = yield Call(sql.STUDY_OVERLAY, {"id": context.study_id})
            if not found or found[0][0] != context.overlay_version:
                raise Stale
        for study_id in sorted(studies):
            tally = studies[study_id]
            touched = {"id": study_id, "first_ms": tally.first_ms, "last_ms": tally.last_ms}
            yield Call(sql.STUDY_TOUCH, touched)

    def _row(self, arrival: Arrival, context: SeriesContext, batch_id: int) -> Steps:
        """The instance row in the order of `INSTANCE_COLUMNS`."""
        sop_class_id = yield from self._levels.code(arrival.sop_class_uid)
        transfer_syntax_id = yield from self._levels.code(arrival.transfer_syntax_uid)
        return (
            arrival.origin.owner_id,
            context.series_id,
            arrival.sop_instance_uid,
            sop_class_id,
            transfer_syntax_id,
            *instance_values(arrival).values(),
            self.packs[arrival.segment.key],
            arrival.byte_offset,
            arrival.byte_length,
            batch_id,
            arrival.received_ms,
        )

    def _again(self, arrival: Arrival) -> Steps:
        owner_id = arrival.origin.owner_id
        rows = yield Call(
            sql.INSTANCE_SELECT,
            {"owner_id": owner_id, "sop_instance_uid": arrival.sop_instance_uid},
        )
        if not rows:
            raise Stale
        instance_fk, received_ms, byte_length = rows[0]
        if arrival.segment.replayed:
            if (received_ms, byte_length) == (arrival.received_ms, arrival.byte_length):
                return  # its row is there
            known = {
                "instance_fk": instance_fk,
                "received_ms": arrival.received_ms,
                "byte_length": arrival.byte_length,
            }
            if (yield Call(sql.VERSION_SELECT, known)):
                return
        version = {
            "owner_id": owner_id,
            "instance_fk": instance_fk,
            "sop_class_id": (yield from self._levels.code(arrival.sop_class_uid)),
            "transfer_syntax_id": (yield from self._levels.code(arrival.transfer_syntax_uid)),
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


def _firsts(good: Sequence[tuple[int, Arrival]]) -> set[int]:
    """Of each SOP Instance UID in the batch the one received first, by its place in the batch."""
    first: dict[tuple[int, str], tuple[int, int, int]] = {}
    for n, arrival in good:
        key = (arrival.origin.owner_id, arrival.sop_instance_uid)
        rank = (arrival.received_ms, arrival.order, n)
        if key not in first or rank < first[key]:
            first[key] = rank
    return {n for _, _, n in first.values()}


def _series_add(series_id: int, tally: _Tally) -> Call:
    added = {
        "id": series_id,
        "n": tally.instances,
        "bytes": tally.bytes,
        "unsettled": tally.unsettled,
        "first_ms": tally.first_ms,
        "last_ms": tally.last_ms,
    }
    return Call(sql.SERIES_ADD, added)
