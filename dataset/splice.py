"""Replace, insert or delete top-level elements of an encoded data set while it streams; everything
else stays as it is.

The data set is not decoded and no value is kept, so pixel data of any size pass through. Source:
PS3.5 chapter 7.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from dataset.inflate import inflate
from dataset.syntax import WHOLE_BUDGET, Budget, Buffer, Header, is_deflated
from dataset.walker import Level, Walker
from kernel.errors import Invalid


def splice(
    parts: Iterable[Buffer],
    transfer_syntax_uid: str,
    edits: Mapping[int, bytes | None],
    budget: Budget = WHOLE_BUDGET,
) -> Iterator[bytes]:
    """Yield the data set of `parts` with `edits` applied.

    `edits` maps a tag to the whole encoded element (header and value, encoded as the data set is)
    that takes its place, or to None, which deletes it. An element that was not there is inserted
    before the first with a higher tag. The retired group length (gggg,0000) of a touched group is
    left out, since it would be wrong (PS3.5 7.2). A deflated data set is inflated, edited and
    deflated again. Raises `Invalid('dataset.unreadable')` where the place of an edit cannot be
    found; damage behind the last edit passes through.
    """
    if not edits:
        yield from (bytes(part) for part in parts)
    elif is_deflated(transfer_syntax_uid):
        yield from _deflated(_spliced(inflate(parts, budget), transfer_syntax_uid, edits, budget))
    else:
        yield from _spliced(parts, transfer_syntax_uid, edits, budget)


class Marker(Walker):
    """Notes where each top-level element begins, as (offset, tag)."""

    def __init__(self, transfer_syntax_uid: str, budget: Budget) -> None:
        super().__init__(transfer_syntax_uid, budget)
        self.marks: deque[tuple[int, int]] = deque()

    def _met(self, header: Header, data: bytes, position: int, level: Level) -> int | None:
        if len(self._stack) == 1:
            self.marks.append((self._base + position, header.tag))
        return None


class Splicer:
    """Passes the bytes of a data set (not deflated) on, with the edits in their places.

    For bytes that come piece by piece; see `splice` for what edits are and what is raised.
    """

    def __init__(
        self,
        transfer_syntax_uid: str,
        edits: Mapping[int, bytes | None],
        budget: Budget = WHOLE_BUDGET,
    ) -> None:
        self._marker = Marker(transfer_syntax_uid, budget)
        self._edits = edits
        self._pending = deque(sorted(edits))
        self._groups = {tag >> 16 << 16 for tag in edits}
        self._held = b""  # bytes not passed on yet
        self._offset = 0  # where they begin in the data set
        self._keep = True
        self._broken = False

    def feed(self, part: Buffer) -> Iterator[bytes]:
        """Pass on what of `part` is known to belong to an element."""
        self._held += part
        error = None if self._broken else self._follow(part)
        while self._marker.marks:
            start, tag = self._marker.marks.popleft()
            yield self._passed(start)
            yield self._due(tag)
            self._keep = tag not in self._edits and tag not in self._groups
        if error is not None:
            if self._pending or not self._keep:
                raise error
            self._broken = True
        end = self._offset + len(self._held)
        yield self._passed(end if self._broken else min(self._marker.reached, end))

    def finish(self) -> Iterator[bytes]:
        """Pass on the rest, and the edits that belong behind it."""
        if self._pending or not self._keep:
            self._marker.end()
        yield self._passed(self._offset + len(self._held))
        yield self._due(1 << 32)

    def _follow(self, part: Buffer) -> Invalid | None:
        try:
            self._marker.take(part)
        except Invalid as error:
            return error
        return None

    def _passed(self, end: int) -> bytes:
        passed = self._held[: end - self._offset] if self._keep else b""
        self._held = self._held[end - self._offset :]
        self._offset = end
        return passed

    def _due(self, tag: int) -> bytes:
        """The edits whose place is at or before an element `tag`."""
        due = []
        while self._pending and self._pending[0] <= tag:
            due.append(self._edits[self._pending.popleft()] or b"")
        return b"".join(due)


def _spliced(
    parts: Iterable[Buffer],
    transfer_syntax_uid: str,
    edits: Mapping[int, bytes | None],
    budget: Budget,
) -> Iterator[bytes]:
    splicer = Splicer(transfer_syntax_uid, edits, budget)
    for part in parts:
        yield from filter(None, splicer.feed(part))
    yield from filter(None, splicer.finish())


def _deflated(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Deflate again; the stream has an even length (PS3.5 A.5)."""
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    size = 0
    for piece in pieces:
        packed = stream.compress(piece)
        size += len(packed)
        if packed:
            yield packed
    packed = stream.flush()
    size += len(packed)
    yield packed + b"\0" * (size % 2)
