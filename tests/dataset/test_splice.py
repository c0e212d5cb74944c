"""Splice: what is edited changes, and not one byte else."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dataset.elements import plain
from dataset.part10 import parse_head
from dataset.splice import splice
from dataset.syntax import DEFAULT_BUDGET
from kernel.errors import Invalid
from tests.dataset.generated import BIG, DEFLATED, EXPLICIT, IMPLICIT, Model, Writer, make

_PATIENT_ID, _COMMENTS = 0x00100020, 0x00104000


def _chunks(data: bytes, rng: random.Random) -> Iterator[bytes | memoryview]:
    most = rng.choice((1, 5, 50, 1000, 1 << 20))
    at = 0
    while at < len(data):
        size = rng.randint(1, most)
        yield memoryview(data)[at : at + size]
        at += size


def _spliced(
    data: bytes, syntax: str, edits: Mapping[int, bytes | None], rng: random.Random
) -> bytes:
    return b"".join(splice(_chunks(data, rng), syntax, edits))


def _without(model: Model, tags: set[int]) -> Model:
    return [element for element in model if element[0] not in tags]


class _Pieces:
    """A data set encoded element by element, so that the expected bytes can be put together."""

    def __init__(self, seed: int) -> None:
        self.made = make(seed)
        rng = random.Random(seed + 1)
        writer = Writer(rng, EXPLICIT if self.made.transfer_syntax_uid == DEFLATED else "")
        writer.syntax = self.made.transfer_syntax_uid
        inner = Writer(rng, self.made.transfer_syntax_uid)
        explicit, little = inner.syntax != IMPLICIT, inner.syntax != BIG
        self.by_tag = {
            tag: inner._element(tag, vr, value, explicit, little)
            for tag, vr, value in self.made.model
        }
        self.writer = inner


@pytest.mark.parametrize("block", range(4))
def test_generated_data_sets_keep_every_other_byte(block: int) -> None:
    for seed in range(block * 500, block * 500 + 500):
        rng = random.Random(seed)
        pieces = _Pieces(seed)
        syntax = pieces.made.transfer_syntax_uid
        data = pieces.made.data
        assert bytes(plain(data, syntax)) == b"".join(pieces.by_tag.values())
        edits: dict[int, bytes | None] = {}
        for tag in rng.sample([*pieces.by_tag, _PATIENT_ID, _COMMENTS, 0x04000561, 0x00020010], 3):
            replacement = pieces.writer.element(tag, "LO", rng.randbytes(2 * rng.randint(0, 40)))
            edits[tag] = rng.choice((None, replacement))
        result = dict(pieces.by_tag)
        for tag, element in edits.items():
            result.pop(tag, None)
            if element is not None:
                result[tag] = element
        expected = b"".join(result[tag] for tag in sorted(result))
        found = _spliced(data, syntax, edits, rng)
        assert bytes(plain(found, syntax)) == expected, seed
        if syntax == DEFLATED:
            assert len(found) % 2 == 0


def test_no_edit_changes_no_byte_of_any_real_file(shared_data: Path) -> None:
    rng = random.Random(4)
    for path in sorted((shared_data / "dicom").rglob("*.dcm")):
        raw = path.read_bytes()
        if path.name == "no_meta.dcm":
            continue
        head = parse_head(raw, final=True)
        assert head is not None
        syntax, data = head.transfer_syntax_uid, raw[head.dataset_offset :]
        chunk = rng.choice((1000, 70_000))
        parts = [data[at : at + chunk] for at in range(0, len(data), chunk)]
        assert b"".join(splice(parts, syntax, {})) == data
        untouched = b"".join(splice(parts, syntax, {0x00070002: None}))
        assert plain(untouched, syntax) == plain(data, syntax), path.name


def _element(tag: int, value: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, b"LO", len(value)) + value


def test_pixel_data_stream_through_without_being_kept() -> None:
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 64 << 20)
    chunk = bytes(1 << 20)

    def parts() -> Iterator[bytes]:
        yield _element(_PATIENT_ID, b"OLD ") + pixels
        for _ in range(64):
            yield chunk

    given = 0
    for piece in splice(parts(), EXPLICIT, {_PATIENT_ID: _element(_PATIENT_ID, b"NEW1")}):
        assert len(piece) <= (1 << 20) + 64
        given += len(piece)
    assert given == len(_element(_PATIENT_ID, b"NEW1")) + len(pixels) + (64 << 20)


def test_elements_are_inserted_in_order_and_at_the_end() -> None:
    a, b, c = (_element(tag, b"xx") for tag in (0x00080060, _PATIENT_ID, 0x7FE10010))
    for data, expected in ((a + c, a + b + c), (a, a + b), (c, b + c), (b"", b)):
        assert b"".join(splice([data], EXPLICIT, {_PATIENT_ID: b})) == expected
    assert b"".join(splice([], EXPLICIT, {_PATIENT_ID: b})) == b


def test_every_copy_of_an_edited_element_is_replaced_by_one() -> None:
    old, other = _element(_PATIENT_ID, b"old "), _element(0x00200010, b"1 ")
    new = _element(_PATIENT_ID, b"new ")
    assert b"".join(splice([other + old + old], EXPLICIT, {_PATIENT_ID: new})) == new + other


def test_the_group_length_of_a_touched_group_is_left_out() -> None:
    length = struct.pack("<HH2sHI", 0x10, 0, b"UL", 4, 12)
    other = struct.pack("<HH2sHI", 0x20, 0, b"UL", 4, 0)
    old, new = _element(_PATIENT_ID, b"old "), _element(_PATIENT_ID, b"newer ")
    found = b"".join(splice([length + old + other], EXPLICIT, {_PATIENT_ID: new}))
    assert found == new + other


def test_damage_before_an_edit_is_refused_and_behind_it_passes_through() -> None:
    damaged = struct.pack("<HH2sHI", 0x40, 0x275, b"SQ", 0, 0xFFFFFFFF) + b"no item is here"
    new = _element(_PATIENT_ID, b"new ")
    found = b"".join(splice([damaged, b"more"], EXPLICIT, {_PATIENT_ID: new}))
    assert found == new + damaged + b"more"
    with pytest.raises(Invalid, match=r"\(0040,0275\).*an item was expected"):
        b"".join(splice([damaged], EXPLICIT, {0x00880140: _element(0x00880140, b"1 ")}))
    with pytest.raises(Invalid, match="an item was expected"):
        b"".join(splice([damaged], EXPLICIT, {0x00400275: None}))


def test_a_truncated_data_set_is_refused_when_the_edit_belongs_behind_it() -> None:
    cut = _element(_PATIENT_ID, b"0123456789")[:-4]
    with pytest.raises(Invalid, match="4 bytes after the end"):
        b"".join(splice([cut], EXPLICIT, {0x00200010: None}))


def test_deep_nesting_is_refused() -> None:
    deep = b"\x08\0\x40\x11\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" * 100_000
    with pytest.raises(Invalid, match=f"more than {DEFAULT_BUDGET.max_depth} deep"):
        b"".join(splice([deep], IMPLICIT, {_PATIENT_ID: None}))
