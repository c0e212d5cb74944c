"""Deflated data sets (PS3.5 A.5), inflated piece by piece within a ratio budget."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from dataset.syntax import DEFAULT_BUDGET, Budget, Buffer, unreadable

_PIECE_BYTES = 1 << 16


class Inflater:
    """Turns the bytes of a deflated data set into the bytes of the data set.

    Tolerates a zlib wrapper around the stream, and a data set that was declared deflated but is
    not.
    """

    def __init__(self, budget: Budget = DEFAULT_BUDGET) -> None:
        self._budget = budget
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        self._plain = False
        self._taken = 0
        self._given = 0

    @property
    def complete(self) -> bool:
        """True where the end of the deflate stream was seen."""
        return self._plain or self._stream.eof

    def feed(self, chunk: Buffer) -> Iterator[bytes]:
        """Yield what `chunk` inflates to, in pieces of at most 64 KiB; raises
        `Invalid('dataset.unreadable')`.
        """
        if self._taken == 0 and len(chunk):
            self._choose(bytes(chunk[:512]))
        self._taken += len(chunk)
        if self._plain:
            yield bytes(chunk)
            return
        data: Buffer = chunk
        while len(data) and not self._stream.eof:
            try:
                piece = self._stream.decompress(data, _PIECE_BYTES)
            except zlib.error as error:
                detail = f"the deflated bytes are damaged ({error})"
                raise unreadable(self._given, None, detail) from error
            self._given += len(piece)
            self._check()
            data = self._stream.unconsumed_tail
            if not piece and not data:
                return
            yield piece

    def finish(self) -> None:
        """Say that no more bytes come; raises `Invalid('dataset.unreadable')` where the stream
        has not ended.
        """
        if not self.complete and self._taken:
            raise unreadable(self._given, None, "the deflated bytes end before their stream does")

    def _choose(self, start: bytes) -> None:
        for window in (-zlib.MAX_WBITS, zlib.MAX_WBITS):
            try:
                first = zlib.decompressobj(window).decompress(start, 64)
            except zlib.error:
                continue
            if first or len(start) < 16:
                self._stream = zlib.decompressobj(window)
                return
        self._plain = start[1:2] == b"\0"  # a group number: not deflated at all

    def _check(self) -> None:
        allowed = self._budget.inflate_free_bytes + self._budget.inflate_ratio * self._taken
        if self._given > allowed:
            detail = f"it inflates to over {self._budget.inflate_ratio} times its size"
            raise unreadable(self._given, None, detail)


def inflate(parts: Iterable[Buffer], budget: Budget = DEFAULT_BUDGET) -> Iterator[bytes]:
    """Yield the inflated data set of `parts`; raises `Invalid('dataset.unreadable')`."""
    inflater = Inflater(budget)
    for part in parts:
        yield from inflater.feed(part)
    inflater.finish()
