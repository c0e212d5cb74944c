"""Media types and content negotiation (PS3.18 8.7, RFC 9110 12.5.1): pure functions.

An `Offer` is one way in which a resource can be sent; `choose` matches offers against the
ranges of an Accept header. A range without a transfer syntax accepts the instance as it is
stored: data is transcoded only for a client that names a transfer syntax.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from kernel.errors import Invalid

EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
JSON = "application/json"
OCTET_STREAM = "application/octet-stream"
MULTIPART = "multipart/related"

# PS3.18 Table 8.7.3-5: the media type of one compressed frame by its transfer syntax.
FRAME_MEDIA_TYPES: dict[str, str] = {
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.92": "image/jpx",
    "1.2.840.10008.1.2.4.93": "image/jpx",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
    "1.2.840.10008.1.2.4.110": "image/jxl",
    "1.2.840.10008.1.2.4.111": "image/jxl",
    "1.2.840.10008.1.2.4.112": "image/jxl",
    "1.2.840.10008.1.2.4.100": "video/mpeg",
    "1.2.840.10008.1.2.4.101": "video/mpeg",
    "1.2.840.10008.1.2.4.102": "video/mp4",
    "1.2.840.10008.1.2.4.103": "video/mp4",
    "1.2.840.10008.1.2.4.104": "video/mp4",
    "1.2.840.10008.1.2.4.105": "video/mp4",
    "1.2.840.10008.1.2.4.106": "video/mp4",
    "1.2.840.10008.1.2.4.107": "video/H265",
    "1.2.840.10008.1.2.4.108": "video/H265",
}
# Names from before registration that clients still send.
ALIASES: dict[str, str] = {
    "image/x-jls": "image/jls",
    "image/x-dicom-rle": "image/dicom-rle",
    "image/x-dicom+rle": "image/dicom-rle",
    "image/jpg": "image/jpeg",
    "video/mpeg2": "video/mpeg",
}

MAX_ACCEPT_CHARACTERS = 8192
_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_MEDIA = re.compile(rf"\s*({_NAME}/{_NAME})\s*")
# Values may hold characters that a strict token forbids: clients send type=application/dicom bare.
_PARAMETER = re.compile(r';\s*([^\s=;,"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))\s*')
_SEPARATOR = re.compile(r"[;\s]*(?:,[\s,]*|\Z)")
_QUALITY = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\Z")


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One element of an Accept header; media types in lower case.

    `multipart_type` is the `type` parameter when the range is multipart/related, `transfer_syntax`
    None where none was named.
    """

    media_type: str
    multipart_type: str | None = None
    transfer_syntax: str | None = None
    quality: float = 1.0


@dataclass(frozen=True, slots=True)
class Offer:
    """One representation that the server can give. `stored`: no transcoding is needed."""

    media_type: str
    transfer_syntax: str | None = None
    multipart: bool = False
    stored: bool = True

    def content_type(self) -> str:
        """The media type of one part or body, with its transfer syntax (PS3.18 8.7.3.5.2)."""
        if self.transfer_syntax is None:
            return self.media_type
        return f"{self.media_type}; transfer-syntax={self.transfer_syntax}"

    def __str__(self) -> str:
        if not self.multipart:
            return self.content_type()
        syntax = f"; transfer-syntax={self.transfer_syntax}" if self.transfer_syntax else ""
        return f'{MULTIPART}; type="{self.media_type}"{syntax}'


class NotAcceptable(Invalid):
    """None of the offers suits the Accept header (HTTP 406); `available` lists them."""

    def __init__(self, offers: Sequence[Offer]) -> None:
        available = [str(offer) for offer in dict.fromkeys(offers)]
        super().__init__(
            "media.not_acceptable",
            "None of the accepted media types can be produced. Available: {available}.",
            available=available,
        )


class UnsupportedMedia(Invalid):
    """The request body is of a media type that is not understood (HTTP 415)."""

    def __init__(self, given: str, expected: Sequence[str]) -> None:
        super().__init__(
            "media.unsupported",
            "The content type {given} is not supported; expected {expected}.",
            given=given[:200],
            expected=list(expected),
        )


