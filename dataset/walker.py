"""Walk a data set that comes in chunks, keeping nothing but the place: the base of scanner and
splice.

Fed with chunks cut anywhere, iterative, with budgets for depth and number of elements; values are
skipped without being copied. What is kept is at most one element that a subclass wants whole.
Source: PS3.5 chapter 7, 6.2.2 (UN), Annex A.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from dataset.syntax import (
    DEFAULT_BUDGET,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    Budget,
    Buffer,
    Encoding,
    Header,
    detect,
    encoding_of,
    holds_fragments,
    item_order,
    read_header,
    unreadable,
)
from kernel.errors import Invalid

_WINDOW_BYTES = 16_384

DATASET: Final = 0
SEQUENCE: Final = 1
COLLECTED: Final = 2  # a sequence whose items a subclass wants
FRAGMENTS: Final = 3

MORE: Final = -1  # instead of a position: the element is not there whole


class Level(NamedTuple):
    """Where the walk is. `end` is an offset in the data set, None where the length is undefined."""

    kind: int
    tag: int
    end: int | None
    explicit: bool
    little: bool
    sink: dict[int, bytes] | None = None


class Walker:
    """Follows one data set (not deflated) from element to element.

    Subclasses override `_met`, which is called with each element of a data set, and may pass over
    simple elements faster in `_skim`.
    """

    def __init__(self, transfer_syntax_uid: str, budget: Budget = DEFAULT_BUDGET) -> None:
        self.done = False
        self._declared = encoding_of(transfer_syntax_uid)
        self._budget = budget
        self._stack: list[Level] = []
        self._left = budget.max_elements
        self._base = 0  # offset in the data set of the byte that is looked at next
        self._skip = 0  # bytes still to come that nobody wants
        self._tail = bytearray()  # an element that was not there whole
        self._need = 8  # bytes that `_tail` must have before another look is worth it
        self._tag: int | None = None

    @property
    def reached(self) -> int:
        """Offset of the next header: every byte before it belongs to an element that was met."""
        return self._base + self._skip

    def take(self, chunk: Buffer) -> bool:
        """Walk on over `chunk`; True where nothing more is needed. Raises
        `Invalid('dataset.unreadable', detail=…, offset=…)`.
        """
        at, size = 0, len(chunk)
        while at < size and not self.done:
            if self._skip:
                step = min(self._skip, size - at)
                self._skip -= step
                self._base += step
                at += step
                continue
            if self._tail:
                step = min(max(self._need - len(self._tail), 0), size - at)
                self._tail += chunk[at : at + step]
                at += step
                if len(self._tail) < self._need:
                    return False
                data, self._tail = bytes(self._tail), bytearray()
            elif at == 0 and isinstance(chunk, bytes):
                data, at = chunk, size
            else:
                data = bytes(chunk[at : at + _WINDOW_BYTES])
                at += len(data)
            self._digest(data)
        return self.done

    def _digest(self, data: bytes) -> None:
        position = self._run(data)
        if self.done:
            return
        if position > len(data):
            self._skip = position - len(data)
            self._base += len(data)
        else:
            self._tail = bytearray(data[position:])
            self._base += position

    def end(self) -> None:
        """Say that the data set has ended; raises `Invalid` where it ends inside an element."""
        if self._skip:
            raise self._error(f"its value goes on for {self._skip} bytes after the end of the data")
        while self._stack and self._stack[-1].end == self._base:
            self._stack.pop()
        if any(self._tail):
            raise self._error(f"{len(self._tail)} bytes at the end are no whole element")
        if len(self._stack) > 1 and self._stack[-1].kind != FRAGMENTS:
            self._tag = self._stack[-1].tag
            raise self._error("the data end inside a sequence")

    def _run(self, data: bytes) -> int:
        """Walk over `data`; return where the rest begins, beyond its end where bytes are to be
        skipped.
        """
        if not self._stack and not self._begin(data):
            return 0
        position, size = 0, len(data)
        while position < size and not self.done:
            level = self._stack[-1]
            if level.kind == DATASET and level.little:
                position = self._skim(data, position, level)
                if position >= size:
                    break
            after = self._look(data, position)
            if after == MORE:
                break
            position = after
        return position

    def _begin(self, data: bytes) -> bool:
        if len(data) < 8:
            self._need = 8
            return False
        explicit, little = detect(data, self._declared)
        self._stack.append(self._top(explicit, little))
        return True

    def _top(self, explicit: bool, little: bool) -> Level:
        return Level(DATASET, 0, None, explicit, little)

    def _skim(self, data: bytes, position: int, level: Level) -> int:
        """Pass over simple elements of a little endian data set; return the new position."""
        return position

    def _met(self, header: Header, data: bytes, position: int, level: Level) -> int | None:
        """An element at `position` of `data`: None to go on behind it, `MORE`, or another
        position.
        """
        return None

    def _look(self, data: bytes, position: int) -> int:
        """Read one header with all its oddities; return the position after it, or -1 where bytes
        are missing.
        """
        level = self._stack[-1]
        if level.end is not None and self._base + position >= level.end:
            self._stack.pop()
            return position
        self._left -= 1
        if self._left <= 0:
            raise self._error(f"it has more than {self._budget.max_elements} elements", position)
        if level.kind == DATASET:
            return self._element(data, position, level)
        return self._item(data, position, level)

    def _element(self, data: bytes, position: int, level: Level) -> int:
        header = read_header(data, position, level.explicit, level.little)
        if header is None:
            self._need = 12 if len(data) - position >= 8 else 8
            return MORE
        if header.tag >> 16 == 0xFFFE:
            return self._delimiter(header, position)
        self._tag = header.tag
        wish = self._met(header, data, position, level)
        if wish is not None:
            return wish
        start = position + header.size
        if header.length == UNDEFINED:
            fragments = holds_fragments(header.tag, header.vr)
            self._open(header, start, level, FRAGMENTS if fragments else SEQUENCE)
            return start
        return start + header.length

    def _delimiter(self, header: Header, position: int) -> int:
        """An item tag or delimiter where an element was expected."""
        after = position + 8
        if len(self._stack) == 1:  # stray, at the top: of no meaning
            return after if header.length == UNDEFINED else after + header.length
        self._stack.pop()
        if header.tag == ITEM_END:
            return after
        if header.tag in (ITEM, SEQUENCE_END):  # the item has no delimiter: the sequence reads on
            return position
        raise self._error("an unknown delimiter stands in an item", position)

    def _item(self, data: bytes, position: int, level: Level) -> int:
        """An item of a sequence, a fragment, or the delimiter behind the last one."""
        if len(data) - position < 8:
            self._need = 8
            return MORE
        little = item_order(data[position : position + 2])
        if little is None:
            self._tag = level.tag
            raise self._error("an item was expected in the sequence", position)
        after = position + 8
        header = read_header(data, position, False, little)
        if header is None or header.tag == ITEM_END:
            return after
        if header.tag == SEQUENCE_END:
            self._stack.pop()
            return after
        if level.kind == FRAGMENTS or (header.length != UNDEFINED and level.kind != COLLECTED):
            return after + header.length
        if header.length >= 8 and len(data) - after < 8:
            self._need = 16  # the first element of the item tells its encoding
            return MORE
        self._enter(data[after : after + 8], after, header.length, level, little)
        return after

    def _enter(self, first: bytes, after: int, length: int, level: Level, little: bool) -> None:
        explicit = level.explicit
        if len(first) == 8 and item_order(first) is None:
            explicit = detect(first, Encoding(level.explicit, little)).explicit
        sink = self._item_sink() if level.kind == COLLECTED else None
        end = None if length == UNDEFINED else self._base + after + length
        self._push(Level(DATASET, level.tag, end, explicit, little, sink))

    def _open(self, header: Header, start: int, level: Level, kind: int) -> None:
        end = None if header.length == UNDEFINED else self._base + start + header.length
        explicit = level.explicit and header.vr == b"SQ"  # UN holds implicit items, PS3.5 6.2.2
        self._push(Level(kind, header.tag, end, explicit, level.little))

    def _item_sink(self) -> dict[int, bytes] | None:
        """Where the values of a new item of a COLLECTED sequence go."""
        return None

    def _push(self, level: Level) -> None:
        if len(self._stack) > 2 * self._budget.max_depth:
            raise self._error(f"sequences are nested more than {self._budget.max_depth} deep")
        self._stack.append(level)

    def _error(self, detail: str, position: int = 0) -> Invalid:
        return unreadable(self._base + position, self._tag, detail)
