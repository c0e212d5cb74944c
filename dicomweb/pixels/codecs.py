"""Decoders of compressed frames, run inside a worker process (PS3.5 Annex A.4).

pydicom drives; RLE and JPEG 2000 (HTJ2K included) come from pylibjpeg, JPEG baseline from Pillow.
This module adds JPEG-LS, JPEG lossless and 12-bit JPEG from imagecodecs as a pydicom plugin.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from typing import Any, cast

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import Decoder, DecodeRunner, get_decoder
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicomweb.pixels.frame import CannotDisplay, FrameSpec
from dicomweb.pixels.native import decode_native
from kernel.i18n.catalog import marked

DEFLATED_IMAGE_FRAME = "1.2.840.10008.1.2.8.1"
RLE_HEADER_BYTES = 64

PLUGIN = "imagecodecs"
PLUGIN_SYNTAXES = (
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)
DECODER_DEPENDENCIES = dict.fromkeys(PLUGIN_SYNTAXES, ("imagecodecs",))


def is_available(uid: str) -> bool:
    """Asked by pydicom when the plugin is added."""
    return uid in DECODER_DEPENDENCIES


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """pydicom plugin: one codestream to raw little endian samples, colour by pixel."""
    if runner.transfer_syntax in (JPEGLSLossless, JPEGLSNearLossless):
        decoded = imagecodecs.jpegls_decode(src)
    else:
        decoded = _decode_jpeg(src)
    array = cast("NDArray[np.generic]", decoded)
    runner.set_option("bits_allocated", array.dtype.itemsize * 8)
    runner.set_option("planar_configuration", 0)
    return np.ascontiguousarray(array).tobytes()


def register() -> None:
    """Add the plugin to pydicom's decoders of this process; calling it again does nothing."""
    for uid in PLUGIN_SYNTAXES:
        decoder = get_decoder(uid)
        if PLUGIN not in decoder.available_plugins:
            decoder.add_plugin(PLUGIN, (__name__, "decode_frame"))


def decode(codestream: bytes, spec: FrameSpec) -> tuple[NDArray[np.generic], str]:
    """Decode one compressed frame.

    Returns:
        The samples, (rows, columns) or (rows, columns, samples), and their photometric
        interpretation: RGB where the codestream held YBR.

    Raises:
        CannotDisplay: `pixels.syntax`, `pixels.corrupt`, `pixels.memory`.
    """
    spec.check()
    if spec.transfer_syntax_uid == DEFLATED_IMAGE_FRAME:
        return _as_native(_inflated(codestream, spec), spec)
    if spec.transfer_syntax_uid == RLELossless and spec.bits_allocated == 1:
        return _as_native(_packed_bits(codestream), spec)
    decoder = _decoder(spec)
    options: dict[str, Any] = {
        "number_of_frames": 1,
        "rows": spec.rows,
        "columns": spec.columns,
        "samples_per_pixel": spec.samples_per_pixel,
        "bits_allocated": spec.bits_allocated,
        "bits_stored": spec.bits_stored,
        "pixel_representation": spec.pixel_representation,
        "photometric_interpretation": spec.photometric_interpretation,
        "planar_configuration": 0,
        "pixel_keyword": "PixelData",
    }
    try:
        pixels = encapsulate([codestream], has_bot=False)
        array, properties = decoder.as_array(pixels, index=0, **options)
    except MemoryError as error:
        raise CannotDisplay(
            "pixels.memory", marked("Decoding this frame needs more memory than allowed.")
        ) from error
    except Exception as error:
        raise _corrupt(error) from error
    return array, str(properties["photometric_interpretation"])


def _as_native(data: bytes, spec: FrameSpec) -> tuple[NDArray[np.generic], str]:
    return decode_native(data, replace(spec, transfer_syntax_uid=ExplicitVRLittleEndian))


def _inflated(data: bytes, spec: FrameSpec) -> bytes:
    """A frame of Deflated Image Frame Compression (PS3.5 A.4.13), not longer than it should be."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, (spec.frame_bits + 7) // 8)
    except zlib.error as error:
        raise _corrupt(error) from error


def _packed_bits(data: bytes) -> bytes:
    """The one segment of an RLE frame with Bits Allocated 1 (PS3.5 Annex G)."""
    try:
        (start,) = struct.unpack_from("<4xI", data)
        return bytes(imagecodecs.packbits_decode(data[max(start, RLE_HEADER_BYTES) :]))
    except (ValueError, RuntimeError, struct.error) as error:
        raise _corrupt(error) from error


def _corrupt(error: Exception) -> CannotDisplay:
    return CannotDisplay(
        "pixels.corrupt",
        marked("The compressed pixel data cannot be decoded: {detail}"),
        detail=_first_line(error),
    )


def _decoder(spec: FrameSpec) -> Decoder:
    register()
    try:
        decoder = get_decoder(spec.transfer_syntax_uid)
    except NotImplementedError:
        decoder = None
    if decoder is None or not decoder.is_available:
        raise CannotDisplay(
            "pixels.syntax",
            marked("Pixel data of transfer syntax {transfer_syntax_uid} cannot be displayed."),
            transfer_syntax_uid=spec.transfer_syntax_uid,
        )
    return decoder


def _decode_jpeg(src: bytes) -> NDArray[np.generic]:
    """Lossless JPEG without any colour transform; whatever else calls itself that by libjpeg."""
    try:
        return cast("NDArray[np.generic]", imagecodecs.jpegsof3_decode(src))
    except (RuntimeError, ValueError):
        return cast("NDArray[np.generic]", imagecodecs.jpeg8_decode(src))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
