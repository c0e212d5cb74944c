"""What can be had of a stored instance, and the lists of frames that a path names (pure)."""

from __future__ import annotations

import re

from archive.retrieve.domain import StoredInstance
from dicomweb.media import (
    DICOM,
    EXPLICIT_VR_LITTLE_ENDIAN,
    OCTET_STREAM,
    Offer,
    frame_media_type,
)
from dicomweb.pixels.frame import NATIVE_SYNTAXES
from kernel.errors import Invalid

MAX_FRAMES_LISTED = 10_000

_FRAME_LIST = re.compile(r"[1-9][0-9]{0,8}(?:,[1-9][0-9]{0,8})*\Z")


def parse_frames(text: str) -> list[int]:
    """Frame numbers from 1, in the order asked for (PS3.18 10.4.1.1.6).

    Raises:
        Invalid: `frames.bad_list`.
    """
    cleaned = text.replace(" ", "")
    if not _FRAME_LIST.match(cleaned):
        raise Invalid(
            "frames.bad_list",
            "The frame list {value} is not a list of numbers from 1.",
            value=text[:100],
        )
    numbers = [int(number) for number in cleaned.split(",")]
    if len(numbers) > MAX_FRAMES_LISTED:
        raise Invalid("frames.bad_list", "More frames are listed than are answered at once.")
    return numbers


def instance_offers(instance: StoredInstance, *, convertible: bool) -> list[Offer]:
    """Ways to send a whole instance, as stored first (PS3.18 Table 10.4.4-1); `convertible`: also
    decoded to explicit little endian.
    """
    stored = instance.transfer_syntax_uid
    offers = [Offer(DICOM, stored, multipart=True), Offer(DICOM, stored)]
    if convertible:
        offers += [
            Offer(DICOM, EXPLICIT_VR_LITTLE_ENDIAN, multipart=True, stored=False),
            Offer(DICOM, EXPLICIT_VR_LITTLE_ENDIAN, stored=False),
        ]
    return offers


def frame_offers(transfer_syntax_uid: str, *, single: bool) -> list[Offer]:
    """Ways to send frames (PS3.18 8.7.3.3); one body without multipart only for a single frame.

    Native frames are explicit little endian whatever their data set is. Compressed ones go as
    stored, also under the name of octet-stream when any transfer syntax is accepted, or decoded.
    """
    multipart = [True, False] if single else [True]
    if transfer_syntax_uid in NATIVE_SYNTAXES:
        return [Offer(OCTET_STREAM, EXPLICIT_VR_LITTLE_ENDIAN, m) for m in multipart]
    named = frame_media_type(transfer_syntax_uid)
    forms = [
        (named, transfer_syntax_uid, True),
        (OCTET_STREAM, transfer_syntax_uid, True),
        (OCTET_STREAM, EXPLICIT_VR_LITTLE_ENDIAN, False),
    ]
    offers = [Offer(kind, syntax, m, stored) for kind, syntax, stored in forms for m in multipart]
    return list(dict.fromkeys(offers))
