"""Merging one patient of an owner into another, and taking that back.

All studies of the one answer under the other then, those that come later too, with the patient
attributes that the other had at that time. Without the merge everything is as it was.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from archive.decisions import rows
from archive.decisions.domain import CORRECT, MERGE, Decision, PatientKey
from archive.decisions.merges import (
    end_of,
    key_in,
    merged_below,
    merged_into,
    set_merges,
)
from archive.decisions.renewal import renew
from archive.index.tables import patient, study
from archive.journal.clock import now_ms
from archive.store.service import Stores
from kernel.audit.domain import AuditRecord
from kernel.audit.service import append as audit
from kernel.db.database import Database
from kernel.errors import Conflict, Invalid, NotFound
from kernel.scope import Scope

ACTION = "archive.patient."  # and the kind: what the audit calls it

# What tells one patient from another (PS3.3 C.7.1.1); comments and the like stay each study's.
IDENTITY = {
    "00100010": "PN",
    "00100020": "LO",
    "00100021": "LO",
    "00100030": "DA",
    "00100040": "CS",
}


async def record(
    database: Database,
    scope: Scope,
    kind: str,
    source: PatientKey,
    target: PatientKey,
    *,
    actor: str,
    reason: str,
) -> list[int]:
    """The first transaction, for each owner within the scope who knows both; gives the decisions.

    Raises `NotFound` (``patient.not_found``), `Invalid` (``merge.same``, ``merge.no_id``) and
    `Conflict` (``merge.already``, ``merge.circular``, ``merge.target_merged``, ``merge.none``).
    """
    if not source.patient_id or not target.patient_id:
        raise Invalid("merge.no_id", "a patient without a Patient ID cannot be merged")
    if source == target:
        raise Invalid("merge.same", "a patient cannot be merged into itself")
    return [
        await _record(
            database, scope, Decision(one, kind, actor, reason, "", "", "", {}, 0), source, target
        )
        for one in await _owners(database, scope, source, target)
    ]


async def _record(
    database: Database, scope: Scope, wanted: Decision, source: PatientKey, target: PatientKey
) -> int:
    async def work(session: AsyncSession) -> int:
        attributes = await _check(session, wanted, source, target)
        decided = await rows.of_study(session, wanted.owner_id, "")
        latest_ms = max([now_ms(), *(one.decided_ms + 1 for one in decided)])
        detail = {
            "id": secrets.token_hex(8),
            "state": "open",
            "patient": list(source),
            "into": list(target),
            "attributes": attributes,
        }
        fields = (wanted.owner_id, wanted.kind, wanted.actor, wanted.reason)
        made = Decision(*fields, "", "", "", detail, latest_ms)
        decision_id = await rows.add(session, made)
        await set_merges(session, [made])
        record = AuditRecord(
            scope.actor,
            ACTION + made.kind,
            "ok",
            made.owner_id,
            purpose=scope.purpose,
            detail={"decision": decision_id, "reason": made.reason},
        )
        await audit(session, record)
        return decision_id

    return await rows.attempt(database, rows.owner_scope(wanted.owner_id, scope.purpose), work)


async def _check(
    session: AsyncSession, wanted: Decision, source: PatientKey, target: PatientKey
) -> dict[str, Any]:
    """The attributes that studies of the source show from now on."""
    merged = await merged_into(session, wanted.owner_id, source)
    if wanted.kind != MERGE:
        if merged is None or merged.key != target:
            raise Conflict("merge.none", "the patient is not merged into that one")
        return {}
    if merged is not None:
        raise Conflict(
            "merge.already",
            "the patient is merged into {patient} already",
            patient=merged.key.patient_id,
        )
    following = (await end_of(session, wanted.owner_id, target)).key
    if following == source:
        raise Conflict("merge.circular", "that patient is merged into this one already")
    if following != target:
        raise Conflict(
            "merge.target_merged",
            "that patient is merged into {patient} itself: merge into that one",
            patient=following.patient_id,
        )
    attrs = await session.scalar(
        select(patient.c.attrs).where(
            patient.c.owner_id == wanted.owner_id,
            patient.c.patient_id == target.patient_id,
            patient.c.issuer == target.issuer,
        )
    )
    named = json.loads(attrs or "{}")
    return {tag: named.get(tag, {"vr": vr}) for tag, vr in IDENTITY.items()}


async def _owners(
    database: Database, scope: Scope, source: PatientKey, target: PatientKey
) -> list[int]:
    """The owners within the scope who know the patients; after a merge there is only the target."""
    found: list[set[int]] = []
    async with database.session(scope) as session:
        for key in (source, target):
            chosen = select(patient.c.owner_id).where(
                patient.c.patient_id == key.patient_id, patient.c.issuer == key.issuer
            )
            if scope.owners is not None:
                chosen = chosen.where(patient.c.owner_id.in_(sorted(scope.owners)))
            found.append(set((await session.scalars(chosen)).all()))
        known = set().union(*found) if scope.owners is None else set(scope.owners)
        merged = {
            owner_id
            for owner_id in known
            for key in (source, target)
            if await merged_into(session, owner_id, key) is not None
        }
    owners = sorted((found[0] & found[1]) | merged)
    if not owners:
        unknown = target if found[0] else source
        raise NotFound(
            "patient.not_found", "there is no patient {patient}", patient=unknown.patient_id
        )
    return owners


async def renew_studies(database: Database, stores: Stores, made: Decision) -> None:
    """Show the studies of a patient under whom they belong now. Raises `Unavailable`."""
    async with database.session(rows.owner_scope(made.owner_id, made.kind)) as session:
        uids = await concerned(session, made)
    for uid in uids:
        one = Decision(made.owner_id, CORRECT, "", "", uid, "", "", {}, made.decided_ms)
        await renew(database, stores, one)


async def overlays(session: AsyncSession, made: Decision) -> dict[str, int]:
    """The overlay version of each study that a merge or its end concerned."""
    uids = await concerned(session, made)
    chosen = select(study.c.study_instance_uid, study.c.overlay_version).where(
        study.c.owner_id == made.owner_id, study.c.study_instance_uid.in_(uids)
    )
    return {row[0]: row[1] for row in await session.execute(chosen)}


async def concerned(session: AsyncSession, made: Decision) -> list[str]:
    """The studies whose own patient is the one of the decision, or was merged into it.

    Whoever they are shown under: they lie under one of these patients or under the end of a chain.
    """
    owner_id = made.owner_id
    source, target = (PatientKey(*made.detail[name]) for name in ("patient", "into"))
    below = await merged_below(session, owner_id, source)
    ends = {(await end_of(session, owner_id, one)).key for one in (source, target)}
    found = []
    for key in sorted(below | ends):
        chosen = (
            select(study.c.study_instance_uid, study.c.attrs, study.c.first_attrs)
            .join(patient, patient.c.id == study.c.patient_fk)
            .where(
                patient.c.owner_id == owner_id,
                patient.c.patient_id == key.patient_id,
                patient.c.issuer == key.issuer,
            )
        )
        for uid, attrs, first_attrs in (await session.execute(chosen)).all():
            overlay = await rows.overlay_of(session, owner_id, uid) if first_attrs else None
            own = json.loads(first_attrs or attrs)
            if overlay is not None:
                own |= overlay.changes("", "")
            if key_in(own) in below:
                found.append(uid)
    return sorted(found)
