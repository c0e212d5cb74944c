"""Accept headers and the choice of a representation (PS3.18 8.7)."""

from __future__ import annotations

import pytest

from dicomweb.media import (
    MediaRange,
    NotAcceptable,
    Offer,
    choose,
    parse_accept,
    parse_content_type,
)
from dicomweb.retrieve.domain import frame_offers
from kernel.errors import Invalid

ELE = "1.2.840.10008.1.2.1"
J2K = "1.2.840.10008.1.2.4.90"
JLS = "1.2.840.10008.1.2.4.80"

STORED_J2K = [
    Offer("application/dicom", J2K, multipart=True),
    Offer("application/dicom", J2K),
    Offer("application/dicom", ELE, multipart=True, stored=False),
    Offer("application/dicom", ELE, stored=False),
]


def pick(header: str, offers: list[Offer]) -> Offer:
    return choose(parse_accept(header), offers)


def test_an_empty_accept_header_takes_anything() -> None:
    assert parse_accept("") == [MediaRange("*/*")]


def test_quoted_and_bare_type_parameters_mean_the_same() -> None:
    quoted = parse_accept('multipart/related; type="application/dicom"; transfer-syntax=*')
    bare = parse_accept("multipart/related;type=application/dicom;transfer-syntax=*")
    assert quoted == bare
    assert quoted[0].multipart_type == "application/dicom"
    assert quoted[0].transfer_syntax == "*"


def test_commas_inside_quotes_do_not_separate() -> None:
    assert len(parse_accept('application/dicom; x="a,b;c\\"d", */*;q=0.1')) == 2


@pytest.mark.parametrize(
    "header",
    ["nonsense", "a/b;q=2", "a/b;q=x", 'a/b; t="open', "a/b c/d", "/", "a/b;" + "x" * 9000],
)
def test_a_malformed_accept_header_is_refused(header: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_accept(header)
    assert caught.value.code == "media.malformed"


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        ("*/*", STORED_J2K[0]),
        ("", STORED_J2K[0]),
        ('multipart/related; type="application/dicom"', STORED_J2K[0]),
        ('multipart/related; type="*/*"', STORED_J2K[0]),
        ("multipart/related", STORED_J2K[0]),
        ('multipart/related; type="application/dicom"; transfer-syntax=*', STORED_J2K[0]),
        (f'multipart/related; type="application/dicom"; transfer-syntax={ELE}', STORED_J2K[2]),
        (f'multipart/related; type="application/dicom"; transfer-syntax={J2K}', STORED_J2K[0]),
        ("application/dicom", STORED_J2K[1]),
        ("application/dicom; transfer-syntax=*", STORED_J2K[1]),
        (f"application/dicom; transfer-syntax={ELE}", STORED_J2K[3]),
        (
            f"application/dicom; transfer-syntax={ELE}; q=0.5, application/dicom; "
            f"transfer-syntax={J2K}; q=0.4",
            STORED_J2K[3],
        ),
        (
            f"application/dicom; transfer-syntax={JLS}, application/dicom; transfer-syntax={ELE}",
            STORED_J2K[3],
        ),
        ("application/dicom;q=0, */*", STORED_J2K[0]),
    ],
)
def test_an_instance_is_sent_as_stored_unless_another_syntax_is_named(
    header: str, chosen: Offer
) -> None:
    assert pick(header, STORED_J2K) == chosen


def test_what_cannot_be_had_is_refused_with_the_list_of_what_can() -> None:
    with pytest.raises(NotAcceptable) as caught:
        pick("image/png", STORED_J2K)
    assert caught.value.fields["available"][0] == (
        f'multipart/related; type="application/dicom"; transfer-syntax={J2K}'
    )


@pytest.mark.parametrize(
    ("header", "media_type", "syntax"),
    [
        ('multipart/related; type="*/*"', "image/jls", JLS),
        ('multipart/related; type="application/octet-stream"', "application/octet-stream", ELE),
        (
            'multipart/related; type="application/octet-stream"; transfer-syntax=*',
            "application/octet-stream",
            JLS,
        ),
        ('multipart/related; type="image/*"', "image/jls", JLS),
        ('multipart/related; type="image/x-jls"', "image/jls", JLS),
        (
            'multipart/related; type="image/jp2", multipart/related; '
            'type="application/octet-stream"; transfer-syntax=' + ELE,
            "application/octet-stream",
            ELE,
        ),
        ("image/jls", "image/jls", JLS),
    ],
)
def test_frames_follow_the_accept_header(header: str, media_type: str, syntax: str) -> None:
    offer = pick(header, frame_offers(JLS, single=True))
    assert (offer.media_type, offer.transfer_syntax) == (media_type, syntax)


def test_several_frames_are_never_one_body() -> None:
    with pytest.raises(NotAcceptable):
        pick("application/octet-stream", frame_offers(ELE, single=False))


def test_a_content_type_gives_its_boundary() -> None:
    parsed = parse_content_type('Multipart/Related; Type="application/dicom"; Boundary="--x, y"')
    assert parsed.media_type == "multipart/related"
    assert parsed.parameters["boundary"] == "--x, y"
