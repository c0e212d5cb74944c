"""Which patient of an owner answers under which other one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from archive.decisions.domain import MERGE, UNMERGE, Decision, PatientKey
from archive.decisions.rows import dumps
from archive.index.tables import merged_patient


class Merged(NamedTuple):
    """The patient that another one answers under, what their studies say then, and since when."""

    key: PatientKey
    attributes: dict[str, Any]
    decided_ms: int = 0


def key_in(attributes: dict[str, Any]) -> PatientKey:
    """The patient that DICOM JSON names."""
    values = [
        (attributes.get(tag, {}).get("Value") or [""])[0] or "" for tag in ("00100020", "00100021")
    ]
    return PatientKey(str(values[0]), str(values[1]))


async def merged_into(session: AsyncSession, owner_id: int, key: PatientKey) -> Merged | None:
    """The patient that `key` was merged into itself, and what its studies say then."""
    chosen = select(
        merged_patient.c.into_patient_id,
        merged_patient.c.into_issuer,
        merged_patient.c.attrs,
        merged_patient.c.decided_ms,
    ).where(
        merged_patient.c.owner_id == owner_id,
        merged_patient.c.patient_id == key.patient_id,
        merged_patient.c.issuer == key.issuer,
    )
    row = (await session.execute(chosen)).first()
    if row is None:
        return None
    return Merged(PatientKey(row[0], row[1]), json.loads(row[2]), row[3])


async def end_of(session: AsyncSession, owner_id: int, key: PatientKey) -> Merged:
    """Who `key` answers under in the end: itself, or the last patient of a chain of merges."""
    found = Merged(key, {})
    while found.key.patient_id:
        following = await merged_into(session, owner_id, found.key)
        if following is None:
            break
        found = following
    return found


async def merged_below(session: AsyncSession, owner_id: int, key: PatientKey) -> set[PatientKey]:
    """`key`, and every patient that was merged into it, directly or not."""
    found, new = {key}, [key]
    while new:
        one = new.pop()
        chosen = select(merged_patient.c.patient_id, merged_patient.c.issuer).where(
            merged_patient.c.owner_id == owner_id,
            merged_patient.c.into_patient_id == one.patient_id,
            merged_patient.c.into_issuer == one.issuer,
        )
        rows = [PatientKey(*row) for row in await session.execute(chosen)]
        new += [row for row in rows if row not in found]
        found.update(rows)
    return found


async def set_merges(session: AsyncSession, decisions: Iterable[Decision]) -> None:
    """Carry merges and their ends, in the order of deciding, over into the table."""
    for made in decisions:
        if made.kind not in (MERGE, UNMERGE):
            continue
        patient, into = PatientKey(*made.detail["patient"]), PatientKey(*made.detail["into"])
        key = {
            "owner_id": made.owner_id,
            "patient_id": patient.patient_id,
            "issuer": patient.issuer,
        }
        await session.execute(delete(merged_patient).where(*_is(key)))
        if made.kind == MERGE:
            row = {
                **key,
                "into_patient_id": into.patient_id,
                "into_issuer": into.issuer,
                "attrs": dumps(made.detail["attributes"]),
                "decided_ms": made.decided_ms,
            }
            await session.execute(insert(merged_patient).values(row))


def _is(key: dict[str, Any]) -> list[Any]:
    return [merged_patient.c[name] == value for name, value in key.items()]
