"""Corrections on the way out: a stored file with other elements, spliced while it streams."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select

from archive.decisions import rows
from archive.decisions.domain import PatientKey
from archive.decisions.merges import Merged, end_of, key_in
from archive.decisions.overlay import Overlay
from archive.index.tables import study
from archive.retrieve.domain import StoredInstance
from dataset.correction import HeadReader, Stamp, corrected, edits, recoding
from dataset.elements import plain
from dataset.part10 import Head, parse_head
from dataset.splice import Splicer, splice
from dataset.syntax import is_deflated
from kernel.db.database import Database
from kernel.errors import Invalid

MODIFYING_SYSTEM = "YUNYING"
_REMEMBERED = 500

Edits = dict[int, bytes | None]


@dataclass(frozen=True, slots=True)
class Correction:
    """The changed attributes of one instance, and what Original Attributes say of them."""

    changes: Mapping[str, Any]
    stamp: Stamp

    def of_json(self, dataset: Mapping[str, Any]) -> dict[str, Any]:
        """A data set in DICOM JSON, corrected."""
        return corrected(dataset, self.changes, self.stamp)


class Corrections:
    """Knows what decisions correct; a study is looked up once for each overlay version."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: OrderedDict[tuple[int, str, int], tuple[Overlay, Merged]] = OrderedDict()

    async def of(self, instance: StoredInstance) -> Correction:
        """How an instance is corrected."""
        overlay, merged = await self._study(instance)
        changes = overlay.changes(instance.series_instance_uid, instance.sop_instance_uid)
        at = max(overlay.corrected_ms, merged.decided_ms) / 1000
        words = datetime.fromtimestamp(at, UTC).strftime("%Y%m%d%H%M%S.%f+0000")
        return Correction({**changes, **merged.attributes}, Stamp(words, MODIFYING_SYSTEM))

    async def _study(self, instance: StoredInstance) -> tuple[Overlay, Merged]:
        key = (instance.owner_id, instance.study_instance_uid, instance.overlay_version)
        if key not in self._known:
            self._known[key] = await self._load(*key[:2])
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return self._known[key]

    async def _load(self, owner_id: int, study_uid: str) -> tuple[Overlay, Merged]:
        async with self._database.session(rows.owner_scope(owner_id, "correct")) as session:
            overlay = await rows.overlay_of(session, owner_id, study_uid)
            attrs = await session.scalar(
                select(func.coalesce(study.c.first_attrs, study.c.attrs)).where(
                    study.c.owner_id == owner_id, study.c.study_instance_uid == study_uid
                )
            )
            own = key_in({**rows.loads(attrs or "{}"), **overlay.changes("", "")})
            merged = await end_of(session, owner_id, own) if attrs else Merged(PatientKey(""), {})
        return overlay, merged


async def corrected_stream(
    stored: AsyncIterator[bytes], instance: StoredInstance, correction: Correction
) -> AsyncIterator[bytes]:
    """A stored Part 10 file with the corrected elements in their places.

    The head is held back until what is corrected has been read; the pixel data pass through. Only
    where the character set has to change the file is held whole.
    """
    head, held = await _head(stored)
    yield held[: head.dataset_offset]
    syntax, held = instance.transfer_syntax_uid, held[head.dataset_offset :]
    if is_deflated(syntax):
        whole = held + b"".join([piece async for piece in stored])
        yield await asyncio.to_thread(_deflated, whole, syntax, correction)
        return
    reader = HeadReader(syntax, correction.changes)
    complete = reader.feed(held)
    while not complete and (following := await anext(stored, None)) is not None:
        complete = reader.feed(following)
    wanted = _edits(reader, syntax, correction)
    if wanted is None:
        reader.data += b"".join([piece async for piece in stored])
        wanted = await asyncio.to_thread(
            recoding, reader.data, syntax, correction.changes, correction.stamp
        )
    async for piece in _spliced(Splicer(syntax, wanted), bytes(reader.data), stored):
        yield piece


async def _head(stored: AsyncIterator[bytes]) -> tuple[Head, bytes]:
    """The head of a file, and the first bytes of the file, which hold it whole."""
    held = b""
    async for piece in stored:
        held += piece
        head = parse_head(held)
        if head is not None:
            return head, held
    head = parse_head(held, final=True)
    if head is None:
        raise Invalid("part10.not_dicom", "the stored file is too short to be one")
    return head, held


async def _spliced(
    splicer: Splicer, first: bytes, rest: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    for part in filter(None, splicer.feed(first)):
        yield part
    async for piece in rest:
        for part in filter(None, splicer.feed(piece)):
            yield part
    for part in filter(None, splicer.finish()):
        yield part


def _edits(reader: HeadReader, syntax: str, correction: Correction) -> Edits | None:
    """The edits of a head; None where the character set has to change."""
    try:
        return edits(reader.elements(), syntax, correction.changes, correction.stamp)
    except Invalid as error:
        if error.code != "charset.not_encodable":
            raise
        return None


def _deflated(body: bytes, syntax: str, correction: Correction) -> bytes:
    inflated = plain(body, syntax)
    reader = HeadReader(syntax, correction.changes)
    reader.feed(inflated)
    wanted = _edits(reader, syntax, correction)
    if wanted is None:
        wanted = recoding(inflated, syntax, correction.changes, correction.stamp)
    return b"".join(splice([body], syntax, wanted))