@dataclass(frozen=True, slots=True)
class ContentType:
    """A parsed Content-Type header: media type in lower case and its parameters."""

    media_type: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_content_type(header: str) -> ContentType:
    """Parse a Content-Type header (RFC 9110 8.3).

    Raises:
        Invalid: `media.malformed`.
    """
    items = _parse_list(header)
    if len(items) != 1:
        raise _malformed(header)
    media_type, parameters = items[0]
    return ContentType(media_type, parameters)


def parse_accept(header: str) -> list[MediaRange]:
    """Parse an Accept header into ranges in the order given; an empty header accepts anything.

    Raises:
        Invalid: `media.malformed` for a header that is too long or not of the grammar.
    """
    if not header.strip():
        return [MediaRange("*/*")]
    ranges = []
    for media_type, parameters in _parse_list(header):
        quality = parameters.get("q", "1")
        if not _QUALITY.match(quality):
            raise _malformed(header)
        inner = parameters.get("type")
        ranges.append(
            MediaRange(
                media_type=ALIASES.get(media_type, media_type),
                multipart_type=None if inner is None else ALIASES.get(inner.lower(), inner.lower()),
                transfer_syntax=parameters.get("transfer-syntax"),
                quality=float(quality),
            )
        )
    return ranges


def choose(ranges: Sequence[MediaRange], offers: Sequence[Offer]) -> Offer:
    """The offer that the client likes best; among equals the first offer (PS3.18 8.7.8).

    Raises:
        NotAcceptable: when no range with a quality above zero matches an offer.
    """
    best: Offer | None = None
    best_quality = 0.0
    for offer in offers:
        quality = _quality(ranges, offer)
        if quality > best_quality:
            best, best_quality = offer, quality
    if best is None:
        raise NotAcceptable(offers)
    return best


def frame_media_type(transfer_syntax_uid: str) -> str:
    """The media type of a frame as stored; octet-stream where the pixel data is native."""
    return FRAME_MEDIA_TYPES.get(transfer_syntax_uid, OCTET_STREAM)


def _quality(ranges: Sequence[MediaRange], offer: Offer) -> float:
    """The quality of the most specific matching range, the larger one among equals."""
    specificity, quality = -1, 0.0
    for candidate in ranges:
        matched = _match(candidate, offer)
        if matched > specificity or (matched == specificity and candidate.quality > quality):
            specificity, quality = matched, candidate.quality
    return quality if specificity >= 0 else 0.0


def _match(candidate: MediaRange, offer: Offer) -> int:
    """How specifically a range names an offer; -1 where it does not."""
    wanted = candidate.media_type
    score = 0
    if offer.multipart:
        if wanted == MULTIPART:
            score += 4
            wanted = candidate.multipart_type or "*/*"
        elif wanted not in ("*/*", "multipart/*"):
            return -1
        else:
            wanted = "*/*"
    if wanted != "*/*":
        if wanted.endswith("/*"):
            if not offer.media_type.startswith(wanted[:-1]):
                return -1
            score += 8
        elif wanted != offer.media_type:
            return -1
        else:
            score += 16
    asked = candidate.transfer_syntax or ""
    if asked == "" and wanted == OCTET_STREAM:
        # PS3.18 Table 8.7.3-4: plain octet-stream means explicit little endian.
        fits = offer.transfer_syntax in (None, EXPLICIT_VR_LITTLE_ENDIAN)
    elif asked in ("", "*"):
        fits = offer.stored
    else:
        return score + 1 if asked == offer.transfer_syntax else -1
    return score if fits else -1


def _parse_list(header: str) -> list[tuple[str, dict[str, str]]]:
    if len(header) > MAX_ACCEPT_CHARACTERS:
        raise _malformed(header)
    items: list[tuple[str, dict[str, str]]] = []
    position = 0
    while position < len(header):
        media = _MEDIA.match(header, position)
        if media is None:
            raise _malformed(header)
        position = media.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, position):
            position = parameter.end()
            value = parameter[2] if parameter[2] is not None else parameter[3]
            parameters[parameter[1].lower()] = re.sub(r"\\(.)", r"\1", value)
        items.append((media[1].lower(), parameters))
        separator = _SEPARATOR.match(header, position)
        if separator is None:
            raise _malformed(header)
        position = separator.end()
    return items


def _malformed(header: str) -> Invalid:
    return Invalid(
        "media.malformed", "The media type header is malformed: {value}.", value=header[:200]
    )
