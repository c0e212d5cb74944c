"""One part of a store request on its way into the archive: never held whole in memory.

Bytes are kept until the head of the file is read and, up to `HOLD_BYTES`, so that a small instance
is appended in one piece; a larger one streams into a segment of its own.
"""

from __future__ import annotations

import asyncio

from archive.journal.domain import Identity, Origin, Receipt
from archive.receive.service import IncomingStream, Receiver
from dataset.part10 import Head, parse_head
from dataset.scanner import Scanner, ScanResult
from dicomweb.store.domain import (
    CANNOT_UNDERSTAND,
    DOES_NOT_MATCH,
    PartResult,
    failed,
    from_error,
    from_receipt,
)
from kernel.errors import AppError, Invalid

HOLD_BYTES = 1 << 20
SOP_CLASS_UID = 0x00080016
SOP_INSTANCE_UID = 0x00080018
STUDY_INSTANCE_UID = 0x0020000D
_WANTED = frozenset({SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_INSTANCE_UID})


class IncomingPart:
    """A DICOM file arriving in pieces; `finish` says what became of it.

    `study` is the study that the request's URL names: an instance of another one is not stored
    (PS3.18 10.5.2, failure reason A900).
    """

    def __init__(self, receiver: Receiver, origin: Origin, study: str | None) -> None:
        self._receiver = receiver
        self._origin = origin
        self._study = study
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._head: Head | None = None
        self._scanner: Scanner | None = None
        self._stream: IncomingStream | None = None
        self._known = PartResult()
        self._refused: PartResult | None = None

    def write(self, data: bytes) -> None:
        """Take the next bytes of the part."""
        if self._refused is not None:
            return
        try:
            self._take(data)
        except AppError as error:
            self._refuse(from_error(error, self._known))

    def refuse(self, comment: str) -> None:
        """Give the part up: it cannot be understood."""
        if self._refused is None:
            self._refuse(failed(self._known, CANNOT_UNDERSTAND, comment))

    def finish(self) -> asyncio.Future[Receipt] | PartResult:
        """The part is complete: a Future of the archive, or at once why it was refused."""
        try:
            return self._complete()
        except AppError as error:
            return self._refuse(from_error(error, self._known))

    def result(self, receipt: Receipt | AppError) -> PartResult:
        """What the sender is told of the archive's answer."""
        if isinstance(receipt, AppError):
            return from_error(receipt, self._known)
        return from_receipt(receipt)

    def _complete(self) -> asyncio.Future[Receipt] | PartResult:
        if self._head is None and self._refused is None:
            self._begin(final=True)
        if self._scanner is not None and self._refused is None:
            self._learn(self._scanner.finish(), self._study)
        if self._refused is not None:
            return self._refused
        if self._stream is not None:
            return self._stream.finish()
        return self._receiver.append(self._origin, self._identity(), self._held)

    def _take(self, data: bytes) -> None:
        if self._head is None:
            self._hold(data)
            self._begin(final=False)
            return
        self._scan(data)
        if self._refused is not None:
            return
        if self._stream is not None:
            self._stream.write(data)
            return
        self._hold(data)
        if self._held_bytes > HOLD_BYTES:
            self._stream = self._receiver.open_stream(self._origin, self._identity())
            held, self._held = self._held, []
            for piece in held:
                self._stream.write(piece)

    def _begin(self, *, final: bool) -> None:
        """Read the file's head once enough of it is there; what follows is the data set."""
        if not self._held_bytes:
            if final:
                raise Invalid("part10.empty", "The part is empty.")
            return
        start = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        head = parse_head(start, final=final)
        if head is None:
            if final:
                raise Invalid("part10.not_dicom", "The part is not a DICOM file.")
            self._held = [start]
            return
        self._head = head
        self._known = PartResult(head.sop_class_uid or "", head.sop_instance_uid or "")
        if self._study is not None:
            self._scanner = Scanner(head.transfer_syntax_uid, _WANTED)
        self._held, self._held_bytes = [], 0
        self._take(start[head.dataset_offset :])

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        self._held_bytes += len(data)

    def _scan(self, data: bytes) -> None:
        if self._scanner is not None:
            found = self._scanner.feed(data)
            if found is not None:
                self._learn(found, self._study)

    def _learn(self, found: ScanResult, expected: str | None) -> None:
        """Compare the study with the URL's as soon as it is known."""
        self._scanner = None
        study = _uid(found.values.get(STUDY_INSTANCE_UID))
        self._known = PartResult(
            sop_class_uid=_uid(found.values.get(SOP_CLASS_UID)) or self._known.sop_class_uid,
            sop_instance_uid=_uid(found.values.get(SOP_INSTANCE_UID))
            or self._known.sop_instance_uid,
            study_instance_uid=study,
        )
        if study != expected:
            comment = f"study.mismatch: The instance is of study {study[:64] or '(none)'}."
            self._refuse(failed(self._known, DOES_NOT_MATCH, comment))

    def _identity(self) -> Identity:
        """What the file's own head announced (PS3.10 7.1)."""
        if self._head is None:
            raise Invalid("part10.not_dicom", "The part is not a DICOM file.")
        return Identity(
            self._head.sop_class_uid or "",
            self._head.sop_instance_uid or "",
            self._head.transfer_syntax_uid,
        )

    def _refuse(self, result: PartResult) -> PartResult:
        self._refused = result
        self._held, self._held_bytes = [], 0
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abort()
        return result


def _uid(raw: bytes | None) -> str:
    return (raw or b"").decode("ascii", "replace").strip(" \0")
