"""Rendering a frame: native pixels in a thread, compressed and huge ones in a worker process."""

from __future__ import annotations

import asyncio

from archive.retrieve.domain import StoredInstance
from dicomweb.pixels.frame import FrameSpec
from dicomweb.pixels.images import Image, Images
from dicomweb.pixels.native import decode_native
from dicomweb.pixels.picture import draw
from dicomweb.pixels.picture_spec import PictureSpec
from dicomweb.pixels.pool import CodecPool
from dicomweb.render.domain import RenderRequest
from dicomweb.render.presentation import picture_of

# Larger native frames go to a worker too, whose memory is bounded.
MAX_PIXELS_IN_THREAD = 16 * 1024 * 1024


async def render_frame(
    images: Images,
    codecs: CodecPool,
    image: Image,
    number: int,
    request: RenderRequest,
    media_type: str,
) -> bytes:
    """Frame `number` (from 1) as JPEG or PNG.

    Raises:
        CannotDisplay: with the reason.
        NotFound: `frame.not_found`.
    """
    frame = image.frame_spec(number)
    frame.check()
    picture = picture_of(image, number, request, media_type)
    data = await images.frame(image, number)
    if frame.native and frame.pixels <= MAX_PIXELS_IN_THREAD:
        return await asyncio.to_thread(_draw_native, data, frame, picture)
    return await codecs.draw(frame, picture.to_json(), data)


def _draw_native(data: bytes, frame: FrameSpec, picture: PictureSpec) -> bytes:
    samples, photometric = decode_native(data, frame)
    return draw(samples, photometric, picture)


def representative(instances: list[StoredInstance]) -> list[StoredInstance]:
    """Instances that may stand for a series or study, best first: the middle one with pixels,
    then the others with pixels.
    """
    shown = [instance for instance in instances if instance.rows and instance.columns]
    if not shown:
        return instances[:1]
    middle = shown.pop(len(shown) // 2)
    return [middle, *shown[:3]]
