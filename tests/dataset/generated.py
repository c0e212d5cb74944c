"""Data sets made from a seed, with an encoder of their own, so that what must be read is known.

A model is a list of (tag, VR, value) in tag order; a value is a tuple of numbers with numeric VRs,
bytes with others, a list of models (the items) with SQ, `Fragments` with encapsulated pixel data.
"""

from __future__ import annotations

import random
import struct
import zlib
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import dictionary_VR

from dataset.scanner import INDEX_TAGS, REQUEST_ATTRIBUTES, REQUEST_TAGS
from dataset.syntax import LONG_VRS

IMPLICIT, EXPLICIT, DEFLATED, BIG, JPEG = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.50",
)
SYNTAXES = (IMPLICIT, EXPLICIT, DEFLATED, BIG, JPEG)

Model = list[tuple[int, str, Any]]

NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}
_OTHERS = (
    0x00080012, 0x00080013, 0x00080064, 0x00081080, 0x00082111, 0x00101001, 0x001021B0, 0x00102203,
    0x00180050, 0x00180088, 0x00181110, 0x00181150, 0x00189087, 0x00189219, 0x00200032, 0x00200037,
    0x00201041, 0x00204000, 0x00280030, 0x00280102, 0x00281052, 0x00282000, 0x0032000A, 0x00321060,
    0x00380010, 0x00400254, 0x00402016,
)  # fmt: skip
_SEQUENCES = (0x00081111, 0x00081140, 0x00082218, 0x00101002, 0x00189346, 0x00321064, 0x00400260)
_IDENTITY = (0x00080016, 0x00080018, 0x0020000D, 0x0020000E)


@dataclass(frozen=True)
class Fragments:
    items: tuple[bytes, ...]


@dataclass(frozen=True)
class Made:
    """A data set, what it says, and how it is encoded. `has_un` where an element hides its VR."""

    seed: int
    model: Model
    data: bytes
    transfer_syntax_uid: str
    has_un: bool

    @property
    def little(self) -> bool:
        return self.transfer_syntax_uid != BIG


def make(seed: int, transfer_syntax_uid: str | None = None) -> Made:
    rng = random.Random(seed)
    syntax = transfer_syntax_uid or SYNTAXES[seed % len(SYNTAXES)]
    model = _model(rng, syntax)
    writer = Writer(random.Random(seed + 1), syntax)
    return Made(seed, model, writer.write(model), syntax, writer.has_un)


def _model(rng: random.Random, syntax: str) -> Model:
    tags = set(
        rng.sample(sorted(INDEX_TAGS - {REQUEST_ATTRIBUTES, 0x00080005}), rng.randint(0, 30))
    )
    tags |= set(_IDENTITY) if rng.random() < 0.9 else set()
    tags |= set(rng.sample(_OTHERS, rng.randint(0, 12)))
    model: Model = [(tag, *_value(rng, tag)) for tag in tags]
    for tag in rng.sample(_SEQUENCES, rng.randint(0, 3)):
        model.append((tag, "SQ", _items(rng, 0)))
    if rng.random() < 0.4:
        items = []
        for _ in range(rng.randint(0, 3)):
            inner = rng.sample(sorted(REQUEST_TAGS), rng.randint(0, 5))
            item: Model = [(tag, *_value(rng, tag)) for tag in inner]
            if rng.random() < 0.5:
                item.append((0x00400008, "SQ", _items(rng, 2)))
            items.append(sorted(item))
        model.append((REQUEST_ATTRIBUTES, "SQ", items))
    if rng.random() < 0.5:
        model += _private(rng)
    if rng.random() < 0.6:
        model.append(_pixels(rng, syntax))
    return sorted(model, key=lambda element: element[0])


def _pixels(rng: random.Random, syntax: str) -> tuple[int, str, Any]:
    if syntax == JPEG:
        count = rng.randint(1, 4)
        items = [rng.randbytes(2 * rng.randint(0, 40)) for _ in range(count)]
        return 0x7FE00010, "OB", Fragments((b"", *items))
    return 0x7FE00010, "OW", rng.randbytes(2 * rng.randint(0, 400))


def _private(rng: random.Random) -> Model:
    group = rng.choice((0x0009, 0x0019, 0x0029, 0x7FE1))
    base = group << 16
    elements: Model = [(base | 0x10, "LO", b"YUNYING TEST")]
    elements.append((base | 0x1001, "LO", _text(rng, 20)))
    elements.append((base | 0x1002, "OB", rng.randbytes(2 * rng.randint(0, 30))))
    if rng.random() < 0.5:
        elements.append((base | 0x1003, "SQ", _items(rng, 1)))
    return elements


def _items(rng: random.Random, depth: int) -> list[Model]:
    items = []
    for _ in range(rng.randint(0, 3)):
        tags = rng.sample(_OTHERS, rng.randint(0, 4)) + rng.sample(_IDENTITY, rng.randint(0, 2))
        item: Model = [(tag, *_value(rng, tag)) for tag in tags]
        if depth < 4 and rng.random() < 0.35:
            item.append((rng.choice(_SEQUENCES), "SQ", _items(rng, depth + 1)))
        items.append(sorted(item, key=lambda element: element[0]))
    return items


