"""Settling: what a series at rest has in the journal becomes a pack and one metadata object.

The order keeps every promise: a `pack` row in state writing with a lease, the bytes durable in the
object store, then one transaction that switches the places. A reader sees an instance at its old
place or at its new one; both are good until the segment's time has passed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence

import structlog
from sqlalchemy import exists, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from archive.index.tables import instance, instance_version, pack, pack_copy, series, study
from archive.journal.clock import now_ms
from archive.journal.pressure import Pressure
from archive.nodes.rows import lies
from archive.settle import rows
from archive.settle.build import Built, Source, build_pack, write_metadata
from archive.settle.metadata import InstanceMetadata, MetadataHead
from archive.settle.pack import EntryKind, Manifest, ManifestEntry, read_manifest
from archive.settle.quarantine import settle_quarantine
from archive.settle.rows import SeriesToSettle
from archive.store.service import Stores, new_key, open_stores
from kernel.db.database import Database
from kernel.errors import AppError, Unavailable
from kernel.events.service import emit
from kernel.scope import Scope
from kernel.settings import ArchiveSettings, Settings

SERIES_SETTLED = "series.settled.v1"
STUDY_SETTLED = "study.settled.v1"
STUDY_AMENDED = "study.amended.v1"

PACK_FILES = 4000  # instances in one pack at most
MOST_PACKS = 8  # of one series before they are merged
DEAD_SHARE = 0.2
SWITCH_ROWS = 200  # in one transaction: a sender never waits longer than that takes
RENEWALS = 5  # of metadata in a row, where the series keeps changing
_SERIES_AT_ONCE = 20
_POLL_S = 0.5
_QUARANTINE_POLL_S = 30.0

_log = structlog.get_logger(__name__)
_SCOPE = Scope.system("settle")


class Settler:
    """Settles what of series came to this node, as they come to rest, and completes studies."""

    def __init__(self, settings: Settings, database: Database, stores: Stores | None = None):
        self._limits: ArchiveSettings = settings.archive
        self._database = database
        self._stores = stores or open_stores(settings)
        self._node = self._stores.node
        self._pressure = Pressure(settings)
        self._blocked: dict[int, float] = {}  # series id → not before (monotonic)
        self._quarantine_at = 0.0  # not before (monotonic)
        self._damaged: set[int] = set()  # quarantine row ids

    async def run(self) -> None:
        """Work until cancelled; an outage of a store is waited out."""
        while True:
            try:
                worked = await self.settle_due(everything=self._pressure.high)
                worked += await self.complete_studies()
                worked += await self._settle_quarantine()
            except AppError as error:
                _log.warning("settle_waits", code=error.code, why=str(error))
                worked = 0
            if not worked:
                await asyncio.sleep(_POLL_S)

    async def _settle_quarantine(self) -> int:
        if time.monotonic() < self._quarantine_at:
            return 0
        moved = await settle_quarantine(self._database, self._stores, self._damaged)
        if not moved:
            self._quarantine_at = time.monotonic() + _QUARANTINE_POLL_S
        return moved

    async def settle_due(self, *, everything: bool = False) -> int:
        """Settle the series that are due now (all with `everything`); returns how many were."""
        now = now_ms() + (1 if everything else 0)
        quiet = 0 if everything else int(self._limits.settle_quiet_s * 1000)
        latest = 0 if everything else int(self._limits.settle_latest_s * 1000)
        async with self._database.session(_SCOPE) as session:
            ids = await rows.due(session, self._node, now - quiet, now - latest, _SERIES_AT_ONCE)
            ids += await _with_versions(session, self._node, _SERIES_AT_ONCE)
        done = 0
        for series_id in dict.fromkeys(ids):
            if self._blocked.get(series_id, 0.0) <= time.monotonic():
                done += await self._settle_safely(series_id)
        return done

    async def _settle_safely(self, series_id: int) -> int:
        """Settle one series; what goes wrong with it does not keep the others waiting."""
        try:
            await self.settle_series(series_id)
        except Unavailable:
            raise
        except AppError as error:
            _log.error("settle_failed", series_id=series_id, code=error.code, why=str(error))
            self._blocked[series_id] = time.monotonic() + 300
            return 0
        return 1

    async def settle_series(self, series_id: int) -> None:
        """Move what a series has in the journal into packs, merge packs where there are many."""
        while True:
            async with self._database.session(_SCOPE) as session:
                found = await rows.load_series(session, series_id)
                if found is None:
                    return
                sources = await rows.journal_sources(session, found, PACK_FILES, self._node)
            if not sources:
                break
            damaged = await self._write(found, sources)
            if damaged:
                self._blocked[series_id] = time.monotonic() + 3600
                return
        if found.unsettled and not await self._out_of_reach(found):
            await self._renew_metadata(found, [])  # a settling broke off after its last switch
        await self._merge(series_id)

    async def _out_of_reach(self, found: SeriesToSettle) -> bool:
        """Whether a series waits for another node's share, or for bytes without a good copy now.

        The latter is tried again later; the former is that node's work.
        """
        async with self._database.session(_SCOPE) as session:
            everywhere, here = await rows.waiting_here(session, found.id, self._node)
        if here:
            self._blocked[found.id] = time.monotonic() + 300
        return everywhere > 0

    async def refresh_metadata(self, series_id: int) -> None:
        """Write the metadata object of a series anew, and packs that are mostly dead again."""
        async with self._database.session(_SCOPE) as session:
            found = await rows.load_series(session, series_id)
        if found is not None:
            await self._renew_metadata(found, [])
            await self._merge(series_id)

    async def move_out(
        self, series_id: int, pack_id: int, intact: Collection[tuple[EntryKind, int]]
    ) -> int:
        """Copy files of a series out of a damaged pack; returns how many.

        `intact` names them by kind and row id.
        """
        async with self._database.session(_SCOPE) as session:
            found = await rows.load_series(session, series_id)
            if found is None:
                return 0
            most = PACK_FILES * MOST_PACKS
            listed = await rows.sources(session, found, most, ("pack",), self._node)
        sources = [
            one for one in listed if one.pack_id == pack_id and (one.kind, one.row_id) in intact
        ]
        if not sources:
            return 0
        await asyncio.to_thread(self._attach_entries, sources)
        return len(sources) - await self._write(found, sources)

    async def complete_studies(self) -> int:
        """Say of studies that came to rest that they are settled."""
        before = now_ms() - int(self._limits.study_quiet_s * 1000)
        waiting = exists().where(series.c.study_fk == study.c.id, series.c.unsettled > 0)
        chosen = (
            select(study.c.id, study.c.owner_id, study.c.study_instance_uid, study.c.settlements)
            .where(study.c.settled_ms == 0, study.c.last_received_ms < before, ~waiting)
            .limit(SWITCH_ROWS)
        )
        async with self._database.session(_SCOPE) as session:
            found = (await session.execute(chosen)).all()
        if not found:
            return 0
        async with self._database.session(_SCOPE, write=True) as session:
            for study_id, owner_id, uid, settlements in found:
                result = await session.execute(
                    update(study)
                    .where(
                        study.c.id == study_id,
                        study.c.settled_ms == 0,
                        study.c.last_received_ms < before,
                    )
                    .values(settled_ms=now_ms(), settlements=study.c.settlements + 1)
                )
                if result.rowcount:  # type: ignore[attr-defined]
                    topic = STUDY_AMENDED if settlements else STUDY_SETTLED
                    payload = {"study_instance_uid": uid}
                    await emit(session, topic, payload, owner_id=owner_id, key=uid)
        return len(found)

    async def _write(self, found: SeriesToSettle, sources: Sequence[Source]) -> int:
        """Make a pack of `sources` and switch to it; returns how many were damaged."""
        key = new_key("packs", ".dcmpack")
        created = now_ms()
        place = (self._stores.objects.name, key)
        async with self._database.session(_SCOPE, write=True) as session:
            pack_id = await rows.begin_pack(
                session, "pack", found.owner_id, found.id, place, created
            )
        built = await asyncio.to_thread(
            build_pack, self._stores, key, found.owner_id, created, sources
        )
        for source, why in built.damaged:
            _log.error("stored_bytes_damaged", instance_id=source.row_id, why=why)
        await self._switch(found, pack_id, built)
        return len(built.damaged)

    async def _switch(self, found: SeriesToSettle, pack_id: int, built: Built) -> None:
        """Point the rows at the pack, a few at a time, then renew the metadata object."""
        async with self._database.session(_SCOPE, write=True) as session:
            await rows.finish_pack(session, pack_id, built.size, built.sha256)
        old = {source.pack_id for source, _ in built.placed}
        for at in range(0, len(built.placed), SWITCH_ROWS):
            part = built.placed[at : at + SWITCH_ROWS]
            async with self._database.session(_SCOPE, write=True) as session:
                await rows.lock(session, found.id)
                await rows.switch(session, part, pack_id)
        await self._renew_metadata(found, built.metadata)
        await self._retire_packs(old | {pack_id})

    async def _renew_metadata(
        self, found: SeriesToSettle, fresh: Sequence[InstanceMetadata]
    ) -> None:
        """Write the metadata object of a series; once more where the series changed meanwhile."""
        current: SeriesToSettle | None = found
        for _ in range(RENEWALS):
            if current is None or await self._renewed(current, fresh):
                return
            async with self._database.session(_SCOPE) as session:
                current = await rows.load_series(session, found.id)
        _log.warning("metadata_waits", series_id=found.id)

    async def _renewed(self, found: SeriesToSettle, fresh: Sequence[InstanceMetadata]) -> bool:
        key = new_key("metadata", ".dcmmeta")
        created = now_ms()
        place = (self._stores.objects.name, key)
        async with self._database.session(_SCOPE) as session:
            old = await rows.latest_metadata(session, found.id)
            settled = await rows.settled_instances(session, found)
        async with self._database.session(_SCOPE, write=True) as session:
            pack_id = await rows.begin_pack(
                session, "metadata", found.owner_id, found.id, place, created
            )
        uids = (found.study_instance_uid, found.series_instance_uid)
        head = MetadataHead(found.owner_id, *uids, created)
        size, sha256 = await asyncio.to_thread(
            write_metadata, self._stores, key, head, old, fresh, settled
        )
        async with self._database.session(_SCOPE, write=True) as session:
            await rows.finish_pack(session, pack_id, size, sha256)
            if not await rows.take_metadata(session, found, pack_id, len(settled)):
                await rows.kill_pack(session, pack_id, now_ms())
                return False
            if found.metadata_pack_id is not None:
                await rows.kill_pack(session, found.metadata_pack_id, now_ms())
            payload = dict(zip(("study_instance_uid", "series_instance_uid"), uids, strict=True))
            await emit(session, SERIES_SETTLED, payload, owner_id=found.owner_id, key=uids[1])
        return True

    async def _retire_packs(self, pack_ids: set[int]) -> None:
        """Packs that nobody points at any more are on their way out; segments go by the sweep."""
        async with self._database.session(_SCOPE, write=True) as session:
            for pack_id in sorted(pack_ids):
                await session.execute(
                    update(pack)
                    .where(
                        pack.c.id == pack_id,
                        pack.c.kind == "pack",
                        ~exists().where(instance.c.pack_id == pack.c.id),
                        ~exists().where(instance_version.c.pack_id == pack.c.id),
                    )
                    .values(state="dying", dying_ms=now_ms())
                )

    async def _merge(self, series_id: int) -> None:
        """Rewrite the packs of a series where they are many or hold much that nobody points at."""
        async with self._database.session(_SCOPE) as session:
            found = await rows.load_series(session, series_id)
            packs = await rows.live_packs(session, series_id)
            total = sum(size for _, size, _ in packs)
            dead = total - sum(used for _, _, used in packs)
            if found is None or (len(packs) <= MOST_PACKS and dead <= DEAD_SHARE * total):
                return
            sources = await rows.sources(session, found, PACK_FILES, ("pack",), self._node)
        if not sources or (len(packs) == 1 and dead < 1 << 20):
            return
        await asyncio.to_thread(self._attach_entries, sources)
        await self._write(found, sources)

    def _attach_entries(self, sources: Sequence[Source]) -> None:
        """Give each source the manifest entry of the pack that it lies in."""
        entries: dict[str, dict[int, ManifestEntry]] = {}
        for source in sources:
            if source.key not in entries:
                manifest = manifest_of(self._stores, source.store, source.key)
                entries[source.key] = {entry.offset: entry for entry in manifest.entries}
            source.entry = entries[source.key].get(source.byte_offset)


def manifest_of(stores: Stores, store_name: str, key: str) -> Manifest:
    """The manifest of the pack object `key`."""
    store = stores.named(store_name)
    return read_manifest(store.size(key), lambda start, length: store.read(key, start, length))


async def _with_versions(session: AsyncSession, node: str, limit: int) -> list[int]:
    """Series that have compared versions in the journal of `node`."""
    chosen = (
        select(instance.c.series_fk)
        .distinct()
        .join(instance_version, instance_version.c.instance_fk == instance.c.id)
        .join(pack_copy, pack_copy.c.pack_id == instance_version.c.pack_id)
        .where(instance_version.c.compared_ms > 0, pack_copy.c.state == "good", lies(node))
        .limit(limit)
    )
    return list((await session.scalars(chosen)).all())
