"""The rebuild: the index is made again from packs, metadata objects, decision log and journal.

On an empty, migrated database it brings everything back; on any other it adds what is missing.
Packs are read whole once and verified; their entries are fed to the committer in the order in
which they were received, so that first values, versions and contradictions come out as they did
then. Nothing in a store is changed or deleted, and the archive may serve meanwhile.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import structlog

from archive.decisions.domain import Decision
from archive.decisions.renewal import renew
from archive.decisions.shared_series import renew_shared
from archive.index.commit import open_committer
from archive.index.deletions import Deletions, load_deletions
from archive.journal.clock import now_ms
from archive.journal.node import node_id
from archive.rebuild import rows
from archive.rebuild.decided import overlays_after, restore_decisions, restore_overlays
from archive.rebuild.domain import RebuildReport
from archive.rebuild.feeding import BATCH, Feeder
from archive.rebuild.ledger import Ledger
from archive.rebuild.owners import ensure_owners
from archive.rebuild.segments import note_records, numbered, take_segments
from archive.receive.taken import TakenSegment
from archive.scrub.check import CheckedPack, check_metadata, check_pack, cut_short
from archive.scrub.domain import DamagedFile
from archive.settle.pack import ManifestEntry
from archive.settle.service import Settler
from archive.store.service import JOURNAL, Stores, open_stores
from kernel.db.database import Database
from kernel.errors import AppError, Invalid, NotFound, Unavailable
from kernel.scope import Scope
from kernel.settings import Settings

T = TypeVar("T")
Progress = Callable[[int, int, str], None]

_AT_ONCE = 200
_SCOPE = Scope.system("rebuild")
_log = structlog.get_logger(__name__)


async def rebuild_index(
    settings: Settings, database: Database, progress: Progress
) -> RebuildReport:
    """Add to the index what the stores hold and it lacks; `progress(done, total, note)` hears.

    Raises `Unavailable` where a store fails, and ``rebuild.running`` while another one is at work
    on this data folder. A rebuild that broke off is completed by the next one.
    """
    with _alone(settings.data) as mark:
        stores = await asyncio.to_thread(open_stores, settings)
        ledger = await asyncio.to_thread(Ledger, settings.data / "rebuild.sqlite")
        try:
            work = _Rebuild(settings, database, stores, ledger, progress)
            before = await work.newest_study(mark.read())
            mark.write(before)
            await work.run(before)
            mark.clear()
        finally:
            await asyncio.to_thread(ledger.close)
    report = work.report
    _log.info(
        "index_rebuilt",
        packs=report.packs,
        instances=report.instances,
        damaged=len(report.damaged),
        objects=len(report.objects),
    )
    return report


class _Mark:
    """The lock of a rebuild; its file keeps the newest study that was there before it began.

    So a rebuild that takes over from one that broke off knows whose the rows are.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self) -> int | None:
        text = os.pread(self._fd, 32, 0)
        return int(text) if text.isdigit() else None

    def write(self, study_id: int) -> None:
        self.clear()
        os.pwrite(self._fd, str(study_id).encode(), 0)

    def clear(self) -> None:
        os.ftruncate(self._fd, 0)


@contextmanager
def _alone(folder: Path) -> Iterator[_Mark]:
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder / "rebuild.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise Unavailable("rebuild.running", "another rebuild is at work") from error
    try:
        yield _Mark(fd)
    finally:
        os.close(fd)


