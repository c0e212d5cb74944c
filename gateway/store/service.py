"""Storage SCP (PS3.4 Annex B): fragments to the receiver, its receipt to a status.

The data set is not looked at here. ``Storing`` is the hot path: one exists for each association.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from archive.journal.domain import Identity, Origin, Outcome, Receipt
from gateway.dimse.command import (
    AFFECTED_SOP_CLASS_UID,
    AFFECTED_SOP_INSTANCE_UID,
    Command,
    response,
    store_success,
    text,
)
from gateway.dimse.status import (
    INVALID_SOP_INSTANCE,
    MISTYPED_ARGUMENT,
    PROCESSING_FAILURE,
    SOP_CLASS_NOT_SUPPORTED,
    status_of,
    status_of_reason,
)
from gateway.upper_layer.negotiation import Context
from kernel.errors import AppError

_log: structlog.stdlib.BoundLogger = structlog.get_logger()
_UID_CHARACTERS = frozenset("0123456789.")


class IncomingStream(Protocol):
    """A data set that is longer than a buffer, on its way into the journal."""

    def write(self, part: memoryview) -> None:
        """Append a part."""

    def finish(self) -> asyncio.Future[Receipt]:
        """The data set is complete."""

    def abort(self) -> None:
        """It will never be complete."""


class Receiver(Protocol):
    """What the archive's journal does for the gateway."""

    def append(
        self, origin: Origin, identity: Identity, parts: list[memoryview]
    ) -> asyncio.Future[Receipt]:
        """Take a whole data set; its bytes are copied when this returns."""

    def open_stream(self, origin: Origin, identity: Identity) -> IncomingStream:
        """Take one piece by piece."""


class Tally:
    """What one association stored: counts by study, for one audit line each."""

    def __init__(self) -> None:
        self._studies: dict[str, tuple[int, int, int]] = {}

    def count(self, study_instance_uid: str, outcome: Outcome | None) -> None:
        """Add one instance; ``outcome`` None is a failure."""
        stored, again, failed = self._studies.get(study_instance_uid, (0, 0, 0))
        if outcome is Outcome.STORED:
            stored += 1
        elif outcome is Outcome.AGAIN:
            again += 1
        else:
            failed += 1
        self._studies[study_instance_uid] = (stored, again, failed)

    def take(self) -> dict[str, tuple[int, int, int]]:
        """Stored, again and failed instances by study; counting begins anew."""
        studies, self._studies = self._studies, {}
        return studies


class Storing:
    """C-STORE requests of one association, one at a time.

    ``answered`` is called with the context ID and the response as soon as it is due.
    """

    __slots__ = (
        "_answered",
        "_context",
        "_fault",
        "_origin",
        "_receiver",
        "_request",
        "_stream",
        "committing",
        "tally",
        "waiting",
    )

    def __init__(
        self, receiver: Receiver, origin: Origin, answered: Callable[[int, bytes], None]
    ) -> None:
        self._receiver = receiver
        self._origin = origin
        self._answered = answered
        self._context: Context | None = None
        self._request: Command = {}
        self._stream: IncomingStream | None = None
        self._fault: bytes | None = None
        self.committing = False
        self.waiting = False
        self.tally = Tally()

    def begin(self, context: Context, request: Command, *, data_follows: bool) -> bool:
        """A request arrived. False means that its data set need not be kept."""
        self._context, self._request = context, request
        self.waiting = True
        self._fault = _refused(context, request, data_follows=data_follows)
        if self._fault is not None:
            self.tally.count("", None)
        if not data_follows:
            self._finish(self._fault or b"")
        return self._fault is None

    def spill(self, parts: list[memoryview]) -> None:
        """Parts of a data set longer than a buffer."""
        if self._fault is not None or self._context is None:
            return
        try:
            if self._stream is None:
                identity = _identity(self._context, self._request)
                self._stream = self._receiver.open_stream(self._origin, identity)
            for part in parts:
                self._stream.write(part)
        except AppError as error:
            self._give_up()
            self._fault = self._failed(error)

    def data(self, parts: list[memoryview]) -> None:
        """The data set is complete: append it, and answer when it is durable."""
        context = self._context
        if context is None:
            return
        if self._fault is not None:
            self._finish(self._fault)
            return
        try:
            if self._stream is None:
                identity = _identity(context, self._request)
                stored = self._receiver.append(self._origin, identity, parts)
            else:
                for part in parts:
                    self._stream.write(part)
                stored = self._stream.finish()
                self._stream = None
        except AppError as error:
            self._give_up()
            self._finish(self._failed(error))
            return
        self.committing = True
        stored.add_done_callback(self._stored)

    def close(self) -> None:
        """The association is over: an unfinished data set is dropped."""
        if not self.committing:
            self._give_up()
            self._context = None
            self.waiting = False

    def _stored(self, stored: asyncio.Future[Receipt]) -> None:
        self.committing = False
        if stored.cancelled():
            self._finish(response(self._request, PROCESSING_FAILURE, "receiving was stopped"))
            return
        error = stored.exception()
        if error is not None:
            self._finish(self._failed(error))
            return
        receipt = stored.result()
        if receipt.outcome is Outcome.QUARANTINED:
            self.tally.count(receipt.study_instance_uid, None)
            status = status_of_reason(receipt.reason or "")
            self._finish(response(self._request, status, receipt.detail or receipt.reason or ""))
            return
        self.tally.count(receipt.study_instance_uid, receipt.outcome)
        self._finish(store_success(self._request))

    def _failed(self, error: BaseException) -> bytes:
        self.tally.count("", None)
        if isinstance(error, AppError):
            return response(self._request, status_of(error), str(error))
        _log.error("store_failed", error=repr(error), exc_info=error)
        return response(self._request, PROCESSING_FAILURE, "internal error")

    def _finish(self, answer: bytes) -> None:
        context, self._context = self._context, None
        self.waiting = False
        if context is not None:
            self._answered(context.id, answer)

    def _give_up(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abort()


def _identity(context: Context, request: Command) -> Identity:
    return Identity(
        context.abstract_syntax,
        text(request, AFFECTED_SOP_INSTANCE_UID),
        context.transfer_syntax,
    )


def _refused(context: Context, request: Command, *, data_follows: bool) -> bytes | None:
    """What can be refused before the data set (PS3.7 9.1.1.1, 9.3.1.1)."""
    if not data_follows:
        return response(request, MISTYPED_ARGUMENT, "a C-STORE request without a data set")
    sop_class = text(request, AFFECTED_SOP_CLASS_UID)
    if sop_class != context.abstract_syntax:
        words = "SOP Class UID is not that of the presentation context"
        return response(request, SOP_CLASS_NOT_SUPPORTED, words)
    uid = text(request, AFFECTED_SOP_INSTANCE_UID)
    if not uid or len(uid) > 64 or not _UID_CHARACTERS.issuperset(uid):
        return response(request, INVALID_SOP_INSTANCE, "Affected SOP Instance UID is not a UID")
    return None