def _value(rng: random.Random, tag: int) -> tuple[str, Any]:
    vr = dictionary_VR(tag)
    empty = rng.random() < 0.12 and tag not in _IDENTITY
    if vr in NUMBERS:
        number = rng.random() if vr in ("FL", "FD") else rng.randint(0, 100)
        if vr == "FL":
            number = struct.unpack("<f", struct.pack("<f", number))[0]
        return vr, () if empty else (number,) * rng.randint(1, 3)
    if empty:
        return vr, b""
    if vr == "UI":
        uid = f"1.2.{rng.randint(1, 10**12)}.{rng.randint(1, 10**6)}".encode()
        return vr, uid + b"\0" * (len(uid) % 2)
    if vr == "DS":
        return vr, _even("\\".join(f"{rng.uniform(-9, 9):.3f}" for _ in range(rng.randint(1, 3))))
    if vr == "IS":
        return vr, _even(str(rng.randint(-5, 5000)))
    if vr == "DA":
        return vr, b"20261122"
    if vr == "TM":
        return vr, _even(f"{rng.randint(0, 23):02}5959.{rng.randint(0, 999999):06}")
    if vr == "PN":
        return vr, _even("Wang^" + _text(rng, 8).decode().strip() + "=Yi")
    return vr, _text(rng, 60 if vr == "LT" else 14)


def _text(rng: random.Random, most: int) -> bytes:
    return _even("".join(rng.choices("ABCDEFGH 0123", k=rng.randint(1, most))).strip() or "X")


def _even(text: str) -> bytes:
    raw = text.encode("ascii")
    return raw + b" " * (len(raw) % 2)


class Writer:
    """Encodes a model; lengths of sequences and items are defined or not as the dice fall."""

    def __init__(
        self, rng: random.Random, transfer_syntax_uid: str, un_share: float = 0.05
    ) -> None:
        self.rng = rng
        self.syntax = transfer_syntax_uid
        self.un_share = un_share if transfer_syntax_uid != IMPLICIT else 0.0
        self.has_un = False

    def write(self, model: Model) -> bytes:
        data = self._dataset(model, self.syntax != IMPLICIT, self.syntax != BIG)
        if self.syntax != DEFLATED:
            return data
        packed = zlib.compress(data, wbits=-15)
        return packed + b"\0" * (len(packed) % 2)

    def element(self, tag: int, vr: str, value: Any) -> bytes:
        """One element as it stands in a data set of this transfer syntax, never as UN."""
        share, self.un_share = self.un_share, 0.0
        raw = self._element(tag, vr, value, self.syntax != IMPLICIT, self.syntax != BIG)
        self.un_share = share
        return raw

    def _dataset(self, model: Model, explicit: bool, little: bool) -> bytes:
        return b"".join(self._element(*element, explicit, little) for element in model)

    def _element(self, tag: int, vr: str, value: Any, explicit: bool, little: bool) -> bytes:
        if isinstance(value, Fragments):
            items = (self._tag(0xFFFEE000, len(raw), little) + raw for raw in value.items)
            body = b"".join(items) + self._tag(0xFFFEE0DD, 0, little)
            return self._header(tag, vr, 0xFFFFFFFF, explicit, little) + body
        if explicit and tag >> 16 != 0x7FE0 and self.rng.random() < self.un_share:
            self.has_un = True
            return self._unknown(tag, vr, value, little)
        if vr == "SQ":
            return self._sequence(tag, vr, value, explicit, little, little)
        if vr in NUMBERS:
            value = struct.pack(f"{'<' if little else '>'}{len(value)}{NUMBERS[vr]}", *value)
        elif vr == "OW" and not little:
            value = struct.pack(
                f">{len(value) // 2}H", *struct.unpack(f"<{len(value) // 2}H", value)
            )
        raw = bytes(value)
        return self._header(tag, vr, len(raw), explicit, little) + raw

    def _unknown(self, tag: int, vr: str, value: Any, little: bool) -> bytes:
        """VR UN: the value is as in implicit VR little endian (PS3.5 6.2.2)."""
        if vr == "SQ":
            return self._sequence(tag, "UN", value, True, little, True)
        raw = self._element(tag, vr, value, False, True)[8:]
        return self._header(tag, "UN", len(raw), True, little) + raw

    def _sequence(
        self, tag: int, vr: str, items: list[Model], explicit: bool, little: bool, inner: bool
    ) -> bytes:
        body = b""
        for item in items:
            raw = self._dataset(item, explicit and vr != "UN", inner)
            if self.rng.random() < 0.5:
                body += self._tag(0xFFFEE000, len(raw), inner) + raw
            else:
                body += self._tag(0xFFFEE000, 0xFFFFFFFF, inner) + raw
                body += self._tag(0xFFFEE00D, 0, inner)
        if self.rng.random() < 0.5:
            return self._header(tag, vr, len(body), explicit, little) + body
        end = self._tag(0xFFFEE0DD, 0, inner)
        return self._header(tag, vr, 0xFFFFFFFF, explicit, little) + body + end

    def _header(self, tag: int, vr: str, length: int, explicit: bool, little: bool) -> bytes:
        order = "<" if little else ">"
        if not explicit:
            return struct.pack(f"{order}HHI", tag >> 16, tag & 0xFFFF, length)
        if vr.encode() in LONG_VRS:
            return struct.pack(f"{order}HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode(), 0, length)
        return struct.pack(f"{order}HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), length)

    @staticmethod
    def _tag(tag: int, length: int, little: bool) -> bytes:
        return struct.pack("<HHI" if little else ">HHI", tag >> 16, tag & 0xFFFF, length)
