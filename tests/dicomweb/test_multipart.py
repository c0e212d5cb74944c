"""multipart/related bodies, cut anywhere."""

from __future__ import annotations

import random

import pytest

from dicomweb.media import parse_content_type
from dicomweb.multipart import MultipartParser, MultipartWriter, PartBegin, PartData, PartEnd
from kernel.errors import Invalid

Parts = list[tuple[dict[str, str], bytes]]


def parse(chunks: list[bytes], boundary: str = "b") -> Parts:
    parser = MultipartParser(boundary)
    parts: Parts = []
    for chunk in chunks:
        for event in parser.feed(chunk):
            if isinstance(event, PartBegin):
                parts.append((dict(event.headers), b""))
            elif isinstance(event, PartData):
                parts[-1] = (parts[-1][0], parts[-1][1] + event.data)
            else:
                assert isinstance(event, PartEnd)
    parser.finish()
    return parts


def body(*contents: bytes, boundary: str = "b") -> bytes:
    pieces = [
        f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + content + b"\r\n"
        for content in contents
    ]
    return b"".join(pieces) + f"--{boundary}--\r\n".encode()


def test_parts_come_back_whatever_the_size_of_the_chunks() -> None:
    contents = [b"first", b"", b"\r\n--c\r\n--", bytes(range(256)) * 40, b"\r\n", b"\r"]
    raw = body(*contents)
    for size in (1, 2, 3, 5, 7, 64, 1000, len(raw)):
        chunks = [raw[at : at + size] for at in range(0, len(raw), size)]
        assert [content for _, content in parse(chunks)] == contents


def test_parts_come_back_when_cut_at_random() -> None:
    chance = random.Random(5)
    contents = [chance.randbytes(chance.randrange(5000)) for _ in range(20)]
    raw = body(*contents)
    for _ in range(50):
        cuts = sorted(chance.sample(range(len(raw)), 30))
        chunks = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
        assert [content for _, content in parse(chunks)] == contents


def test_preamble_and_epilogue_are_skipped() -> None:
    raw = b"words\r\n" + body(b"x") + b"more words\r\n--b\r\n"
    assert [content for _, content in parse([raw])] == [b"x"]


def test_a_body_may_begin_with_a_line_break() -> None:
    assert [content for _, content in parse([b"\r\n" + body(b"x")])] == [b"x"]


def test_header_names_are_folded_and_blanks_after_the_boundary_allowed() -> None:
    raw = b"--b \t\r\nCONTENT-type:  application/dicom \r\nX: 1\r\n\r\nx\r\n--b--"
    assert parse([raw]) == [({"content-type": "application/dicom", "x": "1"}, b"x")]


def test_a_part_may_have_neither_headers_nor_body() -> None:
    assert parse([b"--b\r\n\r\n\r\n--b--"]) == [({}, b"")]
    assert parse([b"--b\r\n\r\n--b--"]) == [({}, b"")]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "multipart.malformed"),
        (b"no boundary here", "multipart.malformed"),
        (b"--b\r\nX: 1\r\n\r\nhalf", "multipart.truncated"),
        (b"--b\r\nX: 1\r\n\r\nwhole\r\n--b\r\n", "multipart.truncated"),
        (b"--b\r\nno colon\r\n\r\nx\r\n--b--", "multipart.malformed"),
        (b"--bb\r\n\r\nx\r\n--b--", "multipart.malformed"),
        (b"--b\r\nX: " + b"y" * 20000 + b"\r\n\r\n", "multipart.malformed"),
        (b"z" * 70000, "multipart.malformed"),
    ],
)
def test_a_malformed_body_is_refused(raw: bytes, code: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse([raw])
    assert caught.value.code == code


@pytest.mark.parametrize("boundary", ["", "x" * 300, "ü"])
def test_an_unusable_boundary_is_refused(boundary: str) -> None:
    with pytest.raises(Invalid):
        MultipartParser(boundary)


def test_no_more_than_a_chunk_is_held_of_a_long_part() -> None:
    parser = MultipartParser("b")
    list(parser.feed(b"--b\r\n\r\n"))
    for _ in range(100):
        got = sum(len(e.data) for e in parser.feed(b"x" * 65536) if isinstance(e, PartData))
        assert got >= 65536 - 8


def test_what_is_written_can_be_parsed() -> None:
    writer = MultipartWriter("application/dicom")
    raw = writer.head("application/dicom; transfer-syntax=1.2", 3) + b"abc"
    raw += writer.head("application/dicom", location="/x") + b"" + writer.tail()
    boundary = parse_content_type(writer.content_type).parameters["boundary"]
    parts = parse([raw], boundary)
    assert [content for _, content in parts] == [b"abc", b""]
    assert parts[0][0]["content-length"] == "3"
    assert parts[1][0]["content-location"] == "/x"
