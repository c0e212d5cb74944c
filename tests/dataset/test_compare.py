"""The same SOP Instance UID again: equal, re-encoded, another header, other pixels."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from dataset.compare import compare
from dataset.part10 import parse_head
from kernel.errors import Invalid
from tests.dataset.generated import (
    BIG,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG,
    Fragments,
    Model,
    Writer,
    make,
)


def _encode(model: Model, syntax: str, seed: int, un_share: float = 0.05) -> bytes:
    return Writer(random.Random(seed), syntax, un_share).write(model)


@pytest.mark.parametrize("block", range(3))
def test_the_same_content_in_two_encodings_is_reencoded(block: int) -> None:
    for seed in range(block * 200, block * 200 + 200):
        model = make(seed, EXPLICIT).model
        for number, syntax in enumerate((EXPLICIT, IMPLICIT, BIG, DEFLATED)):
            one = _encode(model, EXPLICIT, seed)
            other = _encode(model, syntax, seed + number + 1)
            expected = "equal" if one == other else "reencoded"
            assert compare([one], EXPLICIT, [other], syntax) == expected, (seed, syntax)


def test_equal_bytes_are_equal_however_they_are_cut() -> None:
    data = make(3).data
    assert compare([data], EXPLICIT, [data[:7], memoryview(data)[7:]], EXPLICIT) == "equal"


def test_a_changed_added_or_missing_element_is_a_header_difference() -> None:
    for seed in range(200):
        model = [e for e in make(seed, EXPLICIT).model if e[0] != 0x00104000]
        data = _encode(model, EXPLICIT, seed)
        added = sorted([*model, (0x00104000, "LT", b"more")], key=lambda e: e[0])
        other = sorted([*model, (0x00104000, "LT", b"less")], key=lambda e: e[0])
        for syntax in (EXPLICIT, IMPLICIT, BIG):
            again = _encode(added, syntax, seed)
            assert compare([data], EXPLICIT, [again], syntax) == "header"
            assert compare([again], syntax, [data], EXPLICIT) == "header"
            changed = _encode(other, EXPLICIT, seed)
            assert compare([changed], EXPLICIT, [again], syntax) == "header"


def test_a_change_deep_inside_is_a_header_difference() -> None:
    def nested(value: bytes) -> Model:
        return [(0x00081140, "SQ", [[(0x00081140, "SQ", [[], [(0x00081150, "UI", value)]])]])]

    one = _encode(nested(b"1.2.3\0"), EXPLICIT, 1)
    other = _encode(nested(b"1.2.4\0"), IMPLICIT, 2)
    assert compare([one], EXPLICIT, [other], IMPLICIT) == "header"
    empty = _encode([(0x00081140, "SQ", [[]])], EXPLICIT, 1)
    none = _encode([(0x00081140, "SQ", [])], EXPLICIT, 1)
    assert compare([empty], EXPLICIT, [none], EXPLICIT) == "header"


def _with_pixels(raw: bytes, vr: str = "OW") -> Model:
    return [(0x00080060, "CS", b"CT"), (0x7FE00010, vr, raw)]


def test_other_pixels_are_seen_whatever_else_differs() -> None:
    one = _encode(_with_pixels(b"\1\0\2\0"), EXPLICIT, 1)
    for model in (
        _with_pixels(b"\1\0\3\0"),
        _with_pixels(b"\1\0\2\0\0\0"),
        [(0x00080060, "CS", b"MR")],
    ):
        for syntax in (EXPLICIT, IMPLICIT, BIG):
            assert compare([one], EXPLICIT, [_encode(model, syntax, 1)], syntax) == "pixels"


def test_native_pixels_are_compared_in_one_byte_order() -> None:
    model = _with_pixels(b"\1\0\2\0\3\0")
    little, big = _encode(model, EXPLICIT, 1), _encode(model, BIG, 1)
    assert compare([little], EXPLICIT, [big], BIG) == "reencoded"
    as_bytes = _encode(_with_pixels(b"\1\0\2\0\3\0", "OB"), EXPLICIT, 1)
    assert compare([as_bytes], EXPLICIT, [big], BIG) == "reencoded"


def test_fragmentation_and_offset_tables_make_no_difference_but_codestreams_do() -> None:
    def stored(*items: bytes) -> bytes:
        return _encode([(0x7FE00010, "OB", Fragments(items))], JPEG, 1)

    one = stored(b"", b"abcdefgh")
    assert compare([one], JPEG, [stored(bytes(4), b"abcd", b"efgh")], JPEG) == "reencoded"
    assert compare([one], JPEG, [stored(b"", b"abcdefgi")], JPEG) == "pixels"
    native = _encode([(0x7FE00010, "OB", b"abcdefgh")], EXPLICIT, 1)
    assert compare([one], JPEG, [native], EXPLICIT) == "pixels"


def _text(charset: str, value: bytes) -> bytes:
    def element(tag: int, vr: bytes, raw: bytes) -> bytes:
        raw += b" " * (len(raw) % 2)
        return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(raw)) + raw

    return element(0x00080005, b"CS", charset.encode()) + element(0x00100010, b"PN", value)


def test_another_character_set_for_the_same_text_is_a_reencoding() -> None:
    gb = _text("GB18030", "王^小东".encode("gb18030"))
    utf8 = _text("ISO_IR 192", "王^小东".encode())
    other = _text("ISO_IR 192", "王^小冬".encode())
    assert compare([gb], EXPLICIT, [utf8], EXPLICIT) == "reencoded"
    assert compare([gb], EXPLICIT, [other], EXPLICIT) == "header"


def test_a_private_sequence_that_one_side_does_not_know_is_compared_by_content() -> None:
    item = struct.pack("<HHI", 8, 0x0060, 2) + b"CT"
    body = b"\xfe\xff\0\xe0" + struct.pack("<I", len(item)) + item
    implicit = struct.pack("<HHI", 9, 0x1003, len(body)) + body
    model: Model = [(0x00091003, "SQ", [[(0x00080060, "CS", b"CT")]])]
    for seed in range(6):
        explicit = _encode(model, EXPLICIT, seed, un_share=0.0)
        assert compare([implicit], IMPLICIT, [explicit], EXPLICIT) == "reencoded"
    changed: Model = [(0x00091003, "SQ", [[(0x00080060, "CS", b"MR")]])]
    assert compare([implicit], IMPLICIT, [_encode(changed, EXPLICIT, 1)], EXPLICIT) == "header"


def test_what_cannot_be_read_is_refused_unless_it_is_equal() -> None:
    damaged = struct.pack("<HH2sH", 8, 0x60, b"CS", 10) + b"CT"
    assert compare([damaged], EXPLICIT, [damaged], EXPLICIT) == "equal"
    with pytest.raises(Invalid):
        compare([damaged], EXPLICIT, [make(1, EXPLICIT).data], EXPLICIT)


def test_one_ct_in_uncompressed_transfer_syntaxes_is_one_instance(shared_data: Path) -> None:
    found = {}
    for path in sorted((shared_data / "dicom/ts_matrix_ct").glob("*")):
        raw = path.read_bytes()
        head = parse_head(raw)
        assert head is not None
        found[head.transfer_syntax_uid] = raw[head.dataset_offset :]
    assert {IMPLICIT, EXPLICIT, BIG, DEFLATED} <= found.keys()
    for syntax in (IMPLICIT, BIG, DEFLATED):
        verdict = compare([found[EXPLICIT]], EXPLICIT, [found[syntax]], syntax)
        assert verdict == "reencoded", syntax
    jpeg = "1.2.840.10008.1.2.4.50"
    assert compare([found[EXPLICIT]], EXPLICIT, [found[jpeg]], jpeg) == "pixels"
