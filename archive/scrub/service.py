"""The scrub: every stored byte is read again and compared with its hash.

Objects are read one after the other, those first that were verified longest ago, so a scrub that
was broken off goes on where it stopped. A damaged copy is skipped by readers from then on; what is
intact in it is copied into a new pack first, so that one flipped bit costs one instance, not a
series. Metadata objects are derived and are written anew. Nothing is deleted here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog
import xxhash

from archive.journal.clock import now_ms
from archive.journal.node import node_id
from archive.journal.record import HEADER_BYTES, seed_of, unpack_header
from archive.scrub import rows
from archive.scrub.check import check_metadata, check_pack, cut_short
from archive.scrub.domain import DamagedFile, ScrubReport
from archive.scrub.rows import Copy, File
from archive.settle.service import Settler
from archive.store.domain import StoredObject
from archive.store.service import Stores, open_stores
from kernel.db.database import Database
from kernel.errors import AppError, Invalid, NotFound, Unavailable
from kernel.scope import Scope
from kernel.settings import Settings

Progress = Callable[[int, int, str], None]

_AT_ONCE = 100
_SCOPE = Scope.system("scrub")
_PREFIXES = ("packs/", "metadata/", "decisions/")
_log = structlog.get_logger(__name__)


async def scrub(settings: Settings, database: Database, progress: Progress) -> ScrubReport:
    """Verify the objects and this node's segments; `progress(done, total, note)` hears of each.

    Raises `Unavailable` where the store fails or holds nothing of what should be there (an object
    folder that is not mounted, say): that is no damage, and nothing is marked.
    """
    stores = await asyncio.to_thread(open_stores, settings)
    work = _Scrub(database, stores, Settler(settings, database, stores), progress)
    await work.objects()
    await work.segments(node_id(settings))
    await work.strangers()
    _log.info(
        "scrubbed",
        files=work.report.files,
        bytes=work.report.bytes,
        damaged=len(work.report.damaged),
        unknown=len(work.report.unknown),
    )
    return work.report


class _Scrub:
    """One scrub under way."""

    def __init__(
        self, database: Database, stores: Stores, settler: Settler, progress: Progress
    ) -> None:
        self.report = ScrubReport()
        self._database = database
        self._stores = stores
        self._settler = settler
        self._progress = progress
        self._missing: list[Copy] = []
        self._done = 0
        self._total = 0

    async def objects(self) -> None:
        """Packs and metadata, until each was verified since the start."""
        started, store = now_ms(), self._stores.objects.name
        async with self._database.session(_SCOPE) as session:
            self._total = await rows.count_due(session, store, started)
        passed: set[int] = set()
        while True:
            async with self._database.session(_SCOPE) as session:
                listed = await rows.due(session, store, started, _AT_ONCE + len(passed))
            listed = [copy for copy in listed if copy.pack_id not in passed]
            if not listed:
                break
            for copy in listed:
                passed |= {copy.pack_id} if await self._object(copy) else set()
                self._step(copy.key)
        await self._judge_missing()

    async def _object(self, copy: Copy) -> bool:
        """Verify one object; True where it stays unverified because it is missing."""
        try:
            if copy.kind == "metadata":
                await self._metadata(copy)
            else:
                await self._pack(copy)
        except NotFound:
            self._missing.append(copy)
            return True
        return False

    async def _pack(self, copy: Copy) -> None:
        store = self._stores.named(copy.store)
        entries: dict[int, int] = {}
        bad: frozenset[int] = frozenset()
        why = ""
        try:
            checked = await asyncio.to_thread(check_pack, store, copy.key)
        except (Invalid, Unavailable) as error:
            if isinstance(error, Unavailable) and not cut_short(error):
                raise
            why = str(error)
        else:
            entries = {entry.offset: entry.length for entry in checked.manifest.entries}
            bad = checked.bad
            if checked.size != copy.size or checked.sha256 != copy.sha256:
                why = "size or SHA-256 differ from what was written"
            self.report.bytes += checked.size
        async with self._database.session(_SCOPE) as session:
            files = await rows.files_in(session, copy.pack_id)
            live = await rows.still_live(session, copy.pack_id)
        self.report.packs += 1
        self.report.files += len(files)
        lost = [
            one
            for one in files
            if entries.get(one.byte_offset) != one.byte_length or one.byte_offset in bad
        ]
        if live and (why or lost):
            await self._damaged_pack(copy, files, lost, why or "a file does not fit its SHA-256")
        else:
            await self._conclude(copy, "good")

    async def _damaged_pack(
        self, copy: Copy, files: Sequence[File], lost: Sequence[File], why: str
    ) -> None:
        """Copy what is intact elsewhere, then let readers skip the copy."""
        intact = {(one.kind, one.row_id) for one in files} - {
            (one.kind, one.row_id) for one in lost
        }
        if intact and copy.series_id is not None:
            try:
                self.report.moved += await self._settler.move_out(
                    copy.series_id, copy.pack_id, intact
                )
            except AppError as error:
                _log.error("intact_files_not_moved", key=copy.key, why=str(error))
        self._name(copy, lost, why)
        await self._conclude(copy, "damaged")

    async def _metadata(self, copy: Copy) -> None:
        store = self._stores.named(copy.store)
        try:
            checked = await asyncio.to_thread(check_metadata, store, copy.key)
        except Invalid as error:
            self.report.metadata += 1
            await self._renew_metadata(copy, str(error))
            return
        self.report.metadata += 1
        self.report.bytes += checked.size
        if checked.size != copy.size or checked.sha256 != copy.sha256:
            await self._renew_metadata(copy, "size or SHA-256 differ from what was written")
        else:
            await self._conclude(copy, "good")

    async def _renew_metadata(self, copy: Copy, why: str) -> None:
        self._name(copy, (), why)
        await self._conclude(copy, "damaged")
        async with self._database.session(_SCOPE, write=True) as session:
            await rows.drop_metadata(session, copy, now_ms())
        if copy.series_id is None:
            return
        try:
            await self._settler.refresh_metadata(copy.series_id)
            self.report.renewed += 1
        except AppError as error:
            _log.error("metadata_not_renewed", series_id=copy.series_id, why=str(error))

    async def _judge_missing(self) -> None:
        """Missing objects are damage only where the store holds others of ours."""
        if not self._missing:
            return
        if not self.report.packs and not self.report.metadata:
            raise Unavailable(
                "objects.absent",
                "the object store holds none of the {n} objects that should be there",
                n=len(self._missing),
            )
        for copy in self._missing:
            why = "the object is missing"
            async with self._database.session(_SCOPE) as session:
                files = await rows.files_in(session, copy.pack_id)
                live = await rows.still_live(session, copy.pack_id)
            if not live:
                continue
            if copy.kind == "metadata":
                await self._renew_metadata(copy, why)
            else:
                self._name(copy, files, why)
                await self._conclude(copy, "damaged")

    async def segments(self, node: str) -> None:
        """The records of this node's segments that rows point at.

        A segment is never marked: settling reads each record with its checksum anyway, and leaves
        a damaged one where it is.
        """
        async with self._database.session(_SCOPE) as session:
            listed = await rows.segments(session, node)
        self._total += len(listed)
        for copy in listed:
            async with self._database.session(_SCOPE) as session:
                files = await rows.files_in(session, copy.pack_id)
            lost = await asyncio.to_thread(_unfit_records, self._stores, copy, files)
            if lost:  # settling may have moved them, and the sweep taken the segment
                async with self._database.session(_SCOPE) as session:
                    now = set(await rows.files_in(session, copy.pack_id))
                lost = [one for one in lost if one in now]
            if lost:
                self._name(copy, lost, "the record does not fit its checksum")
            self.report.segments += 1
            self.report.files += len(files)
            self.report.bytes += sum(one.byte_length for one in files)
            self._step(copy.key)

    async def strangers(self) -> None:
        """Objects that no row knows: reported, never deleted."""
        store = self._stores.objects
        listed = await asyncio.to_thread(
            lambda: [one for prefix in _PREFIXES for one in store.keys(prefix)]
        )
        for at in range(0, len(listed), _AT_ONCE):
            part = listed[at : at + _AT_ONCE]
            async with self._database.session(_SCOPE) as session:
                known = await rows.known_keys(session, store.name, [one.key for one in part])
            for one in part:
                if one.key not in known and await asyncio.to_thread(_is_there, self._stores, one):
                    self.report.unknown.append(one)

    def _name(self, copy: Copy, lost: Sequence[File], why: str) -> None:
        self.report.objects.append((copy.key, why))
        _log.error("stored_object_damaged", key=copy.key, why=why, files=len(lost))
        for one in lost:
            uids = (one.study_instance_uid, one.series_instance_uid, one.sop_instance_uid)
            self.report.damaged.append(DamagedFile(one.owner_id, one.kind, *uids, copy.key, why))
            _log.error("stored_bytes_damaged", kind=one.kind, sop_instance_uid=uids[2], why=why)

    async def _conclude(self, copy: Copy, state: str) -> None:
        async with self._database.session(_SCOPE, write=True) as session:
            await rows.conclude(session, copy, state, now_ms())

    def _step(self, note: str) -> None:
        self._done += 1
        self._progress(self._done, max(self._done, self._total), note)


def _unfit_records(stores: Stores, copy: Copy, files: Sequence[File]) -> list[File]:
    """The files of a segment whose record is not intact."""
    return [one for one in files if not _intact(stores, copy.key, one)]


def _intact(stores: Stores, key: str, file: File) -> bool:
    start = file.byte_offset - HEADER_BYTES
    try:
        raw = stores.journal.view(key, start, HEADER_BYTES + file.byte_length)
    except (NotFound, Unavailable):
        return False
    header = unpack_header(raw[:HEADER_BYTES], seed_of(key))
    body = raw[HEADER_BYTES:]
    return (
        header is not None
        and header.length == file.byte_length
        and xxhash.xxh3_128_digest(body) == header.checksum
    )


def _is_there(stores: Stores, one: StoredObject) -> bool:
    try:
        stores.objects.size(one.key)
    except NotFound:
        return False
    return True
