"""Walk a whole data set, in order and in depth, without recursion: the base of JSON, frames and
comparison.

Source: PS3.5 chapter 7, Annex A; VRs of implicit data sets from PS3.6 and the private dictionaries
of pydicom.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from pydicom.datadict import get_entry, private_dictionary_VR

from dataset.inflate import inflate
from dataset.syntax import (
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    SHORT_VRS,
    UNDEFINED,
    WHOLE_BUDGET,
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

# Kinds of events
VALUE, FRAGMENTS, SEQUENCE, SEQUENCE_CLOSED, ITEM_OPENED, ITEM_CLOSED = range(6)

US_OR_SS: Final = b"xs"  # not a VR: depends on Pixel Representation (0028,0103)

_EXPLICIT = struct.Struct("<HH2sH")
_IMPLICIT = struct.Struct("<HHI")


class Event(NamedTuple):
    """One step of the walk.

    `vr` is resolved, `US_OR_SS` where only Pixel Representation can tell. `offset` and `length`
    (bytes) are those of the value in the data set; for FRAGMENTS from the first item tag up to the
    Sequence Delimitation Item.
    """

    kind: int
    tag: int
    vr: bytes
    offset: int
    length: int
    little: bool


_Step = Event | tuple[int, int, bytes, int, int, bool]


class _Level(NamedTuple):
    is_sequence: bool
    tag: int
    end: int
    closed_by_length: bool
    encoding: Encoding
    creators: dict[int, str]


def plain(
    dataset: Buffer,
    transfer_syntax_uid: str,
    budget: Budget = WHOLE_BUDGET,
    damage: list[Invalid] | None = None,
) -> Buffer:
    """The data set itself, inflated where the transfer syntax says that it is deflated.

    Raises `Invalid('dataset.unreadable')`; where `damage` is given, the error is appended to it and
    what inflated before it is returned.
    """
    if not is_deflated(transfer_syntax_uid):
        return dataset
    pieces: list[bytes] = []
    try:
        pieces.extend(inflate((dataset,), budget))
    except Invalid as error:
        if damage is None:
            raise
        damage.append(error)
    return b"".join(pieces)


def walk(
    dataset: Buffer, transfer_syntax_uid: str, budget: Budget = WHOLE_BUDGET
) -> Iterator[_Step]:
    """Yield the events of a whole data set (not deflated, see `plain`); tuples are laid out as
    `Event`.

    Raises `Invalid('dataset.unreadable', detail=…, offset=…)` where it is truncated, damaged or
    beyond the budget; what came before was yielded.
    """
    state = _Walk(dataset, transfer_syntax_uid, budget)
    while True:
        if state.skim is not None:
            yield from state.skim(dataset, state)
        event = state.step()
        if event is None:
            return
        yield event


def _skim_explicit(data: Buffer, state: _Walk) -> Iterator[_Step]:
    """The simple elements from here on, explicit VR little endian."""
    unpack = _EXPLICIT.unpack_from
    position, end, left = state.position, state.end - 8, state.left
    while position <= end and left:
        group, element, vr, length = unpack(data, position)
        if vr not in SHORT_VRS or position + length > end:
            break
        if group & 1 and element <= 0xFF:
            state.note_creator(group << 16 | element, position + 8, length)
        yield VALUE, group << 16 | element, vr, position + 8, length, True
        position += 8 + length
        left -= 1
    state.position, state.left = position, left


def _skim_implicit(data: Buffer, state: _Walk) -> Iterator[_Step]:
    """The simple elements from here on, implicit VR little endian."""
    unpack = _IMPLICIT.unpack_from
    position, end, left = state.position, state.end - 8, state.left
    while position <= end and left:
        group, element, length = unpack(data, position)
        if group == 0xFFFE or position + length > end:
            break
        tag = group << 16 | element
        vr = state.vr_of(tag) if group & 1 else dictionary_vr(tag)
        if vr == b"SQ":
            break
        if group & 1 and element <= 0xFF:
            state.note_creator(tag, position + 8, length)
        yield VALUE, tag, vr, position + 8, length, True
        position += 8 + length
        left -= 1
    state.position, state.left = position, left


class _Walk:
    def __init__(self, dataset: Buffer, transfer_syntax_uid: str, budget: Budget) -> None:
        self._data = dataset
        self._budget = budget
        self.left = budget.max_elements
        self.position = 0
        self.end = len(dataset)
        self._stack: list[_Level] = []
        self._level = _Level(False, 0, self.end, True, Encoding(True, True), {})
        self.skim: Callable[[Buffer, _Walk], Iterator[_Step]] | None = None
        self._push(
            self._level._replace(encoding=detect(dataset[:8], encoding_of(transfer_syntax_uid)))
        )

    def step(self) -> Event | None:
        """The next event that is not a simple element; None at the end."""
        while True:
            self.left -= 1
            if self.left < 0:
                raise self._error(f"it has more than {self._budget.max_elements} elements")
            if self.position >= self._level.end:
                return self._close_at_end()
            event = self._item() if self._level.is_sequence else self._element()
            if event is not None:
                return event

    def _element(self) -> Event | None:
        level, start = self._level, self.position
        header = read_header(self._data, start, *level.encoding)
        if header is None:
            if any(self._data[start : level.end]):
                raise self._error(f"{level.end - start} bytes at the end are no whole element")
            self.position = level.end
            return None
        if header.tag >> 16 == 0xFFFE:
            return self._delimiter(header)
        offset = start + header.size
        if header.length == UNDEFINED:
            return self._undefined(header, offset)
        if offset + header.length > level.end:
            over = offset + header.length - level.end
            raise unreadable(
                start, header.tag, f"its value goes on for {over} bytes after the end of the data"
            )
        vr = header.vr
        if not vr or vr == b"UN":  # PS3.5 6.2.2
            vr = self.vr_of(header.tag)
        if vr == b"SQ" and (header.length == 0 or self._is_item(offset, header.length)):
            explicit = level.encoding.explicit and header.vr == b"SQ"
            self._open(header, offset, offset + header.length, explicit)
            return Event(SEQUENCE, header.tag, vr, offset, header.length, level.encoding.little)
        self.position = offset + header.length
        if header.tag >> 16 & 1 and header.tag & 0xFFFF <= 0xFF:
            self.note_creator(header.tag, offset, header.length)
        little = level.encoding.little or header.vr == b"UN"
        vr = b"UN" if vr == b"SQ" else vr  # no item inside
        return Event(VALUE, header.tag, vr, offset, header.length, little)

    def _undefined(self, header: Header, offset: int) -> Event:
        level = self._level
        if holds_fragments(header.tag, header.vr):
            end, self.position = self._past_fragments(header.tag, offset)
            vr = header.vr or b"OB"
            return Event(FRAGMENTS, header.tag, vr, offset, end - offset, level.encoding.little)
        self._open(header, offset, level.end, level.encoding.explicit and header.vr == b"SQ")
        return Event(SEQUENCE, header.tag, b"SQ", offset, UNDEFINED, level.encoding.little)

    def _open(self, header: Header, offset: int, end: int, explicit: bool) -> None:
        by_length = header.length != UNDEFINED
        encoding = Encoding(explicit, self._level.encoding.little)
        self._push(_Level(True, header.tag, end, by_length, encoding, {}))
        self.position = offset

    def _item(self) -> Event | None:
        level, start = self._level, self.position
        header = None
        little = item_order(self._data[start : start + 2]) if level.end - start >= 8 else None
        if little is not None:
            header = read_header(self._data, start, False, little)
        if header is None or little is None:
            raise self._error("an item was expected in the sequence")
        self.position = start + 8
        if header.tag == SEQUENCE_END:
            return self._close(SEQUENCE_CLOSED)
        if header.tag == ITEM_END:
            return None
        end = level.end if header.length == UNDEFINED else self.position + header.length
        if end > level.end:
            level = self._stretched(end)
        first = self._data[self.position : min(self.position + 8, end)]
        explicit = level.encoding.explicit
        if len(first) == 8 and item_order(first) is None:
            explicit = detect(first, Encoding(explicit, little)).explicit
        by_length = header.length != UNDEFINED
        self._push(_Level(False, level.tag, end, by_length, Encoding(explicit, little), {}))
        return Event(ITEM_OPENED, ITEM, b"", self.position, header.length, little)

    def _stretched(self, end: int) -> _Level:
        """The open sequence, made longer for its last item: some writers count one item too few."""
        if end > self._stack[-2].end:
            over = end - self._level.end
            raise self._error(f"the item goes on for {over} bytes after the end of its sequence")
        level = self._stack[-1] = self._level._replace(end=end)
        self._enter(level)
        return level

    def _delimiter(self, header: Header) -> Event | None:
        if len(self._stack) == 1:  # stray, at the top: of no meaning
            self.position += 8 + (header.length if header.length != UNDEFINED else 0)
            return None
        if header.tag == ITEM_END:
            self.position += 8
        elif header.tag not in (ITEM, SEQUENCE_END):
            raise self._error("an unknown delimiter stands in an item")
        return self._close(ITEM_CLOSED)

    def _close_at_end(self) -> Event | None:
        level = self._level
        if len(self._stack) == 1:
            return None
        if not level.closed_by_length and self.position >= len(self._data):
            raise unreadable(self.position, level.tag, "the data end inside a sequence")
        return self._close(SEQUENCE_CLOSED if level.is_sequence else ITEM_CLOSED)

    def _close(self, kind: int) -> Event:
        closed = self._stack.pop()
        self._enter(self._stack[-1])
        tag = SEQUENCE_END if kind == SEQUENCE_CLOSED else ITEM_END
        return Event(kind, tag, b"", self.position, 0, closed.encoding.little)

    def _push(self, level: _Level) -> None:
        if len(self._stack) > 2 * self._budget.max_depth:
            raise self._error(f"sequences are nested more than {self._budget.max_depth} deep")
        self._stack.append(level)
        self._enter(level)

    def _enter(self, level: _Level) -> None:
        self._level = level
        self.end = level.end
        explicit, little = level.encoding
        self.skim = None
        if little and not level.is_sequence:
            self.skim = _skim_explicit if explicit else _skim_implicit

    def _past_fragments(self, tag: int, offset: int) -> tuple[int, int]:
        """Where the fragments end, and where the next element begins."""
        position, size = offset, len(self._data)
        for _, kind, start, length in fragments(self._data, offset):
            if kind == SEQUENCE_END:
                return start, start + 8
            position = start + 8 + length
            self.left -= 1
            if position > size or self.left < 0:
                raise unreadable(
                    start, tag, f"a fragment of {length} bytes goes on after the end of the data"
                )
        if position == size:  # many files lack the last delimiter
            return size, size
        raise unreadable(position, tag, "a fragment was expected")

    def vr_of(self, tag: int) -> bytes:
        """The VR of the dictionary, or of the private dictionary by the creator of this data
        set.
        """
        if not tag >> 16 & 1:
            return dictionary_vr(tag)
        element = tag & 0xFFFF
        if element <= 0xFF:
            return b"LO" if element >= 0x10 else b"UN"
        creator = self._level.creators.get(tag >> 16 << 16 | element >> 8)
        return b"UN" if creator is None else private_vr(tag, creator)

    def _is_item(self, offset: int, length: int) -> bool:
        return length >= 8 and item_order(self._data[offset : offset + 2]) is not None

    def note_creator(self, tag: int, offset: int, length: int) -> None:
        """Remember a Private Creator (PS3.5 7.8.1)."""
        raw = bytes(self._data[offset : offset + min(length, 64)])
        self._level.creators[tag] = raw.decode("latin-1").strip(" \0")

    def _error(self, detail: str) -> Invalid:
        return unreadable(self.position, self._level.tag or None, detail)


def fragments(data: Buffer, offset: int) -> Iterator[tuple[bool, int, int, int]]:
    """Yield (little, tag, offset of the item tag, length) of each fragment from `offset` on, and
    the delimiter.

    Ends with the delimiter, or without it where no item follows or the data end.
    """
    position, size = offset, len(data)
    while position + 8 <= size:
        little = item_order(data[position : position + 2])
        if little is None:
            return
        header = read_header(data, position, False, little)
        if header is None or header.tag not in (ITEM, SEQUENCE_END):
            return
        yield little, header.tag, position, header.length
        if header.tag == SEQUENCE_END:
            return
        position += 8 + header.length


@lru_cache(maxsize=8192)
def dictionary_vr(tag: int) -> bytes:
    """The VR that PS3.6 gives a tag; UN where it does not know it, `US_OR_SS` where both are
    possible.
    """
    if tag & 0xFFFF == 0:
        return b"UL"
    try:
        vr = str(get_entry(tag)[0])
    except KeyError:
        return b"UN"
    if "OW" in vr:  # implicit: PS3.5 A.1
        return b"OW"
    return US_OR_SS if vr == "US or SS" else vr.encode("ascii")


@lru_cache(maxsize=8192)
def private_vr(tag: int, creator: str) -> bytes:
    """The VR that a private element has by its creator; UN where it is not known."""
    try:
        vr = str(private_dictionary_VR(tag, creator))
    except KeyError:
        return b"UN"
    if "OW" in vr:
        return b"OW"
    return US_OR_SS if " or " in vr else vr.encode("ascii")
