"""`yunying import`: a folder of DICOM files into the archive, durable as if it had been sent.

It appends to a journal segment of its own, so it works whether or not the servers run. What was
taken in is noted in a state file, so that a broken-off import goes on where it was.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from archive.journal.domain import Identity, Origin, Outcome, Receipt
from archive.receive.service import Receiver
from dataset.part10 import Head, parse_head
from kernel.audit.domain import AuditRecord
from kernel.audit.service import append
from kernel.db.database import Database
from kernel.errors import AppError, Invalid, Unavailable
from kernel.scope import Actor, Scope
from kernel.settings import Settings

DIRECTORY_SOP_CLASS = "1.2.840.10008.1.3.10"  # Media Storage Directory, PS3.10 8
HEAD_BYTES = 1 << 16
WHOLE_BYTES = 16 << 20
PIECE_BYTES = 1 << 20
AT_ONCE = 128  # instances on their way, so that no index transaction grows long
AT_ONCE_BYTES = 128 << 20


class Skipped(Exception):
    """A file that is no instance; the message says what it is."""


@dataclass(slots=True)
class Summary:
    """What became of the files of an import; reasons with their number and one example each."""

    stored: int = 0
    duplicate: int = 0
    before: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> int:
        """How many files were looked at."""
        seen = self.stored + self.duplicate + self.before
        return seen + self.skipped.total() + self.refused.total()


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    name: str
    size: int
    mark: str  # of name, size and time: the same file again


Progress = Callable[[Summary, int], None]


async def import_folder(
    settings: Settings,
    folder: Path,
    *,
    owner_id: int = 1,
    again: bool = False,
    progress: Progress = lambda _summary, _total: None,
) -> Summary:
    """Store every DICOM instance below `folder`; `progress` hears of each file and of the total.

    Raises Invalid `import.no_folder`, and Unavailable `storage.*` or `index.failed` when the
    archive cannot go on; what was stored until then stays and is not read a second time.
    """
    if not await asyncio.to_thread(folder.is_dir):
        raise Invalid("import.no_folder", "{folder} is not a folder.", folder=str(folder))
    files = await asyncio.to_thread(lambda: list(_files(folder)))
    database = await Database.open(settings)
    try:
        receiver = await Receiver.open(settings, database)
        try:
            with _State(settings, folder, again=again) as state:
                job = _Import(receiver, Origin(owner_id, "import", "IMPORT", ""), state, progress)
                try:
                    return await job.run(files)
                finally:
                    await _audit(database, owner_id, job.summary)
        finally:
            await receiver.close()
    finally:
        await database.close()


async def _audit(database: Database, owner_id: int, summary: Summary) -> None:
    detail = {
        "stored": summary.stored,
        "again": summary.duplicate,
        "failed": summary.refused.total(),
    }
    taken = summary.stored + summary.duplicate
    record = AuditRecord(
        Actor("system", "import"),
        "archive.import",
        "ok" if taken or not summary.refused else "failed",
        owner_id,
        peer="command line",
        detail=detail,
        count=max(1, taken + summary.refused.total()),
    )
    async with database.session(Scope.system("import"), write=True) as session:
        await append(session, record)


class _Import:
    """Keeps a bounded number of instances on their way."""

    def __init__(
        self, receiver: Receiver, origin: Origin, state: _State, progress: Progress
    ) -> None:
        self._receiver = receiver
        self._origin = origin
        self._state = state
        self._progress = progress
        self.summary = Summary()
        self._waiting: dict[asyncio.Future[Receipt], _File] = {}
        self._total = 0

    async def run(self, files: Sequence[_File]) -> Summary:
        self._total = len(files)
        try:
            for file in files:
                await self._take(file)
                while self._is_full():
                    await self._settle(asyncio.FIRST_COMPLETED)
        finally:
            while self._waiting:
                await self._settle(asyncio.ALL_COMPLETED)
        return self.summary

    async def _take(self, file: _File) -> None:
        if file.mark in self._state.marks:
            self.summary.before += 1
            self._progress(self.summary, self._total)
            return
        try:
            with file.path.open("rb") as stream:
                head = _head(stream, file)
                self._waiting[self._append(stream, head, file)] = file
        except Skipped as why:
            self._note(self.summary.skipped, str(why), file)
        except Invalid as error:
            self._note(self.summary.refused, str(error), file)
        except OSError as error:
            self._note(self.summary.refused, error.strerror or "cannot be read", file)

    def _append(self, stream: IO[bytes], head: Head, file: _File) -> asyncio.Future[Receipt]:
        identity = Identity(
            head.sop_class_uid or "", head.sop_instance_uid or "", head.transfer_syntax_uid
        )
        stream.seek(head.dataset_offset)
        if file.size <= WHOLE_BYTES:
            return self._receiver.append(self._origin, identity, [stream.read()])
        incoming = self._receiver.open_stream(self._origin, identity)
        try:
            while piece := stream.read(PIECE_BYTES):
                incoming.write(piece)
            return incoming.finish()
        except BaseException:
            incoming.abort()
            raise

    def _is_full(self) -> bool:
        on_the_way = sum(file.size for file in self._waiting.values())
        return len(self._waiting) >= AT_ONCE or on_the_way >= AT_ONCE_BYTES

    async def _settle(self, when: str) -> None:
        done, _ = await asyncio.wait(self._waiting, return_when=when)
        for future in done:
            self._conclude(future, self._waiting.pop(future))

    def _conclude(self, future: asyncio.Future[Receipt], file: _File) -> None:
        try:
            receipt = future.result()
        except Unavailable:
            raise
        except AppError as error:
            self._note(self.summary.refused, str(error), file)
            return
        if receipt.outcome is Outcome.QUARANTINED:
            why = receipt.detail or receipt.reason or "its identity is missing"
            self._note(self.summary.refused, f"kept aside: {why}", file)
        elif receipt.outcome is Outcome.AGAIN:
            self.summary.duplicate += 1
        else:
            self.summary.stored += 1
        self._state.add(file.mark)
        if receipt.outcome is not Outcome.QUARANTINED:
            self._progress(self.summary, self._total)

    def _note(self, reasons: Counter[str], why: str, file: _File) -> None:
        reasons[why] += 1
        self.summary.examples.setdefault(why, file.name)
        self._progress(self.summary, self._total)


class _State:
    """The marks of files that are stored, one line each, in a file of the data folder.

    The marks are hashes: names of files and folders often hold names of people.
    """

    def __init__(self, settings: Settings, folder: Path, *, again: bool) -> None:
        name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:24]
        self._path = settings.data / "import" / f"{name}.done"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if again:
            self._path.unlink(missing_ok=True)
        known = self._path.read_text().split() if self._path.exists() else []
        self.marks = {mark for mark in known if len(mark) == 32}

    def __enter__(self) -> _State:
        self._file = self._path.open("a", encoding="ascii")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, mark: str) -> None:
        """Note that a file is stored durably."""
        self.marks.add(mark)
        self._file.write(mark + "\n")
        self._file.flush()


def _files(folder: Path) -> Iterator[_File]:
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(root) / name
            try:
                facts = path.stat()
            except OSError:
                continue  # a link that leads nowhere
            within = str(path.relative_to(folder))
            text = f"{within}\0{facts.st_size}\0{facts.st_mtime_ns}"
            mark = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
            yield _File(path, within, facts.st_size, mark)


def _head(stream: IO[bytes], file: _File) -> Head:
    """What precedes the data set; raises Skipped for what is no instance."""
    start = stream.read(HEAD_BYTES)
    if not start:
        raise Skipped("empty file")
    try:
        head = parse_head(start, final=len(start) == file.size)
        if head is None:
            stream.seek(0)
            head = parse_head(stream.read(WHOLE_BYTES), final=True)
    except Invalid as error:
        raise Skipped("not a DICOM file") from error
    if head is None:
        raise Skipped("not a DICOM file")
    if head.sop_class_uid == DIRECTORY_SOP_CLASS or file.path.name.upper() == "DICOMDIR":
        raise Skipped("DICOMDIR: the files that it lists are imported by themselves")
    return head
