"""From decoded samples to a picture: tone, palette, region, size, JPEG or PNG (PS3.4 N.2)."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dataset.voi import Lut, Tone, to_gray
from dicomweb.pixels.frame import CannotDisplay
from dicomweb.pixels.picture_spec import PictureSpec, Region
from kernel.i18n.catalog import marked

COLOUR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT"})


def draw(samples: NDArray[np.generic], photometric: str, spec: PictureSpec) -> bytes:
    """The picture of one frame.

    Args:
        samples: (rows, columns) or (rows, columns, samples), as decoded.
        photometric: their photometric interpretation (PS3.3 C.7.6.3.1.2).

    Raises:
        CannotDisplay: for a photometric interpretation that has no picture, or a region outside.
    """
    if spec.region is not None:
        samples = _crop(samples, spec.region)
    if samples.ndim == 2 and photometric == "PALETTE COLOR":
        if spec.palette is None:
            raise CannotDisplay(
                "pixels.attributes",
                marked("The colour palette is missing or of an unknown kind."),
            )
        shown = palette_to_rgb(samples, spec.palette)
    elif samples.ndim == 2:
        shown = to_gray(samples, _with_polarity(spec.tone, photometric))
    elif samples.shape[2] == 3 and photometric in COLOUR:
        shown = _eight_bits(samples, spec.tone.bits_stored)
    else:
        raise CannotDisplay(
            "pixels.attributes",
            marked("Images of photometric interpretation {photometric} are not shown."),
            photometric=photometric[:32],
        )
    return _encode(_fit(Image.fromarray(np.ascontiguousarray(shown)), spec), spec)


def palette_to_rgb(samples: NDArray[Any], palette: tuple[Lut, Lut, Lut]) -> NDArray[np.uint8]:
    """RGB of palette indices; values outside a table take its first or last entry."""
    rgb = np.empty((*samples.shape, 3), dtype=np.uint8)
    for channel, lut in enumerate(palette):
        entries = np.frombuffer(lut.data, dtype="<u2")
        index = np.clip(samples.astype(np.int64) - lut.first, 0, entries.size - 1)
        rgb[..., channel] = _palette_bytes(entries, lut.bits)[index]
    return rgb


def _palette_bytes(entries: NDArray[np.uint16], bits: int) -> NDArray[np.uint8]:
    """8-bit colours; 16-bit tables that never pass 255 are 8-bit ones under a wrong name."""
    if bits > 8 and entries.max(initial=0) > 255:
        return (entries >> 8).astype(np.uint8)
    return entries.astype(np.uint8)


def _with_polarity(tone: Tone, photometric: str) -> Tone:
    """MONOCHROME1 shows low values bright, once, whether or not a Presentation LUT says so too."""
    return replace(tone, inverse=True) if photometric == "MONOCHROME1" else tone


def _crop(samples: NDArray[np.generic], region: Region) -> NDArray[np.generic]:
    """The source region of PS3.18 8.3.5.1.3; mirrored where an extent is negative."""
    rows, columns = samples.shape[:2]
    width = columns - region.left if region.width is None else region.width
    height = rows - region.top if region.height is None else region.height
    right, bottom = region.left + abs(width), region.top + abs(height)
    part = samples[region.top : bottom, region.left : right]
    if part.size == 0:
        raise CannotDisplay("pixels.region", marked("The region lies outside the image."))
    return part[:: -1 if height < 0 else 1, :: -1 if width < 0 else 1]


def _eight_bits(samples: NDArray[np.generic], bits_stored: int) -> NDArray[np.uint8]:
    if samples.dtype == np.uint8 and bits_stored >= 8:
        return samples.astype(np.uint8, copy=False)
    scaled = samples.astype(np.float32) * (255.0 / ((1 << bits_stored) - 1))
    shown: NDArray[np.uint8] = np.clip(scaled + 0.5, 0, 255).astype(np.uint8)
    return shown


def _fit(picture: Image.Image, spec: PictureSpec) -> Image.Image:
    """Scale into the viewport, keeping the aspect ratio."""
    if spec.viewport is None:
        return picture
    scale = min(spec.viewport[0] / picture.width, spec.viewport[1] / picture.height)
    if scale >= 1 and not spec.enlarge:
        return picture
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    if size == picture.size:
        return picture
    filtering = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    return picture.resize(size, filtering, reducing_gap=2.0 if scale < 0.5 else None)


def _encode(picture: Image.Image, spec: PictureSpec) -> bytes:
    sink = io.BytesIO()
    if spec.media_type == "image/png":
        picture.save(sink, "PNG", compress_level=3)
    else:
        # At high quality colour keeps its full resolution; text burnt into ultrasound stays sharp.
        subsampling = 0 if spec.quality >= 90 else 2
        picture.save(sink, "JPEG", quality=spec.quality, subsampling=subsampling)
    return sink.getvalue()
