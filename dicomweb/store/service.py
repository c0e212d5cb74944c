"""Storing the parts of one request: read, hand to the archive, wait until all are durable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Protocol

from aiohttp.web import RequestPayloadError as BrokenBody

from archive.journal.domain import Origin, Receipt
from archive.receive.service import Receiver
from dicomweb.media import DICOM, UnsupportedMedia, parse_content_type
from dicomweb.multipart import Event, MultipartParser, PartBegin, PartData
from dicomweb.store.domain import PartResult
from dicomweb.store.incoming import IncomingPart
from kernel.errors import AppError, Denied, Invalid
from kernel.scope import Scope

MAX_UNANSWERED = 64  # parts appended but not yet durable


class Body(Protocol):
    """Where the request's bytes come from: aiohttp's StreamReader."""

    def iter_any(self) -> AsyncIterator[bytes]:
        """The bytes as they arrive."""


def boundary_of(content_type: str) -> str:
    """The boundary of a multipart/related request of DICOM files (PS3.18 10.5.2).

    Raises:
        UnsupportedMedia: for any other content type.
        Invalid: `multipart.boundary` when it is missing.
    """
    expected = [f'multipart/related; type="{DICOM}"']
    if not content_type:
        raise UnsupportedMedia("(none)", expected)
    parsed = parse_content_type(content_type)
    inner = parsed.parameters.get("type", DICOM).lower()
    if parsed.media_type != "multipart/related" or inner != DICOM:
        raise UnsupportedMedia(content_type, expected)
    boundary = parsed.parameters.get("boundary", "")
    if not boundary:
        raise Invalid("multipart.boundary", "The multipart boundary is missing or not usable.")
    return boundary


def owner_for(scope: Scope) -> int:
    """The institution that owns what this actor stores: its own, or the only one of its scope.

    Raises `Denied('store.owner')` where the scope names several and none is the local one.
    """
    local = 1
    if scope.home is not None and scope.covers(scope.home):
        return scope.home
    if scope.owners is not None and len(scope.owners) == 1:
        return next(iter(scope.owners))
    if scope.covers(local):
        return local
    raise Denied("store.owner", "It is not clear for which institution to store.")


async def store_parts(
    receiver: Receiver, origin: Origin, body: Body, boundary: str, study: str | None
) -> list[PartResult]:
    """Store every part of a request; the results are in the order of the parts.

    A body that ends before its closing boundary loses the part that it was in, nothing before.

    Raises:
        Invalid: `multipart.*` when no part was found at all, `store.broken_off` when the client
            went away.
    """
    parser = MultipartParser(boundary)
    intake = _Intake(receiver, origin, study)
    broken: Invalid | None = None
    try:
        async for chunk in body.iter_any():
            for event in parser.feed(chunk):
                intake.take(event)
            await intake.breathe()
        parser.finish()
    except Invalid as error:
        broken = error
        intake.give_up(f"{error.code}: {error}")
    except BaseException as error:
        intake.give_up("The request was broken off.")
        if isinstance(error, ConnectionError | BrokenBody):
            raise Invalid("store.broken_off", "The request was broken off.") from error
        raise
    if not intake.parts:
        raise broken or Invalid("multipart.empty", "The request has no part.")
    return [await _answer(part, outcome) for part, outcome in intake.parts]


class _Intake:
    """The parts of one request: the one that is arriving, and those handed to the archive."""

    def __init__(self, receiver: Receiver, origin: Origin, study: str | None) -> None:
        self.parts: list[tuple[IncomingPart, asyncio.Future[Receipt] | PartResult]] = []
        self._open = partial(IncomingPart, receiver, origin, study)
        self._current: IncomingPart | None = None

    def take(self, event: Event) -> None:
        """Act on one event of the parser."""
        if isinstance(event, PartBegin):
            self._current = self._open()
            _check_part_type(self._current, event.headers.get("content-type", ""))
        elif self._current is not None:
            if isinstance(event, PartData):
                self._current.write(event.data)
            else:
                self._finish(self._current)

    def give_up(self, comment: str) -> None:
        """The body ended inside a part: that part fails."""
        if self._current is not None:
            self._current.refuse(comment)
            self._finish(self._current)

    async def breathe(self) -> None:
        """Wait while too many parts are not durable yet."""
        recent = self.parts[-2 * MAX_UNANSWERED :]
        waiting = [future for _, future in recent if isinstance(future, asyncio.Future)]
        if len(waiting) > MAX_UNANSWERED:
            await asyncio.wait([waiting[-MAX_UNANSWERED]])

    def _finish(self, part: IncomingPart) -> None:
        self.parts.append((part, part.finish()))
        self._current = None


def _check_part_type(part: IncomingPart, content_type: str) -> None:
    """A part that says it is something other than a DICOM file fails, the others go on."""
    if not content_type:
        return
    try:
        media_type = parse_content_type(content_type).media_type
    except Invalid:
        media_type = content_type[:100]
    if media_type != DICOM:
        part.refuse(f"media.unsupported: The part is {media_type}, not {DICOM}.")


async def _answer(part: IncomingPart, outcome: asyncio.Future[Receipt] | PartResult) -> PartResult:
    if isinstance(outcome, PartResult):
        return outcome
    try:
        return part.result(await outcome)
    except AppError as error:
        return part.result(error)
