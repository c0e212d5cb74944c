"""Decoders of compressed frames, run inside a worker process (PS3.5 Annex A.4).

The decoders are those of `dataset.codecs`; this module adds the two forms that pydicom does not
know and says in words what cannot be displayed.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from dataset.codecs import decoder_of
from dicomweb.pixels.frame import CannotDisplay, FrameSpec
from dicomweb.pixels.native import decode_native
from kernel.i18n.catalog import marked

DEFLATED_IMAGE_FRAME = "1.2.840.10008.1.2.8.1"
RLE_HEADER_BYTES = 64


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
    decoder = decoder_of(spec.transfer_syntax_uid)
    if decoder is None:
        raise CannotDisplay(
            "pixels.syntax",
            marked("Pixel data of transfer syntax {transfer_syntax_uid} cannot be displayed."),
            transfer_syntax_uid=spec.transfer_syntax_uid,
        )
    return decoder


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
