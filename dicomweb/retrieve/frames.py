"""GET …/frames/{list}: frames as stored, or decoded to native pixels (PS3.18 10.4.1.1.6)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import numpy as np
from aiohttp import web

from dicomweb.answers import Part, send_multipart, send_single
from dicomweb.media import MediaRange, Offer, choose, parse_accept
from dicomweb.pixels.frame import BIG_ENDIAN
from dicomweb.pixels.images import Image, Images
from dicomweb.pixels.pool import CodecPool
from dicomweb.requests import accept_of, etag_matches, instance_of
from dicomweb.retrieve.domain import frame_offers, parse_frames
from dicomweb.services import CODECS, IMAGES, READER
from kernel.errors import NotFound
from kernel.web.guard import requires, scope_of


@requires("archive.study.read", fold=True)
async def retrieve_frames(request: web.Request) -> web.StreamResponse:
    """GET /studies/{study}/series/{series}/instances/{instance}/frames/{frames}"""
    ranges = parse_accept(accept_of(request))
    numbers = parse_frames(request.match_info["frames"])
    (instance, *_) = await request.app[READER].find(scope_of(request), instance_of(request))
    image = await request.app[IMAGES].describe(instance)
    offer, parts = frame_parts(request.app[IMAGES], request.app[CODECS], image, numbers, ranges)
    headers = {
        "ETag": f'"f{instance.etag}-{offer.transfer_syntax}"',
        "Cache-Control": "private, no-cache",
        "Vary": "Accept",
    }
    if etag_matches(request, headers["ETag"]):
        return web.Response(status=304, headers=headers)
    if offer.multipart:
        return await send_multipart(request, offer.media_type, parts, headers)
    return await send_single(request, parts[0], headers)


def frame_parts(
    images: Images,
    codecs: CodecPool,
    image: Image,
    numbers: Sequence[int],
    ranges: Sequence[MediaRange],
) -> tuple[Offer, list[Part]]:
    """The negotiated form and the frames in it.

    Raises:
        NotFound: `frame.not_found` for a number beyond the last frame.
        NotAcceptable: when no form suits.
    """
    for number in numbers:
        if number > len(image.frames):
            raise NotFound(
                "frame.not_found",
                "There is no frame {number}: the instance has {frames}.",
                number=number,
                frames=len(image.frames),
            )
    offer = choose(ranges, frame_offers(image.transfer_syntax_uid, single=len(numbers) == 1))
    parts = [_part(images, codecs, image, number, offer) for number in numbers]
    return offer, parts


def _part(images: Images, codecs: CodecPool, image: Image, number: int, offer: Offer) -> Part:
    if not offer.stored:

        async def decoded() -> AsyncIterator[bytes]:
            spec = image.frame_spec(number)
            spec.check()
            data = await images.frame(image, number)
            yield (await codecs.decode(spec, data)).data

        return Part(offer.content_type(), decoded)

    async def stored() -> AsyncIterator[bytes]:
        data = await images.frame(image, number)
        yield native_frame(image, number, data) if image.native else data

    # A native frame of whole bytes and a compressed one are as long as their pieces.
    whole = not image.native or image.frame_spec(number).bits_allocated != 1
    length = sum(n for _, n in image.frames[number - 1]) if whole else None
    return Part(offer.content_type(), stored, length)


def native_frame(image: Image, number: int, data: bytes) -> bytes:
    """A native frame in explicit little endian: words swapped, 1-bit frames begin at bit 0."""
    spec = image.frame_spec(number)
    if spec.bits_allocated == 1 and spec.frame_bits % 8:
        mask = (1 << spec.frame_bits) - 1
        shifted = int.from_bytes(data, "little") >> spec.bit_offset
        return (shifted & mask).to_bytes((spec.frame_bits + 7) // 8, "little")
    unit = spec.bits_allocated // 8
    if spec.transfer_syntax_uid == BIG_ENDIAN and unit > 1 and len(data) % unit == 0:
        return np.frombuffer(data, f">u{unit}").astype(f"<u{unit}").tobytes()
    return data
