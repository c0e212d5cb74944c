"""Layouts: where the elements of a data set lie, remembered from the last one that looked alike.

A modality writes one instance of a series after the other with the same elements; only values
change, and the lengths of a few. Whether a new data set has the headers of a known one is a
comparison of two long numbers under a mask, which costs a tenth of reading header by header. Where
only the length of one element differs, that element is known to vary from then on; where anything
else does, the scanner reads it, and what it found is the next layout.

The result is that of `dataset.scanner.scan`: what the scanner decides depends on headers alone, and
every header up to its end is compared.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import itemgetter
from struct import Struct
from typing import Any, NamedTuple

from dataset.scanner import REQUEST_ATTRIBUTES, Scanner, ScanResult, scan
from dataset.syntax import (
    DEFAULT_BUDGET,
    SHORT_VRS,
    UNDEFINED,
    Buffer,
    Encoding,
    Header,
    encoding_of,
    is_deflated,
)
from dataset.walker import Level
from kernel.errors import Invalid

_WINDOW_BYTES = 16_384
_MOST_VARYING = 32  # elements; a layout with more is not worth its comparison
_LAYOUTS = 3  # of one key: a scanner makes localisers between slices
_KEYS = 64
_PATIENCE = 32  # data sets that are just scanned after one that no layout was learnt from in vain
_READ = Encoding(explicit=True, little=True)
_SHORT_LENGTH, _LONG_LENGTH = Struct("<H"), Struct("<I")


class _Element(NamedTuple):
    """A top level element: `opaque` ones (with items to look into) must be the same to the byte."""

    start: int
    header_bytes: int
    length: int
    tag: int
    opaque: bool


class _Run(NamedTuple):
    """Elements of fixed length in a row, then one whose length varies (None after the last)."""

    size: int
    head: int  # the bytes as a little endian number
    mask: int  # ones where headers stand
    tags: tuple[int, ...]
    pick: Callable[[bytes], Sequence[bytes]]
    first: int  # number of its first element
    varying: _Element | None
    prefix: bytes  # tag, VR and reserved bytes of the varying element
    wanted: bool


class Layout:
    """The layout of one explicit VR little endian data set; see `learn`."""

    def __init__(
        self, data: bytes, elements: Sequence[_Element], end: int, found: ScanResult
    ) -> None:
        self._data = data
        self._elements = elements
        self._starts = [one.start for one in elements]
        self._end = end
        self._stop = data[end : end + 4]  # the tag at which the scanner had enough
        self._wanted = set(found.values)
        self._requests = found.requests
        self._varying: set[int] = set()
        self._runs = self._compile()
        self.hits = 0

    def read(self, data: bytes) -> ScanResult | None:
        """What the scanner would find in `data`; None where its headers are others."""
        for _ in range(_MOST_VARYING):
            found, differs = self._read(data)
            if differs is None:
                return found
            if not self._learn_varying(*differs, data):
                return None
        return None

    def _read(self, data: bytes) -> tuple[ScanResult | None, tuple[_Run, int, int] | None]:
        """The result; or the run that does not fit, where it lies and how it differs."""
        values: dict[int, bytes] = {}
        at = 0
        for run in self._runs:
            piece = data[at : at + run.size]
            differs = (int.from_bytes(piece, "little") ^ run.head) & run.mask
            if differs or len(piece) != run.size:
                return None, (run, at, differs)
            if run.tags:
                values.update(zip(run.tags, run.pick(piece), strict=True))
            at += run.size
            if run.varying is None:
                break
            start = at + run.varying.header_bytes
            if data[at : at + len(run.prefix)] != run.prefix or start > len(data):
                return None, None
            if run.varying.header_bytes == 8:
                (length,) = _SHORT_LENGTH.unpack_from(data, at + 6)
            else:
                (length,) = _LONG_LENGTH.unpack_from(data, at + 8)
            if length > DEFAULT_BUDGET.max_value_bytes:
                return None, None
            at = start + length
            if run.wanted:
                values[run.varying.tag] = data[start:at]
        if data[at : at + 4] != self._stop or at + 12 > len(data):  # a header must be there whole
            return None, None
        return ScanResult(values, [dict(one) for one in self._requests]), None

    def _learn_varying(self, run: _Run, at: int, differs: int, data: bytes) -> bool:
        """Whether the first difference is the length of one element, which varies from now on."""
        if not differs:
            return False
        begin = self._starts[run.first]
        place = begin + ((differs & -differs).bit_length() - 1) // 8
        number = bisect_right(self._starts, place) - 1
        element = self._elements[number]
        where = at + element.start - begin
        fixed = 6 if element.header_bytes == 8 else 8
        if element.opaque or place - element.start < fixed or len(self._varying) >= _MOST_VARYING:
            return False
        if data[where : where + fixed] != self._data[element.start : element.start + fixed]:
            return False
        self._varying.add(number)
        self._runs = self._compile()
        return True

    def _compile(self) -> list[_Run]:
        runs, first = [], 0
        for number in [*sorted(self._varying), None]:
            stop = len(self._elements) if number is None else number
            runs.append(self._run(first, stop, None if number is None else self._elements[number]))
            first = stop + 1
        return runs

    def _run(self, first: int, stop: int, varying: _Element | None) -> _Run:
        elements = self._elements[first:stop]
        begin = self._starts[first] if first < len(self._starts) else self._end
        end = varying.start if varying is not None else self._end
        mask = bytearray(end - begin)
        slices: dict[int, slice] = {}
        for one in elements:
            at = one.start - begin
            value = at + one.header_bytes
            stop_at = value + one.length if not one.opaque else self._stop_of(one) - begin
            mask[at : stop_at if one.opaque else value] = b"\xff" * (
                (stop_at if one.opaque else value) - at
            )
            if one.tag in self._wanted and not one.opaque:
                slices[one.tag] = slice(value, stop_at)
        prefix = b""
        if varying is not None:
            fixed = 6 if varying.header_bytes == 8 else 8
            prefix = self._data[varying.start : varying.start + fixed]
        return _Run(
            end - begin,
            int.from_bytes(self._data[begin:end], "little"),
            int.from_bytes(mask, "little"),
            tuple(slices),
            _picker(list(slices.values())),
            first,
            varying,
            prefix,
            varying is not None and varying.tag in self._wanted,
        )

    def _stop_of(self, element: _Element) -> int:
        following = bisect_right(self._starts, element.start)
        return self._starts[following] if following < len(self._starts) else self._end


def _picker(slices: Sequence[slice]) -> Callable[[bytes], Sequence[bytes]]:
    if len(slices) == 1:
        only = slices[0]
        return lambda piece: (piece[only],)
    picks: Any = itemgetter(*slices) if slices else tuple
    return picks  # type: ignore[no-any-return]


class _Survey(Scanner):
    """A scanner that notes each element of the top level."""

    def __init__(self, transfer_syntax_uid: str) -> None:
        super().__init__(transfer_syntax_uid)
        self.elements: list[_Element] = []
        self.plain = True

    def _skim(self, data: bytes, position: int, level: Level) -> int:
        return position

    def _met(self, header: Header, data: bytes, position: int, level: Level) -> int | None:
        after = super()._met(header, data, position, level)
        if len(self._stack) == 1 + (header.tag == REQUEST_ATTRIBUTES and not self.done):
            self.plain &= level.explicit and level.little and bool(header.vr)
            opaque = header.length == UNDEFINED or header.tag == REQUEST_ATTRIBUTES
            short = header.vr in SHORT_VRS
            self.plain &= short == (header.size == 8)
            self.elements.append(_Element(position, header.size, header.length, header.tag, opaque))
        return after


def learn(data: bytes, transfer_syntax_uid: str) -> Layout | None:
    """The layout of a data set that the scanner has read within `data`; None where it has none
    that is worth remembering.
    """
    survey = _Survey(transfer_syntax_uid)
    try:
        found = survey.feed(data)
    except Invalid:
        return None
    if found is None or not survey.plain or len(survey.elements) < 2:
        return None
    *elements, last = survey.elements  # the last one is where the scanner stopped
    if not _contiguous(survey.elements):
        return None
    layout = Layout(data, elements, last.start, found)
    return layout if layout.read(data) == found else None


def _contiguous(elements: Sequence[_Element]) -> bool:
    """Whether each element begins where the one before it ends: no stray delimiter between."""
    return elements[0].start == 0 and all(
        one.opaque or one.start + one.header_bytes + one.length == following.start
        for one, following in pairwise(elements)
    )


@dataclass(slots=True)
class _Known:
    """The layouts of one key, the one that fitted last first."""

    layouts: list[Layout] = field(default_factory=list)
    rest: int = 0  # data sets to let pass before another layout is learnt


class Layouts:
    """Reads data sets by the layouts of those before them; `key` tells apart who sends what."""

    def __init__(self) -> None:
        self._known: dict[Hashable, _Known] = {}

    def scan(self, key: Hashable, parts: Sequence[Buffer], transfer_syntax_uid: str) -> ScanResult:
        """As `dataset.scanner.scan`, with its errors."""
        if encoding_of(transfer_syntax_uid) != _READ or is_deflated(transfer_syntax_uid):
            return scan(parts, transfer_syntax_uid)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = _Known()
            while len(self._known) > _KEYS:
                del self._known[next(iter(self._known))]
        data = bytes(parts[0][:_WINDOW_BYTES]) if parts else b""
        for place, layout in enumerate(known.layouts):
            found = layout.read(data)
            if found is not None:
                layout.hits += 1
                if place:
                    known.layouts.insert(0, known.layouts.pop(place))
                return found
        found = scan(parts, transfer_syntax_uid)
        self._remember(known, data, transfer_syntax_uid)
        return found

    def _remember(self, known: _Known, data: bytes, transfer_syntax_uid: str) -> None:
        if known.rest:
            known.rest -= 1
            return
        layout = learn(data, transfer_syntax_uid)
        if layout is None:
            known.rest = _PATIENCE
            return
        known.layouts.insert(0, layout)
        if len(known.layouts) > _LAYOUTS and not known.layouts.pop().hits:
            known.rest = _PATIENCE
