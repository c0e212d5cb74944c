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
    LONG_VRS,
    SHORT_VRS,
    UNDEFINED,
    Budget,
    Buffer,
    Header,
    is_deflated,
)
from dataset.walker import COLLECTED, MORE, Level, Walker

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

_EXPLICIT = struct.Struct("<HHHH")
_IMPLICIT = struct.Struct("<HHI")
_LENGTH = struct.Struct("<I")
# Value representations as the little endian number that stands in the header: no object to hash.
_SHORT = frozenset(int.from_bytes(vr, "little") for vr in SHORT_VRS)
_LONG = frozenset(int.from_bytes(vr, "little") for vr in LONG_VRS)
_BEYOND = 0x10000  # no element number
_NO_GROUP: dict[int, int] = {}


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
    groups: dict[int, dict[int, int]]  # wanted tags by group and element number
    tags: frozenset[int]
    last: int
    guard: tuple[int, int]  # group and element number from which each gets the closer look
    identity: frozenset[int]


@lru_cache(maxsize=32)
def _plan(wanted: frozenset[int]) -> _Plan:
    last = max(wanted, default=0)
    groups: dict[int, dict[int, int]] = {}
    for tag in wanted - {REQUEST_ATTRIBUTES}:
        groups.setdefault(tag >> 16, {})[tag & 0xFFFF] = tag
    closer = min(last, REQUEST_ATTRIBUTES) if REQUEST_ATTRIBUTES in wanted else last
    guard = (closer >> 16, closer & 0xFFFF) if wanted else (0xFFFE, 0)
    return _Plan(groups, wanted, last, guard, wanted & _IDENTITY)


_NOTHING = _plan(frozenset())
_REQUEST_PLAN = _plan(REQUEST_TAGS)


class Scanner(Walker):
    """Reads one data set fed in chunks; see `scan` for one that is at hand whole."""

    def __init__(
        self,
        transfer_syntax_uid: str,
        wanted: frozenset[int] = INDEX_TAGS,
        budget: Budget = DEFAULT_BUDGET,
    ) -> None:
        super().__init__(transfer_syntax_uid, budget)
        self._inflater = Inflater(budget) if is_deflated(transfer_syntax_uid) else None
        self._plan = _plan(wanted)
        self._found = ScanResult()

    def feed(self, chunk: Buffer) -> ScanResult | None:
        """Take the next bytes of the data set; None = more are needed.

        Raises `Invalid('dataset.unreadable', detail=…, offset=…)`. The buffer may be reused when
        this returns.
        """
        pieces = (chunk,) if self._inflater is None else self._inflater.feed(chunk)
        for piece in pieces:
            if self.take(piece):
                return self._found
        return None

    def finish(self) -> ScanResult:
        """Say that the data set has ended; raises `Invalid('dataset.unreadable')` where it is
        cut off.
        """
        if not self.done:
            if self._inflater is not None:
                self._inflater.finish()
            self.end()
            self.done = True
        return self._found

    def _top(self, explicit: bool, little: bool) -> Level:
        self._found.little_endian = little
        return super()._top(explicit, little)._replace(sink=self._found.values)

    def _item_sink(self) -> dict[int, bytes]:
        self._found.requests.append({})
        return self._found.requests[-1]

    def _plan_of(self, level: Level) -> _Plan:
        if level.sink is None:
            return _NOTHING
        return self._plan if len(self._stack) == 1 else _REQUEST_PLAN

    def _skim(self, data: bytes, position: int, level: Level) -> int:
        skim = _skim_explicit if level.explicit else _skim_implicit
        sink = {} if level.sink is None else level.sink
        if level.end is not None and level.end - self._base < len(data):
            data = data[: level.end - self._base]
        position, self._left, tag = skim(
            data, position, self._plan_of(level), sink, self._left, self._budget.max_value_bytes
        )
        if tag is not None:
            self._tag = tag
        return position

    def _met(self, header: Header, data: bytes, position: int, level: Level) -> int | None:
        plan, tag = self._plan_of(level), header.tag
        if len(self._stack) == 1 and tag > plan.last and plan.identity <= self._found.values.keys():
            self.done = True
            return position
        if level.sink is None or tag not in plan.tags:
            return None
        start = position + header.size
        if tag == REQUEST_ATTRIBUTES and header.vr in (b"SQ", b"UN", b""):
            self._open(header, start, level, COLLECTED)
            return start
        if header.length > self._budget.max_value_bytes:  # undefined ones too
            return None
        stop = start + header.length
        if stop > len(data):
            self._need = stop - position
            return MORE
        level.sink[tag] = data[start:stop]
        return stop


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


def _closer(group: int, plan: _Plan) -> int:
    """The element number in `group` from which each element gets the closer look."""
    if group < plan.guard[0]:
        return _BEYOND
    return plan.guard[1] if group == plan.guard[0] else 0


def _skim_explicit(  # noqa: C901 - a call for each element would cost more than the element
    data: bytes, position: int, plan: _Plan, sink: dict[int, bytes], budget: int, limit: int
) -> tuple[int, int, int | None]:
    """Pass over simple elements, explicit VR little endian; stop before the first that needs a
    closer look.

    Returns the position (beyond the end of `data` where the last value is unwanted and not there
    whole), what is left of the budget of elements, and the tag of that last value.
    """
    unpack, groups = _EXPLICIT.unpack_from, plan.groups
    current, wanted, closer = -1, _NO_GROUP.get, _BEYOND
    group, element, vr, length, start, left = 0, 0, 0, 0, 0, budget
    tag: int | None = None
    try:
        for left in range(budget, 0, -1):  # noqa: B007
            group, element, vr, length = unpack(data, position)
            if group != current:
                current, wanted = group, groups.get(group, _NO_GROUP).get
                closer = _closer(group, plan)
            if element >= closer:
                break
            if vr in _SHORT:
                start = position + 8
            elif length == 0 and vr in _LONG:
                length = _LENGTH.unpack_from(data, position + 8)[0]
                if length == UNDEFINED:
                    break
                start = position + 12
            else:
                break
            tag = wanted(element)
            if tag is not None and length <= limit:
                sink[tag] = data[start : start + length]
            position = start + length
    except struct.error:  # the data end inside a header
        pass
    if position <= len(data):
        return position, left, None
    if tag is not None and length <= limit:  # its value is not there whole
        del sink[tag]
        position = start - (8 if vr in _SHORT else 12)
    return position, left, group << 16 | element


def _skim_implicit(
    data: bytes, position: int, plan: _Plan, sink: dict[int, bytes], budget: int, limit: int
) -> tuple[int, int, int | None]:
    """The same as `_skim_explicit` for implicit VR little endian."""
    unpack, groups = _IMPLICIT.unpack_from, plan.groups
    current, wanted, closer = -1, _NO_GROUP.get, _BEYOND
    group, element, length, start, left = 0, 0, 0, 0, budget
    tag: int | None = None
    try:
        for left in range(budget, 0, -1):  # noqa: B007
            group, element, length = unpack(data, position)
            if group != current:
                current, wanted = group, groups.get(group, _NO_GROUP).get
                closer = _closer(group, plan)
            if element >= closer or length == UNDEFINED:
                break
            start = position + 8
            tag = wanted(element)
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
    return position, left, group << 16 | element
