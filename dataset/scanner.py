"""The tag scanner: the few values of a data set that the index needs, read before the sender is
answered.

It is incremental (fed with chunks cut anywhere), iterative, keeps no value it was not asked for,
skips long values without copying them, and stops after the last wanted tag. Where a data set has
lost its order and the identifying UIDs did not come before that tag, it goes on to the end. Two
tight loops skim the simple elements of little endian data sets; everything else (undefined lengths,
items, big endian, odd headers) takes the closer look of `Scanner._look`.

Source of the encodings: PS3.5 chapter 7, 6.2.2 (UN), Annex A.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from dataset.inflate import Inflater
from dataset.syntax import (
    DEFAULT_BUDGET,
    ITEM,
    ITEM_END,
    LONG_VRS,
    SEQUENCE_END,
    SHORT_VRS,
    UNDEFINED,
    Budget,
    Buffer,
    Encoding,
    Header,
    detect,
    encoding_of,
    holds_fragments,
    is_deflated,
    item_order,
    read_header,
    unreadable,
)
from kernel.errors import Invalid

REQUEST_ATTRIBUTES: Final = 0x00400275

INDEX_TAGS: Final = (
    frozenset({0x00080005, 0x00080008, 0x00080016, 0x00080018, 0x00080020, 0x00080021, 0x00080022})
    | {0x00080023, 0x00080030, 0x00080031, 0x00080032, 0x00080033, 0x00080050, 0x00080060}
    | {0x00080070, 0x00080080, 0x00080090, 0x00080201, 0x00081010, 0x00081030, 0x0008103E}
    | {0x00081040, 0x00081050, 0x00081060, 0x00081070, 0x00081090, 0x00100010, 0x00100020}
    | {0x00100021, 0x00100030, 0x00100032, 0x00100040, 0x00101000, 0x00101010, 0x00101020}
    | {0x00101030, 0x00104000, 0x00180015, 0x00181030, 0x00185100, 0x0020000D, 0x0020000E}
    | {0x00200010, 0x00200011, 0x00200012, 0x00200013, 0x00200052, 0x00200060, 0x00201208}
    | {0x00280002, 0x00280004, 0x00280008, 0x00280010, 0x00280011, 0x00280100, 0x00280101}
    | {0x00280103, 0x00281050, 0x00400244, 0x00400245, 0x00400253, REQUEST_ATTRIBUTES}
)
REQUEST_TAGS: Final = frozenset({0x00400007, 0x00400009, 0x00401001, 0x0020000D, 0x00080050})

# Without these an instance has no place: the scanner looks for them to the end of the data set.
_IDENTITY = frozenset({0x00080016, 0x00080018, 0x0020000D, 0x0020000E})

_WINDOW_BYTES = 16_384
_EXPLICIT = struct.Struct("<I2sH")
_IMPLICIT = struct.Struct("<II")
_LENGTH = struct.Struct("<I")


@dataclass(slots=True)
class ScanResult:
    """What the scanner found.

    `values` holds raw value bytes by tag, numbers as stored (`little_endian` says in which order),
    padding kept; `requests` the items of the Request Attributes Sequence (0040,0275) with their
    `REQUEST_TAGS`. Where a tag comes twice the last one counts. A value longer than the budget is
    left out.
    """

    values: dict[int, bytes] = field(default_factory=dict)
    requests: list[dict[int, bytes]] = field(default_factory=list)
    little_endian: bool = True


class _Plan(NamedTuple):
    little: dict[int, int]  # by the tag as a little endian 32-bit number reads it
    tags: frozenset[int]
    last: int
    guard: int  # the group from which each element gets the closer look
    identity: frozenset[int]


class _Level(NamedTuple):
    """Where the scanner is: a data set, a sequence or a row of fragments. `end` is None where
    undefined.
    """

    kind: int
    tag: int
    end: int | None
    explicit: bool
    little: bool
    plan: _Plan
    sink: dict[int, bytes]


_DATASET, _SEQUENCE, _REQUESTS, _FRAGMENTS = range(4)


@lru_cache(maxsize=32)
def _plan(wanted: frozenset[int]) -> _Plan:
    last = max(wanted, default=0)
    little = {(tag & 0xFFFF) << 16 | tag >> 16: tag for tag in wanted if tag != REQUEST_ATTRIBUTES}
    return _Plan(little, wanted, last, last >> 16, wanted & _IDENTITY)


_NOTHING = _plan(frozenset())


class Scanner:
    """Reads one data set fed in chunks; see `scan` for one that is at hand whole."""

    def __init__(
        self,
        transfer_syntax_uid: str,
        wanted: frozenset[int] = INDEX_TAGS,
        budget: Budget = DEFAULT_BUDGET,
    ) -> None:
        self._declared = encoding_of(transfer_syntax_uid)
        self._inflater = Inflater(budget) if is_deflated(transfer_syntax_uid) else None
        self._budget = budget
        self._plan = _plan(wanted)
        self._found = ScanResult()
        self._done = False
        self._stack: list[_Level] = []
        self._left = budget.max_elements
        self._base = 0  # offset in the data set of the byte that is looked at next
        self._skip = 0  # bytes still to come that nobody wants
        self._tail = bytearray()  # an element that was not there whole
        self._need = 8  # bytes that `_tail` must have before another look is worth it
        self._tag: int | None = None

    @property
    def done(self) -> bool:
        """True where nothing more is needed."""
        return self._done

    def feed(self, chunk: Buffer) -> ScanResult | None:
        """Take the next bytes of the data set; None = more are needed.

        Raises `Invalid('dataset.unreadable', detail=…, offset=…)`. The buffer may be reused when
        this returns.
        """
        if self._done:
            return self._found
        if self._inflater is None:
            self._take(chunk)
        else:
            for piece in self._inflater.feed(chunk):
                self._take(piece)
                if self.done:
                    break
        return self._found if self.done else None

    def finish(self) -> ScanResult:
        """Say that the data set has ended; raises `Invalid('dataset.unreadable')` where it ends
        inside an element.
        """
        if self._done:
            return self._found
        if self._inflater is not None:
            self._inflater.finish()
        if self._skip:
            raise self._error(f"its value goes on for {self._skip} bytes after the end of the data")
        while self._stack and self._stack[-1].end == self._base:
            self._stack.pop()
        if any(self._tail):
            raise self._error(f"{len(self._tail)} bytes at the end are no whole element")
        if len(self._stack) > 1 and self._stack[-1].kind != _FRAGMENTS:
            self._tag = self._stack[-1].tag
            raise self._error("the data end inside a sequence")
        self._done = True
        return self._found

    def _take(self, chunk: Buffer) -> None:
        at, size = 0, len(chunk)
        while at < size and not self._done:
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
                    return
                data, self._tail = bytes(self._tail), bytearray()
            elif at == 0 and isinstance(chunk, bytes):
                data, at = chunk, size
            else:
                data = bytes(chunk[at : at + _WINDOW_BYTES])
                at += len(data)
            self._digest(data)

    def _digest(self, data: bytes) -> None:
        position = self._run(data)
        if self._done:
            return
        if position > len(data):
            self._skip = position - len(data)
            self._base += len(data)
        else:
            self._tail = bytearray(data[position:])
            self._base += position

    def _run(self, data: bytes) -> int:
        """Read elements of `data`; return where the rest begins, beyond its end where bytes are
        to be skipped.
        """
        if not self._stack and not self._begin(data):
            return 0
        position, size = 0, len(data)
        while position < size and not self._done:
            level = self._stack[-1]
            if level.kind == _DATASET and level.end is None and level.little:
                skim = _skim_explicit if level.explicit else _skim_implicit
                position, self._left, tag = skim(
                    data, position, level.plan, level.sink, self._left, self._budget.max_value_bytes
                )
                if tag is not None:
                    self._tag = tag
                if position >= size:
                    break
            after = self._look(data, position)
            if after < 0:
                break
            position = after
        return position

    def _begin(self, data: bytes) -> bool:
        if len(data) < 8:
            self._need = 8
            return False
        explicit, little = detect(data, self._declared)
        self._found.little_endian = little
        self._stack.append(
            _Level(_DATASET, 0, None, explicit, little, self._plan, self._found.values)
        )
        return True

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
        if level.kind == _DATASET:
            return self._element(data, position, level)
        return self._item(data, position, level)

    def _element(self, data: bytes, position: int, level: _Level) -> int:
        header = read_header(data, position, level.explicit, level.little)
        if header is None:
            self._need = 12 if len(data) - position >= 8 else 8
            return -1
        tag = header.tag
        if tag >> 16 == 0xFFFE:
            return self._delimiter(header, position)
        self._tag = tag
        if len(self._stack) == 1 and tag > level.plan.last and self._identified():
            self._done = True
            return position
        start = position + header.size
        if (
            tag == REQUEST_ATTRIBUTES
            and tag in level.plan.tags
            and header.vr in (b"SQ", b"UN", b"")
        ):
            self._open(header, start, level, _REQUESTS)
            return start
        if header.length == UNDEFINED:
            fragments = holds_fragments(tag, header.vr)
            self._open(header, start, level, _FRAGMENTS if fragments else _SEQUENCE)
            return start
        stop = start + header.length
        if tag in level.plan.tags and header.length <= self._budget.max_value_bytes:
            if stop > len(data):
                self._need = stop - position
                return -1
            level.sink[tag] = data[start:stop]
        return stop

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

    def _item(self, data: bytes, position: int, level: _Level) -> int:
        """An item of a sequence, a fragment, or the delimiter behind the last one."""
        if len(data) - position < 8:
            self._need = 8
            return -1
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
        if level.kind == _FRAGMENTS or (header.length != UNDEFINED and level.kind != _REQUESTS):
            return after + header.length
        if header.length >= 8 and len(data) - after < 8:
            self._need = 16  # the first element of the item tells its encoding
            return -1
        self._enter(data[after : after + 8], after, header.length, level, little)
        return after

    def _enter(self, first: bytes, after: int, length: int, level: _Level, little: bool) -> None:
        explicit = level.explicit
        if len(first) == 8 and item_order(first) is None:
            explicit = detect(first, Encoding(level.explicit, little)).explicit
        plan, sink = _NOTHING, dict[int, bytes]()
        if level.kind == _REQUESTS:
            plan = _plan(REQUEST_TAGS)
            self._found.requests.append(sink)
        end = None if length == UNDEFINED else self._base + after + length
        self._push(_Level(_DATASET, level.tag, end, explicit, little, plan, sink))

    def _open(self, header: Header, start: int, level: _Level, kind: int) -> None:
        end = None if header.length == UNDEFINED else self._base + start + header.length
        explicit = level.explicit and header.vr == b"SQ"  # UN holds implicit items, PS3.5 6.2.2
        self._push(_Level(kind, header.tag, end, explicit, level.little, _NOTHING, {}))

    def _push(self, level: _Level) -> None:
        if len(self._stack) > 2 * self._budget.max_depth:
            raise self._error(f"sequences are nested more than {self._budget.max_depth} deep")
        self._stack.append(level)

    def _identified(self) -> bool:
        return self._plan.identity <= self._found.values.keys()

    def _error(self, detail: str, position: int = 0) -> Invalid:
        return unreadable(self._base + position, self._tag, detail)


def scan(
    parts: Sequence[Buffer], transfer_syntax_uid: str, wanted: frozenset[int] = INDEX_TAGS
) -> ScanResult:
    """Scan a whole data set, given in parts; as a rule only the first 16 KiB of the first part are
    looked at.

    Raises `Invalid('dataset.unreadable', detail=…, offset=…)`.
    """
    scanner = Scanner(transfer_syntax_uid, wanted)
    for part in parts:
        result = scanner.feed(part)
        if result is not None:
            return result
    return scanner.finish()


def _skim_explicit(
    data: bytes, position: int, plan: _Plan, sink: dict[int, bytes], budget: int, limit: int
) -> tuple[int, int, int | None]:
    """Pass over simple elements, explicit VR little endian; stop before the first that needs a
    closer look.

    Returns the position (beyond the end of `data` where the last value is unwanted and not there
    whole), what is left of the budget of elements, and the tag of that last value.
    """
    unpack, wanted, guard = _EXPLICIT.unpack_from, plan.little.get, plan.guard
    key, vr, length, start, left = 0, b"", 0, 0, budget
    tag: int | None = None
    try:
        for left in range(budget, 0, -1):  # noqa: B007
            key, vr, length = unpack(data, position)
            if key & 0xFFFF >= guard:
                break
            if vr in SHORT_VRS:
                start = position + 8
            elif length == 0 and vr in LONG_VRS:
                length = _LENGTH.unpack_from(data, position + 8)[0]
                if length == UNDEFINED:
                    break
                start = position + 12
            else:
                break
            tag = wanted(key)
            if tag is not None and length <= limit:
                sink[tag] = data[start : start + length]
            position = start + length
    except struct.error:  # the data end inside a header
        pass
    if position <= len(data):
        return position, left, None
    if tag is not None and length <= limit:  # its value is not there whole
        del sink[tag]
        position = start - (8 if vr in SHORT_VRS else 12)
    return position, left, (key & 0xFFFF) << 16 | key >> 16


def _skim_implicit(
    data: bytes, position: int, plan: _Plan, sink: dict[int, bytes], budget: int, limit: int
) -> tuple[int, int, int | None]:
    """The same as `_skim_explicit` for implicit VR little endian."""
    unpack, wanted, guard = _IMPLICIT.unpack_from, plan.little.get, plan.guard
    key, length, start, left = 0, 0, 0, budget
    tag: int | None = None
    try:
        for left in range(budget, 0, -1):  # noqa: B007
            key, length = unpack(data, position)
            if key & 0xFFFF >= guard or length == UNDEFINED:
                break
            start = position + 8
            tag = wanted(key)
            if tag is not None and length <= limit:
                sink[tag] = data[start : start + length]
            position = start + length
    except struct.error:  # the data end inside a header
        pass
    if position <= len(data):
        return position, left, None
    if tag is not None and length <= limit:
        del sink[tag]
        position = start - 8
    return position, left, (key & 0xFFFF) << 16 | key >> 16
