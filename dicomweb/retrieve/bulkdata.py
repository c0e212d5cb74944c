"""GET …/bulkdata/{path}: one value by the path that the metadata gave (PS3.18 F.2.6).

A path is a tag, or tags and item numbers in turn: ``7FE00010``, ``54000100/0/54001010``.
"""

from __future__ import annotations

import asyncio
import re

import numpy as np
from aiohttp import web

from archive.retrieve.domain import StoredInstance, check_named
from archive.retrieve.service import Reader
from dataset.dicom_json import locate
from dataset.elements import plain
from dataset.part10 import parse_head
from dicomweb.answers import Part, bytes_part, send_multipart, send_single
from dicomweb.media import OCTET_STREAM, MediaRange, Offer, choose, parse_accept
from dicomweb.pixels.frame import BIG_ENDIAN
from dicomweb.pixels.images import Image
from dicomweb.requests import accept_of, instance_of
from dicomweb.retrieve.frames import frame_parts
from dicomweb.services import CODECS, IMAGES, READER
from kernel.errors import Invalid, NotFound
from kernel.web.guard import requires, scope_of

MAX_SEARCHED_BYTES = 512 << 20
PIXEL_DATA = "7FE00010"
# PS3.5 Table 6.2-1: units that are swapped between byte orders
_UNIT_BYTES = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
_PATH = re.compile(r"[0-9A-F]{8}(?:/[0-9]{1,6}/[0-9A-F]{8}){0,64}\Z")


@requires("archive.study.read", fold=True)
async def retrieve_bulkdata(request: web.Request) -> web.StreamResponse:
    """GET /studies/{study}/series/{series}/instances/{instance}/bulkdata/{path}"""
    path = request.match_info["path"].upper()
    if not _PATH.match(path):
        raise Invalid(
            "bulkdata.bad_path", "The bulk data path {value} is malformed.", value=path[:100]
        )
    ranges = parse_accept(accept_of(request))
    reader = request.app[READER]
    (instance, *_) = await reader.find(scope_of(request), instance_of(request))
    check_named([instance])
    if path == PIXEL_DATA:
        image = await request.app[IMAGES].describe(instance)
        if not image.native:
            return await _compressed_pixels(request, image, ranges)
    offers = (Offer(OCTET_STREAM, multipart=True), Offer(OCTET_STREAM))
    offer = choose(ranges, offers)
    data = await read_value(reader, instance, path)
    part = bytes_part(OCTET_STREAM, data)
    if offer.multipart:
        return await send_multipart(request, OCTET_STREAM, [part])
    return await send_single(request, part)


async def read_value(reader: Reader, instance: StoredInstance, path: str) -> bytes:
    """The value at a path, in little endian order.

    Raises:
        NotFound: `bulkdata.not_found`.
        Invalid: `bulkdata.too_large` for an instance too large to be searched.
    """
    if instance.byte_length > MAX_SEARCHED_BYTES:
        raise Invalid("bulkdata.too_large", "The instance is too large to look for single values.")
    part10 = await reader.content(instance)
    value = await asyncio.to_thread(_value, part10, instance.transfer_syntax_uid, path)
    if value is None:
        raise NotFound("bulkdata.not_found", "There is no bulk data at {path}.", path=path[:100])
    return value


def _value(part10: bytes, transfer_syntax_uid: str, path: str) -> bytes | None:
    head = parse_head(part10, final=True)
    if head is None:
        return None
    body = memoryview(part10)[head.dataset_offset :]
    found = locate(body, transfer_syntax_uid, path)
    if found is None:
        return None
    vr, offset, length = found
    data = bytes(plain(body, transfer_syntax_uid)[offset : offset + length])
    unit = _UNIT_BYTES.get(vr, 1)
    if transfer_syntax_uid == BIG_ENDIAN and unit > 1 and len(data) % unit == 0:
        return np.frombuffer(data, f">u{unit}").astype(f"<u{unit}").tobytes()
    return data


async def _compressed_pixels(
    request: web.Request, image: Image, ranges: list[MediaRange]
) -> web.StreamResponse:
    """Encapsulated pixel data: one part a frame, without the items (PS3.18 8.7.3.3.2)."""
    numbers = list(range(1, len(image.frames) + 1))
    offer, parts = frame_parts(request.app[IMAGES], request.app[CODECS], image, numbers, ranges)
    return await _send(request, offer, parts)


async def _send(request: web.Request, offer: Offer, parts: list[Part]) -> web.StreamResponse:
    if offer.multipart:
        return await send_multipart(request, offer.media_type, parts)
    return await send_single(request, parts[0])
