"""The rows above an instance: its series, study and patient, found or made, and their flags.

First values stay: a study holds those of its first instance, a series those of its own first one,
a patient those of the first instance of its first study. First is what was received earliest, so
that the same rows come out when the index is made again from the stored bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from archive.index import statements as sql
from archive.index.arrival import Arrival
from archive.index.corrected import NOTHING, Attributes, corrected
from archive.index.mismatch import SERIES_IN_TWO_STUDIES, Mismatch, contradictions
from archive.index.steps import Call, Memory, SeriesContext, Stale, Steps, insert_or_select
from archive.index.values import PATIENT_TAGS, SERIES_TAGS, json_attributes
from dataset.names import PersonName, name_keys
from kernel.events.service import EMIT

STUDY_REGISTERED = "study.registered.v1"


class Levels:
    """Finds or makes the rows above the instances of one batch; `fresh` is what it learnt."""

    def __init__(self, arrivals: Sequence[Arrival], known: Memory, now_ms: int) -> None:
        self.fresh = Memory()
        self._known = known
        self._now_ms = now_ms
        self._arrivals = arrivals
        self._made: dict[tuple[int, str], tuple[Arrival, int]] = {}  # series of this batch

    @cached_property
    def _studies(self) -> dict[tuple[int, str], list[Arrival]]:
        """The instances of each study in the order of receiving; asked only for new ones."""
        found: dict[tuple[int, str], list[Arrival]] = {}
        for one in sorted(self._arrivals, key=_received):
            found.setdefault((one.origin.owner_id, one.study_instance_uid), []).append(one)
        return found

    @cached_property
    def _patients(self) -> dict[tuple[int, bytes, bytes], list[tuple[int, str]]]:
        """The studies in which a patient is named."""
        found: dict[tuple[int, bytes, bytes], list[tuple[int, str]]] = {}
        for key, arrivals in self._studies.items():
            for patient in {_patient_key(one) for one in arrivals}:
                found.setdefault(patient, []).append(key)
        return found

    def context(self, arrival: Arrival, *, again: bool = False) -> Steps:
        """The series of an instance, with its study and patient made where new.

        None for an instance that is here already (`again`: earlier in the same batch) and names a
        series that is not: what was kept before decides where it belongs, and no empty series is
        made.
        """
        key = (
            arrival.origin.owner_id,
            arrival.study_instance_uid,
            arrival.series_instance_uid,
        )
        context = self.fresh.series.get(key) or self._known.series.get(key)
        if context is None:
            context = yield from self._resolve(arrival, again=again)
            if context is None:
                return None
            self.fresh.series[key] = context
        fingerprint = arrival.fingerprint
        if context.fingerprint != fingerprint and fingerprint not in context.differing:
            yield from self._compare(arrival, context, fingerprint)
        return context

    def emit(self, topic: str, payload: dict[str, Any], arrival: Arrival) -> Steps:
        """Write an event; gives its id."""
        event = {
            "topic": topic,
            "key": payload.get("study_instance_uid", ""),
            "payload": json.dumps(payload, separators=(",", ":")),
            "owner_id": arrival.origin.owner_id,
            "created_at": self._now_ms / 1000,
        }
        rows = yield Call(EMIT, event)
        return rows[0][0]

    def code(self, uid: str) -> Steps:
        """The number of a SOP Class or Transfer Syntax UID."""
        code = self._known.codes.get(uid) or self.fresh.codes.get(uid)
        if code is None:
            code = yield from insert_or_select(
                sql.CODE_INSERT, {"uid": uid}, sql.CODE_SELECT, {"uid": uid}
            )
            self.fresh.codes[uid] = code
        return code

    def _resolve(self, arrival: Arrival, *, again: bool) -> Steps:
        owner_id = arrival.origin.owner_id
        where = {"owner_id": owner_id, "study_instance_uid": arrival.study_instance_uid}
        study = yield Call(sql.STUDY_SELECT, where)
        if study:
            key = {
                "study_fk": study[0][0],
                "series_instance_uid": arrival.series_instance_uid,
            }
            series = yield Call(sql.SERIES_SELECT, key)
            if series:
                return SeriesContext(series[0][0], *study[0])
        if again or (yield from self._is_here(arrival)):
            return None
        if study:
            return (yield from self._series(arrival, *study[0]))
        first = yield from self._first_of_study((owner_id, arrival.study_instance_uid))
        study_id, overlay_version, fresh = yield from self._study(first, where)
        context = yield from self._series(arrival, study_id, overlay_version)
        if fresh and first is arrival:
            context.fingerprint = arrival.fingerprint
        return context

    def _is_here(self, arrival: Arrival) -> Steps:
        key = {
            "owner_id": arrival.origin.owner_id,
            "sop_instance_uid": arrival.sop_instance_uid,
        }
        return bool((yield Call(sql.INSTANCE_SELECT, key)))

    def _compare(
        self, arrival: Arrival, context: SeriesContext, fingerprint: tuple[bytes | None, ...]
    ) -> Steps:
        """Flag what contradicts the stored first values, once for each distinct contradiction."""
        study = yield Call(sql.STUDY_ATTRS, {"id": context.study_id})
        series = yield Call(sql.SERIES_ATTRS, {"id": context.series_id})
        if not study or not series:
            raise Stale
        arrived = json_attributes(arrival.values, PATIENT_TAGS | SERIES_TAGS, [])
        found = contradictions(study[0][0], series[0][0], arrived)
        for mismatch in found:
            yield flag(arrival, context.study_id, mismatch)
        if found or context.fingerprint is not None:
            context.differing.add(fingerprint)
        else:
            context.fingerprint = fingerprint

    def _study(self, first: Arrival, where: dict[str, Any]) -> Steps:
        """Make the study; gives its id, overlay version and whether nobody else was faster."""
        values = yield from self.study_values(first)
        made = {**where, **values, "received_ms": first.received_ms}
        rows = yield Call(sql.STUDY_INSERT, made)
        if not rows:
            rows = yield Call(sql.STUDY_SELECT, where)
            return *rows[0], False
        if not first.segment.settled:
            registered = {"study_instance_uid": first.study_instance_uid}
            yield from self.emit(STUDY_REGISTERED, registered, first)
        return rows[0][0], 0, True

    def study_values(self, received: Arrival, changes: Attributes = NOTHING) -> Steps:
        """The columns that a study has from its first instance; its patient is made where new.

        `changes` are corrections of the whole study.
        """
        first = yield from self.shown(received, changes)
        name_id = yield from self._name(first.text(0x00100010))
        patient_fk = yield from self._patient(first)
        return {
            "patient_fk": patient_fk,
            "name_id": name_id,
            "referring_name_id": (yield from self._name(first.text(0x00080090))),
            "study_date": first.date(0x00080020),
            "study_time": first.time(0x00080030),
            "accession_number": first.text(0x00080050),
            "study_id": first.text(0x00200010),
            "description": first.text(0x00081030),
            "attrs": first.study_attributes(),
            "first_attrs": None if first is received else received.study_attributes(),
            "corrected": int(first is not received),
        }

    def shown(self, first: Arrival, changes: Attributes = NOTHING) -> Steps:
        """An instance as its patient and its study are shown: with the corrections of the study,
        then under the patient that its own one was merged into.
        """
        first = corrected(first, changes)
        merged = NOTHING
        key = {
            "owner_id": first.origin.owner_id,
            "issuer": first.text(0x00100021),
            "patient_id": first.text(0x00100020),
        }
        while key["patient_id"]:
            rows = yield Call(sql.MERGED_SELECT, key)
            if not rows:
                break
            key["issuer"], key["patient_id"], attrs = rows[0]
            merged = json.loads(attrs)
        return corrected(first, merged)

    def _series(self, arrival: Arrival, study_id: int, overlay_version: int) -> Steps:
        owner_id = arrival.origin.owner_id
        where = {"study_fk": study_id, "series_instance_uid": arrival.series_instance_uid}
        elsewhere = yield Call(sql.SERIES_ELSEWHERE, {**where, "owner_id": owner_id})
        yield from self._shared(arrival, study_id, elsewhere[0][0] if elsewhere else "")
        made = {**where, **series_values(arrival), "owner_id": owner_id}
        rows = yield Call(sql.SERIES_INSERT, made)
        if not rows:
            rows = yield Call(sql.SERIES_SELECT, where)
        return SeriesContext(rows[0][0], study_id, overlay_version)

    def _shared(self, arrival: Arrival, study_id: int, elsewhere: str) -> Steps:
        """Flag a series UID that stands in another study, in the one that came later."""
        key = (arrival.origin.owner_id, arrival.series_instance_uid)
        if not elsewhere:
            self._made[key] = (arrival, study_id)
            return
        if key not in self._made:  # the other one was there before this batch
            found = Mismatch(SERIES_IN_TWO_STUDIES, elsewhere, arrival.study_instance_uid)
            yield flag(arrival, study_id, found)
            return
        first, later = sorted(
            (self._made[key], (arrival, study_id)), key=lambda pair: _received(pair[0])
        )
        self._made[key] = first
        uids = (first[0].study_instance_uid, later[0].study_instance_uid)
        yield flag(*later, Mismatch(SERIES_IN_TWO_STUDIES, *uids))

    def _patient(self, arrival: Arrival) -> Steps:
        """The patient of a study's first instance, made from its first study where new."""
        patient_id = arrival.text(0x00100020)
        key = {
            "owner_id": arrival.origin.owner_id,
            "issuer": arrival.text(0x00100021),
            "patient_id": patient_id,
            "unidentified": "" if patient_id else arrival.study_instance_uid,
        }
        rows = yield Call(sql.PATIENT_SELECT, key)
        if rows:
            return rows[0][0]
        first = (yield from self._first_of_patient(arrival)) if patient_id else arrival
        values = yield from self.patient_values(first)
        return (
            yield from insert_or_select(
                sql.PATIENT_INSERT, {**key, **values}, sql.PATIENT_SELECT, key
            )
        )

    def patient_values(self, first: Arrival) -> Steps:
        """The columns that a patient has from the first instance of its first study."""
        return {
            "name_id": (yield from self._name(first.text(0x00100010))),
            "birth_date": first.date(0x00100030),
            "sex": first.text(0x00100040),
            "attrs": first.patient_attributes(),
        }

    def _first_of_study(self, key: tuple[int, str]) -> Steps:
        """The earliest of the batch's instances that a new study will have; None without one."""
        for one in self._studies[key]:
            if not (yield from self._is_here(one)):
                return one
        return None

    def _first_of_patient(self, arrival: Arrival) -> Steps:
        """The earliest first instance of the batch's new studies of one patient."""
        own = (arrival.origin.owner_id, arrival.study_instance_uid)
        best = arrival
        for key in self._patients.get(_patient_key(arrival), ()):
            where = {"owner_id": key[0], "study_instance_uid": key[1]}
            if key == own or (yield Call(sql.STUDY_SELECT, where)):
                continue
            first = yield from self._first_of_study(key)
            if first is not None and _patient_key(first) == _patient_key(arrival):
                best = min(best, first, key=_received)
        return best

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


