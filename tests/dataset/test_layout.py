"""A remembered layout gives what the scanner gives, or nothing: for relatives of known data sets,
for strangers, and for what is broken.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dataset.layout import Layouts, learn
from dataset.part10 import parse_head
from dataset.scanner import ScanResult, scan
from dataset.syntax import EXPLICIT_LITTLE
from kernel.errors import Invalid
from tests.dataset.generated import EXPLICIT, make

KEY = "CT_ROOM1"


def outcome(read: Callable[[], ScanResult]) -> ScanResult | str:
    """What was found, or what was wrong."""
    try:
        return read()
    except Invalid as error:
        return str(error)


def agree(layouts: Layouts, data: bytes, syntax: str = EXPLICIT_LITTLE) -> None:
    """The layouts and the scanner say the same of `data`, twice."""
    expected = outcome(lambda: scan([data], syntax))
    for _ in range(2):
        assert outcome(lambda: layouts.scan(KEY, [data], syntax)) == expected


def element(tag: int, vr: str, value: bytes, length: int | None = None) -> bytes:
    """One element, explicit VR little endian; with a `length` that lies where one is given."""
    head = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little") + vr.encode()
    size = len(value) if length is None else length
    if vr in ("OB", "OW", "SQ", "UN", "UT"):
        return head + b"\0\0" + size.to_bytes(4, "little") + value
    return head + size.to_bytes(2, "little") + value


def slice_of_a_series(number: int, position: str = "1.5 ", **more: bytes) -> bytes:
    """A small data set as a scanner writes it; `more` are raw elements by place."""
    item = element(0x00400009, "SH", b"STEP1 ")
    items = b"\xfe\xff\x00\xe0" + len(item).to_bytes(4, "little") + item
    uid = f"1.2.3.{number}".encode()
    return b"".join(
        [
            more.get("front", b""),
            element(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.2\0"),
            element(0x00080018, "UI", uid + b"\0" * (len(uid) % 2)),
            element(0x00100010, "PN", b"Yang^XiuYing"),
            more.get("middle", b""),
            element(0x0020000D, "UI", b"1.2.3\0"),
            element(0x0020000E, "UI", b"1.2.3.4\0"),
            element(0x00200013, "IS", f"{number:<{2 + number // 100 * 2}}".encode()),
            element(0x00200032, "DS", position.encode()),
            element(0x00400275, "SQ", items),
            element(0x00400280, "ST", b"end "),
            element(0x7FE00010, "OW", bytes(8)),
        ]
    )


def test_the_slices_of_a_series_are_read_by_one_layout() -> None:
    layouts = Layouts()
    for number in range(1, 250):
        agree(layouts, slice_of_a_series(number, f"{number * 1.25} "[: 2 + number % 4 * 2]))
    (layout,) = layouts._known[KEY].layouts
    assert layout.hits > 480
    assert len(layout._varying) == 3  # SOP Instance UID, Instance Number, Image Position


@pytest.mark.parametrize(
    ("place", "stranger"),
    [
        ("middle", element(0x00100040, "CS", b"F ")),
        ("middle", element(0x00100010, "PN", b"Second")),
        ("middle", element(0x00111001, "UN", b"x" * 70_000)),
        ("middle", b"\xfe\xff\x0d\xe0\0\0\0\0"),
        ("middle", element(0x00101002, "SQ", b"\xfe\xff\xdd\xe0\0\0\0\0", 0xFFFFFFFF)),
        ("middle", element(0x00100020, "LO", b"P1")[:6]),
        ("front", element(0x00080005, "CS", b"GB18030 ")),
        ("front", b"\0" * 8),
    ],
)
def test_what_looks_otherwise_is_scanned(place: str, stranger: bytes) -> None:
    layouts = Layouts()
    other = {place: stranger}
    for number in (1, 2, 3):
        agree(layouts, slice_of_a_series(number))
        agree(layouts, slice_of_a_series(number, "1.25", **other))
        agree(layouts, slice_of_a_series(number, **other))


def test_a_value_that_lies_about_its_length_ends_the_use_of_a_layout() -> None:
    layouts = Layouts()
    agree(layouts, slice_of_a_series(1))
    whole = slice_of_a_series(2)
    for cut in range(len(whole)):
        agree(layouts, whole[:cut])
    at = whole.index(b"Yang") - 2
    for length in (0, 10, 14, 255, 65535):
        agree(layouts, whole[:at] + length.to_bytes(2, "little") + whole[at + 2 :])


def test_two_kinds_of_images_in_turn_keep_both_layouts() -> None:
    layouts = Layouts()
    for number in range(1, 40):
        agree(layouts, slice_of_a_series(number))
        agree(layouts, slice_of_a_series(number, front=element(0x00080005, "CS", b"GB18030 ")))
    assert sorted(one.hits > 60 for one in layouts._known[KEY].layouts) == [True, True]


def test_only_explicit_little_endian_has_a_layout() -> None:
    for seed in range(40):
        made = make(seed)
        if made.transfer_syntax_uid != EXPLICIT:
            assert learn(made.data, made.transfer_syntax_uid) is None or made.little


def relatives(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Data sets like `data`: bytes changed, lengths changed, pieces left out or put in."""
    for _ in range(12):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 6)):
            changed[rng.randrange(min(len(changed), 3000))] = rng.randrange(256)
        yield bytes(changed)
    for _ in range(12):
        at, more = rng.randrange(min(len(data), 3000)), rng.randbytes(rng.choice((2, 4, 8)))
        yield data[:at] + rng.choice((b"", more)) + data[at + rng.choice((0, 2, 4, 8)) :]


@pytest.mark.parametrize("seed", range(150))
def test_generated_data_sets_and_their_relatives(seed: int) -> None:
    made = make(seed, EXPLICIT)
    layouts, rng = Layouts(), random.Random(seed)
    agree(layouts, made.data)
    for relative in relatives(made.data, rng):
        agree(layouts, relative)
    agree(layouts, made.data)


def test_every_real_file_and_its_relatives(shared_data: Path) -> None:
    learnt = 0
    for path in sorted((shared_data / "dicom").rglob("*.dcm")):
        try:
            head = parse_head(path.read_bytes()[:4096])
        except Invalid:
            continue
        if head is None:
            continue
        data = path.read_bytes()[head.dataset_offset :][:60_000]
        layouts, rng = Layouts(), random.Random(path.name)
        agree(layouts, data, head.transfer_syntax_uid)
        learnt += KEY in layouts._known and bool(layouts._known[KEY].layouts)
        for relative in relatives(data, rng) if data else ():
            agree(layouts, relative, head.transfer_syntax_uid)
    assert learnt > 150
