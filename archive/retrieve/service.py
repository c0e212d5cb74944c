"""Reading back: instances, frames and metadata, as they were received or as decisions correct them.

Metadata objects describe the bytes as they are stored; corrections are put in while reading. Every
look-up takes a `Scope`; what lies outside it is not found. An instance that moved while it
was being read (its segment settled and went) is resolved once more. What is not settled yet and
lies in the journal of another node is read from there.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from archive.nodes.peers import Peers, unreachable
from archive.retrieve import statements as sql
from archive.retrieve.corrected import Corrections, corrected_stream
from archive.retrieve.domain import FrameLayout, SeriesMetadata, StoredInstance, check_named
from archive.settle.metadata import InstanceMetadata, describe, split_metadata, unpack_metadata
from archive.store.service import JOURNAL, Stores, open_stores
from dataset.mask import mask_dataset
from dataset.refs import InstanceRef, SeriesRef, StudyRef
from kernel.db.database import Database
from kernel.db.statement import Statement
from kernel.errors import NotFound, Unavailable
from kernel.scope import Actor, Scope
from kernel.settings import Settings


class Reader:
    """Serves what is stored. One per process."""

    def __init__(self, database: Database, stores: Stores, peers: Peers | None = None) -> None:
        self._database = database
        self._stores = stores
        self._peers = peers
        self._statements: dict[tuple[str, sql.Bound], Statement] = {}
        self._places: dict[int, tuple[str, str, str]] = {}
        self._corrections = Corrections(database)

    @classmethod
    async def open(cls, settings: Settings, database: Database) -> Reader:
        """A reader of the stores that `settings` name."""
        stores = await asyncio.to_thread(open_stores, settings)
        return cls(database, stores, Peers(settings, database))

    async def close(self) -> None:
        """Nothing is held open between two reads."""

    async def find(
        self, scope: Scope, ref: StudyRef | SeriesRef | InstanceRef
    ) -> list[StoredInstance]:
        """The instances that `ref` names, in series and instance order.

        Raises `NotFound` (``study.not_found``, ``series.not_found``, ``instance.not_found``) where
        there is none within the scope.
        """
        if isinstance(ref, InstanceRef):
            series = ref.series
            found = await self._rows(
                "by_instance",
                scope,
                study=series.study.study_instance_uid,
                series=series.series_instance_uid,
                instance=ref.sop_instance_uid,
            )
            missing = NotFound("instance.not_found", "there is no such instance")
        elif isinstance(ref, SeriesRef):
            found = await self._rows(
                "by_series",
                scope,
                study=ref.study.study_instance_uid,
                series=ref.series_instance_uid,
            )
            missing = NotFound("series.not_found", "there is no such series")
        else:
            found = await self._rows("by_study", scope, study=ref.study_instance_uid)
            missing = NotFound("study.not_found", "there is no such study")
        if not found:
            raise missing
        return found

    async def find_any(
        self,
        scope: Scope,
        *,
        patient_id: str | None = None,
        study_uids: Sequence[str] = (),
        series_uids: Sequence[str] = (),
        sop_uids: Sequence[str] = (),
    ) -> list[StoredInstance]:
        """The instances that a C-MOVE or C-GET identifier names (PS3.4 C.4.2.1.4).

        The deepest list given decides; those above it narrow. An empty answer is no error.
        """
        if sop_uids:
            found = [
                one
                for uid in dict.fromkeys(sop_uids)
                for one in await self._rows("by_sop_uid", scope, instance=uid)
            ]
        elif series_uids:
            found = [
                one
                for uid in dict.fromkeys(series_uids)
                for one in await self._rows("by_series_uid", scope, series=uid)
            ]
        elif study_uids:
            found = [
                one
                for uid in dict.fromkeys(study_uids)
                for one in await self._rows("by_study", scope, study=uid)
            ]
        elif patient_id:
            return await self._rows("by_patient", scope, patient_id=patient_id)
        else:
            return []
        if study_uids:
            found = [one for one in found if one.study_instance_uid in study_uids]
        if sop_uids and series_uids:
            found = [one for one in found if one.series_instance_uid in series_uids]
        return found

    async def read(
        self, instance: StoredInstance, start: int = 0, length: int | None = None
    ) -> bytes:
        """`length` bytes from `start` of the instance's stored Part 10 file, or all the rest.

        Raises `Unavailable` where a store, or the node that has them, does not answer.
        """
        wanted = instance.byte_length - start if length is None else length
        if start < 0 or wanted < 0 or start + wanted > instance.byte_length:
            raise NotFound("instance.range", "the instance has {n} bytes", n=instance.byte_length)
        try:
            return await self._read_at(instance.pack_id, instance.byte_offset + start, wanted)
        except (NotFound, Unavailable) as failure:
            pack_id, offset = await self._place_now(instance, failure)
            return await self._read_at(pack_id, offset + start, wanted)

    async def stored(
        self, instance: StoredInstance, chunk_bytes: int = 1 << 20
    ) -> AsyncIterator[bytes]:
        """The instance's Part 10 file as it is stored, in pieces of at most `chunk_bytes`."""
        for start in range(0, instance.byte_length, chunk_bytes):
            yield await self.read(instance, start, min(chunk_bytes, instance.byte_length - start))

    async def stream(
        self, instance: StoredInstance, chunk_bytes: int = 1 << 20
    ) -> AsyncIterator[bytes]:
        """The instance's Part 10 file as it goes out, in pieces.

        Where it is `corrected`, the corrected elements are put in on the way; the first piece holds
        the file meta information whole. Raises `Invalid('dataset.unreadable')` where the elements
        before the pixel data cannot be read, `Denied('study.masked')` for what is masked.
        """
        check_named([instance])
        pieces = self.stored(instance, chunk_bytes)
        if instance.corrected:
            pieces = corrected_stream(pieces, instance, await self._corrections.of(instance))
        async for piece in pieces:
            yield piece

    async def content(self, instance: StoredInstance) -> bytes:
        """All of what `stream` gives."""
        check_named([instance])
        if not instance.corrected:
            return await self.read(instance)
        return b"".join([piece async for piece in self.stream(instance)])

    async def correct(self, instance: StoredInstance, dataset: Mapping[str, Any]) -> dict[str, Any]:
        """DICOM JSON of what is stored of an instance, corrected."""
        if not instance.corrected:
            return dict(dataset)
        return (await self._corrections.of(instance)).of_json(dataset)

    async def series_metadata(
        self, scope: Scope, ref: SeriesRef, *, original: bool = False
    ) -> SeriesMetadata:
        """The metadata of a series: one object read once it is settled and nothing was decided.

        `original` is without corrections.
        """
        where = {
            "study": ref.study.study_instance_uid,
            "series": ref.series_instance_uid,
        }
        rows = await self._fetch("series_state", scope, where)
        if not rows:
            raise NotFound("series.not_found", "there is no such series")
        series_id, metadata_pack_id, unsettled, version, overlay, last_ms, live = rows[0][:7]
        corrected, decided = rows[0][7:9]
        hidden = any(scope.hides(row[9], row[10]) for row in rows)
        plain = not decided and not hidden and (original or not corrected)
        whole = not unsettled and metadata_pack_id is not None and live is not None
        shown = "original" if original else overlay
        if len(rows) == 1 and whole and plain:
            raw = await self._read_whole(metadata_pack_id)
            packed, _ = split_metadata(raw)
            return SeriesMetadata(
                packed,
                lambda: json.loads(gzip.decompress(packed)),
                f"{series_id}-{version}-{shown}",
            )
        instances = await self.find(scope, ref)
        described = await self._describe_all(instances, rows)
        datasets = [
            one.dataset if original else await self.correct(instance, one.dataset)
            for instance, one in zip(instances, described, strict=True)
        ]
        if hidden:
            datasets = [mask_dataset(one) for one in datasets]
            shown = f"{shown}-masked"
        etag = f"{series_id}-{version}-{shown}-{overlay}-{last_ms}-{len(described)}"
        return SeriesMetadata(None, lambda: datasets, etag)

    async def instance_metadata(
        self, scope: Scope, ref: InstanceRef, *, original: bool = False
    ) -> dict[str, Any]:
        """The DICOM JSON of one instance; `original` is without corrections."""
        (instance, *_) = await self.find(scope, ref)
        dataset = (await self._described(instance)).dataset
        shown = dataset if original else await self.correct(instance, dataset)
        return mask_dataset(shown) if instance.masked else shown

    async def frame_table(self, instance: StoredInstance) -> FrameLayout:
        """Where the frames of `instance` lie.

        Raises `NotFound('frames.none')` for an instance without pixel data.
        """
        described = await self._described(instance)
        if described.frames is None:
            raise NotFound("frames.none", "the instance has no frames")
        return FrameLayout(described.frames)

    async def _described(self, instance: StoredInstance) -> InstanceMetadata:
        if instance.version_id is not None:  # metadata objects describe the first version
            return await self._describe(instance)
        scope = _owners_of(instance)
        where = {
            "study": instance.study_instance_uid,
            "series": instance.series_instance_uid,
        }
        rows = await self._fetch("series_state", scope, where)
        for known in await self._settled(rows):
            if known.sop_instance_uid == instance.sop_instance_uid:
                return known
        return await self._describe(instance)

    async def _describe_all(
        self, instances: Sequence[StoredInstance], rows: Sequence[tuple[Any, ...]]
    ) -> list[InstanceMetadata]:
        known = {one.sop_instance_uid: one for one in await self._settled(rows)}
        return [
            (known.get(one.sop_instance_uid) if one.version_id is None else None)
            or await self._describe(one)
            for one in instances
        ]

    async def _settled(self, rows: Sequence[tuple[Any, ...]]) -> list[InstanceMetadata]:
        """What the metadata object of a series says, where there is just one such series."""
        if len(rows) != 1 or rows[0][1] is None or rows[0][6] is None:
            return []
        try:
            raw = await self._read_whole(rows[0][1])
        except NotFound:
            return []
        return await asyncio.to_thread(unpack_metadata, raw)

    async def _describe(self, instance: StoredInstance) -> InstanceMetadata:
        part10 = await self.read(instance)
        return await asyncio.to_thread(
            describe,
            part10,
            instance.study_instance_uid,
            instance.series_instance_uid,
            instance.sop_instance_uid,
        )

    async def _read_whole(self, pack_id: int) -> bytes:
        store, key, _ = await self._place(pack_id)
        return await asyncio.to_thread(self._stores.named(store).read, key)

    async def _read_at(self, pack_id: int, start: int, length: int) -> bytes:
        store, key, holder = await self._place(pack_id)
        try:
            return await asyncio.to_thread(self._stores.named(store).read, key, start, length)
        except NotFound:
            self._places.pop(pack_id, None)
            if store != JOURNAL or holder == self._stores.node:
                raise
        if self._peers is None:
            raise unreachable(holder)
        data = await self._peers.read(holder, pack_id, start, length)
        self._places[pack_id] = (store, key, holder)
        return data

    async def _place(self, pack_id: int) -> tuple[str, str, str]:
        """Store, key and node of a pack; they hardly ever change, so they are remembered."""
        found = self._places.get(pack_id)
        if found is None:
            rows = await self._database.fetch(sql.PLACE, {"pack_id": pack_id})
            if not rows:
                raise NotFound("pack.not_found", "the pack is gone")
            found = (rows[0][0], rows[0][1], rows[0][2])
            while len(self._places) >= 10_000:
                del self._places[next(iter(self._places))]
            self._places[pack_id] = found
        return found

    async def _place_now(
        self, instance: StoredInstance, failure: NotFound | Unavailable
    ) -> tuple[int, int]:
        """Pack and offset where the instance lies by now; without a new place the failure stays."""
        rows = await self._database.fetch(sql.PLACE_NOW, {"id": instance.id}, _owners_of(instance))
        if not rows:
            raise NotFound("instance.not_found", "there is no such instance")
        pack_id, offset, _ = rows[0]
        if (pack_id, offset) == (instance.pack_id, instance.byte_offset):
            if isinstance(failure, Unavailable):
                raise failure
            raise Unavailable("objects.missing", "the stored bytes cannot be read")
        return pack_id, offset

    async def _rows(self, name: str, scope: Scope, **where: str) -> list[StoredInstance]:
        found = [StoredInstance(*row) for row in await self._fetch(name, scope, where)]
        if scope.sight is None:
            return found
        return [
            replace(one, masked=True) if scope.hides(one.owner_id, one.sensitivity) else one
            for one in found
        ]

    async def _fetch(
        self, name: str, scope: Scope, where: Mapping[str, str]
    ) -> list[tuple[Any, ...]]:
        bound = sql.bound_of(scope)
        statement = self._statements.get((name, bound))
        if statement is None:
            statement = getattr(sql, name)(bound)
            self._statements[name, bound] = statement
        params: dict[str, Any] = dict(where)
        if scope.owners is not None:
            params["owners"] = sorted(scope.owners)
        return await self._database.fetch(statement, params, scope)


def _owners_of(instance: StoredInstance) -> Scope:
    """The scope of a look-up about an instance that was found: its owner."""
    return Scope(frozenset({instance.owner_id}), Actor("system", "reader"), "retrieve")