def series_values(received: Arrival, changes: Attributes = NOTHING) -> dict[str, Any]:
    """The columns that a series has from its first instance; `changes` are its corrections."""
    first = corrected(received, changes)
    return {
        "modality": first.text(0x00080060),
        "series_number": first.number(0x00200011),
        "description": first.text(0x0008103E),
        "body_part": first.text(0x00180015),
        "pps_date": first.date(0x00400244),
        "pps_time": first.time(0x00400245),
        "attrs": first.series_attributes(),
        "first_attrs": None if first is received else received.series_attributes(),
    }


def instance_values(arrival: Arrival) -> dict[str, Any]:
    """The columns that an instance has from its own elements."""
    frames = arrival.number(0x00280008)
    return {
        "instance_number": arrival.number(0x00200013),
        "frames": frames if frames is not None and 0 < frames < 2**31 else 1,
        "rows": arrival.number(0x00280010),
        "columns": arrival.number(0x00280011),
        "bits_allocated": arrival.number(0x00280100),
    }


def flag(arrival: Arrival, study_id: int, mismatch: Mismatch) -> Call:
    """Note a contradiction of `arrival` in its study."""
    noted = {
        "owner_id": arrival.origin.owner_id,
        "study_fk": study_id,
        "kind": mismatch.kind,
        "series_instance_uid": arrival.series_instance_uid,
        "sop_instance_uid": arrival.sop_instance_uid,
        "stored": mismatch.stored,
        "received": mismatch.received,
        "noted_ms": arrival.received_ms,
    }
    return Call(sql.MISMATCH_INSERT, noted)


def _received(arrival: Arrival) -> tuple[int, int]:
    return arrival.received_ms, arrival.order


def _patient_key(arrival: Arrival) -> tuple[int, bytes, bytes]:
    patient_id, issuer = (arrival.values.get(tag, b"") for tag in (0x00100020, 0x00100021))
    return arrival.origin.owner_id, patient_id.strip(b"\0 "), issuer.strip(b"\0 ")
