"""Decoders of compressed frames (PS3.5 Annex A.4), for worker processes.

pydicom drives; RLE and JPEG 2000 (HTJ2K included) come from pylibjpeg, JPEG baseline from Pillow.
This module adds JPEG-LS, JPEG lossless and 12-bit JPEG from imagecodecs as a pydicom plugin.
"""

from __future__ import annotations

from typing import Final, cast

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.decoders.base import Decoder, DecodeRunner, get_decoder

JPEG_LS: Final = frozenset({"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"})
_JPEG: Final = frozenset(
    {"1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"}
)
PLUGIN: Final = "imagecodecs"
DECODER_DEPENDENCIES: Final = dict.fromkeys(JPEG_LS | _JPEG, ("imagecodecs",))


def is_available(uid: str) -> bool:
    """Asked by pydicom when the plugin is added."""
    return uid in DECODER_DEPENDENCIES


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """pydicom plugin: one codestream to raw little endian samples, colour by pixel."""
    decoded = (
        imagecodecs.jpegls_decode(src) if runner.transfer_syntax in JPEG_LS else _decode_jpeg(src)
    )
    array = cast("NDArray[np.generic]", decoded)
    runner.set_option("bits_allocated", array.dtype.itemsize * 8)
    runner.set_option("planar_configuration", 0)
    return np.ascontiguousarray(array).tobytes()


def decoder_of(transfer_syntax_uid: str) -> Decoder | None:
    """pydicom's decoder with our plugin added; None where there is none for this syntax."""
    try:
        decoder = get_decoder(transfer_syntax_uid)
    except NotImplementedError:
        return None
    wanted = transfer_syntax_uid in DECODER_DEPENDENCIES
    if wanted and PLUGIN not in decoder.available_plugins:
        decoder.add_plugin(PLUGIN, (__name__, "decode_frame"))
    return decoder if decoder.is_available else None


def _decode_jpeg(src: bytes) -> NDArray[np.generic]:
    """Lossless JPEG without any colour transform; whatever else calls itself that by libjpeg."""
    try:
        return cast("NDArray[np.generic]", imagecodecs.jpegsof3_decode(src))
    except (RuntimeError, ValueError):
        return cast("NDArray[np.generic]", imagecodecs.jpeg8_decode(src))