class _Rebuild:
    """One rebuild under way."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        stores: Stores,
        ledger: Ledger,
        progress: Progress,
    ) -> None:
        self.report = RebuildReport()
        self._settings = settings
        self._database = database
        self._stores = stores
        self._settler = Settler(settings, database, stores)
        self._ledger = ledger
        self._progress = progress
        self._node = node_id(settings)
        self._unfinished: dict[str, int] = {}

    async def newest_study(self, marked: int | None) -> int:
        """The row id above which studies are this rebuild's; `marked` by one that broke off."""
        async with self._database.session(_SCOPE) as session:
            newest = await rows.newest_study(session)
        return newest if marked is None else min(marked, newest)

    async def run(self, before: int) -> None:
        """Everything, in order."""
        restored = await restore_decisions(self._database, self._stores, self._settler, self.report)
        await self._list()
        deletions = await load_deletions(self._database)
        with ExitStack() as held:
            segments = await take_segments(self._settings, self._database, held)
            await self._note_packs(deletions)
            self.report.records = await asyncio.to_thread(
                note_records, self._ledger, segments, deletions
            )
            added = await self._feed(segments)
        await self._renew(before, added)
        await restore_overlays(self._database, self._stores, before, restored)
        await self._metadata(before, added)
        await self._finish(before, restored.every)

    async def _list(self) -> None:
        """List the store first: an object gets its row before it gets its key."""
        store = self._stores.objects
        for prefix in ("packs/", "metadata/"):
            await asyncio.to_thread(self._ledger.list_objects, store.keys(prefix))

    async def _strangers(self, prefix: str) -> list[str]:
        """The objects below `prefix` that the index does not know, or not to the end."""
        keys = await asyncio.to_thread(self._ledger.listed, prefix)
        found = []
        for at in range(0, len(keys), _AT_ONCE):
            part = keys[at : at + _AT_ONCE]
            async with self._database.session(_SCOPE) as session:
                known = await rows.known(session, self._stores.objects.name, part)
            for key in part:
                pack_id, unfinished = known.get(key, (0, False))
                if unfinished:
                    self._unfinished[key] = pack_id
                if unfinished or key not in known:
                    found.append(key)
        self.report.known += len(keys) - len(found)
        return found

    async def _note_packs(self, deletions: Deletions) -> None:
        keys = await self._strangers("packs/")
        for done, key in enumerate(keys, 1):
            checked = await self._check_pack(key)
            if checked is not None:
                await asyncio.to_thread(self._note, checked, deletions)
                self.report.packs += 1
            self._progress(done, len(keys), f"read {key}")

    async def _check_pack(self, key: str) -> CheckedPack | None:
        try:
            return await asyncio.to_thread(check_pack, self._stores.objects, key)
        except NotFound:
            return None  # the sweep was faster
        except Invalid as error:
            self.report.objects.append((key, str(error)))
        except Unavailable as error:
            if not cut_short(error):
                raise
            self.report.objects.append((key, str(error)))
        return None

    def _note(self, checked: CheckedPack, deletions: Deletions) -> None:
        """Note what is intact in a pack and was not deleted since."""
        owner_id = checked.manifest.owner_id
        wanted: list[ManifestEntry] = []
        if checked.bad:
            self.report.objects.append((checked.key, "a file does not fit its SHA-256"))
        for entry in checked.manifest.entries:
            uids = (
                entry.study_instance_uid,
                entry.series_instance_uid,
                entry.sop_instance_uid,
            )
            if entry.kind != "quarantine" and deletions.cover(owner_id, *uids, entry.received_ms):
                self.report.deleted += 1
            elif entry.offset in checked.bad:
                why = "the bytes do not fit their SHA-256"
                lost = DamagedFile(owner_id, entry.kind, *uids, checked.key, why)
                self.report.damaged.append(lost)
            else:
                wanted.append(entry)
        intact = [one for one in checked.manifest.entries if one.offset not in checked.bad]
        self._ledger.add_pack(checked, wanted, intact)

    async def _feed(self, segments: Sequence[TakenSegment]) -> set[tuple[int, str, str]]:
        """Index what was noted; gives the series that got instances."""
        total = await asyncio.to_thread(self._ledger.choose)
        notes = await asyncio.to_thread(self._ledger.packs)
        owners = {note.owner_id for note in notes}
        self.report.owners += await ensure_owners(self._database, owners)
        committer = open_committer(self._database, self._node)
        feeder = Feeder(self._database, self._stores.objects, committer, self._gone, self.report)
        try:
            pack_ids = await self._register("pack", notes)
            for note, pack_id in zip(notes, pack_ids, strict=True):
                feeder.add_pack(note, pack_id)
            for number, segment in numbered(segments):
                feeder.add_segment(number, segment)
            done = 0
            for batch in self._ledger.feed(BATCH):
                await feeder.feed(batch)
                done += len(batch)
                self._progress(done, total, "indexed")
            for segment in segments:
                await segment.conclude(self._database, self._node, committer)
        finally:
            feeder.close()
            await committer.close()
        for part in _parts(pack_ids):
            async with self._database.session(_SCOPE, write=True) as session:
                for pack_id in part:
                    await rows.conclude_pack(session, pack_id, now_ms())
        return feeder.series

    async def _register(self, kind: str, notes: Sequence[rows.Note]) -> list[int]:
        """Rows of objects; those that a rebuild made which broke off are taken up again."""
        store, ids = self._stores.objects.name, []
        for part in _parts(notes):
            async with self._database.session(_SCOPE, write=True) as session:
                for note in part:
                    known = self._unfinished.get(note.key)
                    if known is None:
                        known = await rows.register(session, kind, store, note, now_ms())
                    ids.append(known)
        return ids

    async def _renew(self, before: int, added: Collection[tuple[int, str, str]]) -> None:
        """First values and contradictions of studies that were there before and got more."""
        studies: list[tuple[int, str]] = []
        async with self._database.session(_SCOPE) as session:
            for part in _parts(sorted({one[:2] for one in added}) if before else []):
                studies += await rows.older_studies(session, part, before)
        for owner_id, uid in studies:
            detail = {"flagged": [uid]}
            made = Decision(owner_id, "", "", "", uid, "", "", detail, now_ms())
            await renew(self._database, self._stores, made)
        async with self._database.session(_SCOPE) as session:
            shared = await rows.shared_series(session)
        for owner_id, uid in shared:
            async with self._database.session(_SCOPE, write=True) as session:
                await renew_shared(session, owner_id, 0, [uid])

    async def _metadata(self, before: int, added: Collection[tuple[int, str, str]]) -> None:
        """Put metadata objects to use that fit what is there; write what is missing anew."""
        keys = await self._strangers("metadata/")
        for done, key in enumerate(keys, 1):
            await self._note_metadata(key)
            self._progress(done, len(keys), f"read {key}")
        notes = await asyncio.to_thread(lambda: list(self._ledger.metadata()))
        owners = {note.owner_id for note in notes}
        self.report.owners += await ensure_owners(self._database, owners)
        pack_ids = await self._register("metadata", notes)
        for part in _parts(list(zip(notes, pack_ids, strict=True))):
            async with self._database.session(_SCOPE, write=True) as session:
                for note, pack_id in part:
                    now = now_ms()
                    fits = await rows.attach_metadata(session, note, pack_id, now, now)
                    self.report.metadata += fits
        await self._write_metadata(before, added)

    async def _note_metadata(self, key: str) -> None:
        try:
            checked = await asyncio.to_thread(check_metadata, self._stores.objects, key)
        except NotFound:
            return
        except Invalid as error:
            self.report.objects.append((key, str(error)))
            return
        await asyncio.to_thread(self._ledger.add_metadata, checked)

    async def _write_metadata(self, before: int, added: Collection[tuple[int, str, str]]) -> None:
        """Metadata of series that have none, and of series of before that got instances."""
        async with self._database.session(_SCOPE) as session:
            series_ids = set(await rows.without_metadata(session))
            for owner_id, study_uid, series_uid in sorted(added) if before else ():
                found = await rows.series_ids_of(session, owner_id, study_uid, [series_uid])
                series_ids.update(found)
        for series_id in sorted(series_ids):
            try:
                await self._settler.refresh_metadata(series_id)
            except AppError as error:
                _log.error("metadata_not_written", series_id=series_id, why=str(error))

    async def _finish(self, before: int, decisions: Sequence[Decision]) -> None:
        """What the rows of new studies say of their past."""
        for part in _parts(list(overlays_after(decisions).items())):
            async with self._database.session(_SCOPE, write=True) as session:
                for (owner_id, uid), overlay in part:
                    await rows.set_overlay(session, before, owner_id, uid, overlay)
        quiet_ms = now_ms() - int(self._settings.archive.study_quiet_s * 1000)
        while True:
            async with self._database.session(_SCOPE) as session:
                ids = await rows.unsettled_studies(session, before, quiet_ms, _AT_ONCE)
            if not ids:
                return
            async with self._database.session(_SCOPE, write=True) as session:
                await rows.settle_studies(session, ids, now_ms())

    def _gone(self, store: str, key: str, node: str) -> bool:
        """Whether bytes that a row points at are not where it says."""
        if store == JOURNAL:
            folder = self._settings.data / "journal"
            return node == self._node and not (folder / key).exists()
        return store == self._stores.objects.name and not self._ledger.is_listed(key)


def _parts(listed: Sequence[T]) -> Iterator[Sequence[T]]:
    """`listed` in pieces that one transaction takes."""
    for at in range(0, len(listed), _AT_ONCE):
        yield listed[at : at + _AT_ONCE]
