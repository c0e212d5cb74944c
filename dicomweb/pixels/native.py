"""Native (not encapsulated) frames as arrays (PS3.5 8.1, PS3.3 C.7.6.3.1): pure numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicomweb.pixels.frame import BIG_ENDIAN, FrameSpec, truncated

Samples = NDArray[Any]

FLOAT_TYPES = {"FloatPixelData": "f4", "DoubleFloatPixelData": "f8"}


def decode_native(data: bytes | memoryview, spec: FrameSpec) -> tuple[Samples, str]:
    """One frame as (rows, columns) or (rows, columns, samples), and its photometric interpretation.

    YBR_FULL and YBR_FULL_422 become RGB. Bits above Bits Stored are cleared, the sign is extended.

    Raises:
        CannotDisplay: attributes out of range, or fewer bytes than they declare.
    """
    spec.check()
    need = (spec.bit_offset + spec.frame_bits + 7) // 8
    if len(data) < need:
        raise truncated(len(data), need)
    if spec.bits_allocated == 1:
        return _unpack_bits(data, spec), spec.photometric_interpretation
    samples = np.frombuffer(data, dtype=_dtype(spec), count=spec.frame_bits // spec.bits_allocated)
    if spec.keyword != "PixelData":
        return samples.reshape(spec.rows, spec.columns), spec.photometric_interpretation
    samples = _used_bits(samples, spec)
    if spec.samples_per_pixel == 1:
        return samples.reshape(spec.rows, spec.columns), spec.photometric_interpretation
    photometric = spec.photometric_interpretation
    if photometric == "YBR_FULL_422":
        return ybr_to_rgb(_upsample_422(samples, spec)), "RGB"
    planes = (spec.samples_per_pixel, spec.rows, spec.columns)
    if spec.planar_configuration == 1:
        colour = samples.reshape(planes).transpose(1, 2, 0)
    else:
        colour = samples.reshape(spec.rows, spec.columns, spec.samples_per_pixel)
    if photometric == "YBR_FULL" and spec.samples_per_pixel == 3:
        return ybr_to_rgb(colour), "RGB"
    return colour, photometric


def ybr_to_rgb(ybr: Samples) -> Samples:
    """YBR_FULL to RGB of the same unsigned type (PS3.3 C.7.6.3.1.2)."""
    info = np.iinfo(ybr.dtype)
    middle = (int(info.max) + 1) // 2
    y = ybr[..., 0].astype(np.float32)
    cb = ybr[..., 1].astype(np.float32) - middle
    cr = ybr[..., 2].astype(np.float32) - middle
    rgb = np.empty(ybr.shape, dtype=np.float32)
    rgb[..., 0] = y + 1.402 * cr
    rgb[..., 1] = y - (0.114 * 1.772 / 0.587) * cb - (0.299 * 1.402 / 0.587) * cr
    rgb[..., 2] = y + 1.772 * cb
    np.clip(np.floor(rgb + 0.5), info.min, info.max, out=rgb)
    return rgb.astype(ybr.dtype)


def _dtype(spec: FrameSpec) -> np.dtype[Any]:
    order = ">" if spec.transfer_syntax_uid == BIG_ENDIAN else "<"
    kind = FLOAT_TYPES.get(spec.keyword)
    if kind is None:
        kind = f"{'ui'[spec.pixel_representation]}{spec.bits_allocated // 8}"
    return np.dtype(order + kind)


def _used_bits(samples: Samples, spec: FrameSpec) -> Samples:
    unused = spec.bits_allocated - spec.bits_stored
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=unused > 0)
    if unused:
        np.left_shift(samples, unused, out=samples)
        np.right_shift(samples, unused, out=samples)
    return samples


def _unpack_bits(data: bytes | memoryview, spec: FrameSpec) -> Samples:
    """PS3.5 8.1.1: the first pixel is the least significant bit."""
    packed = np.frombuffer(data, dtype=np.uint8)
    bits = np.unpackbits(packed, bitorder="little", count=spec.bit_offset + spec.frame_bits)
    frame = bits[spec.bit_offset :]
    if spec.samples_per_pixel == 1:
        return frame.reshape(spec.rows, spec.columns)
    return frame.reshape(spec.rows, spec.columns, spec.samples_per_pixel)


def _upsample_422(samples: Samples, spec: FrameSpec) -> Samples:
    """Y1 Y2 Cb Cr per pixel pair to one YBR triple per pixel (PS3.3 C.7.6.3.1.2)."""
    pairs = samples.reshape(-1, 4)
    ybr = np.empty((pairs.shape[0], 2, 3), dtype=samples.dtype)
    ybr[:, 0, 0], ybr[:, 1, 0] = pairs[:, 0], pairs[:, 1]
    ybr[:, :, 1], ybr[:, :, 2] = pairs[:, 2:3], pairs[:, 3:4]
    return ybr.reshape(spec.rows, spec.columns, 3)
