"""What must be known to decode one frame, and the reasons why one cannot be shown (pure)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from kernel.errors import Invalid
from kernel.i18n.catalog import marked

NATIVE_SYNTAXES = frozenset(
    {
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.1",
        "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.2",
    }
)
BIG_ENDIAN = "1.2.840.10008.1.2.2"

# What one decoded frame may take; larger ones are served as stored but not decoded.
MAX_FRAME_BYTES = 512 * 1024 * 1024

PixelKeyword = Literal["PixelData", "FloatPixelData", "DoubleFloatPixelData"]


class CannotDisplay(Invalid):
    """The pixels of an instance cannot be decoded or shown (HTTP 406).

    Codes: `pixels.none`, `pixels.attributes`, `pixels.too_large`, `pixels.truncated`,
    `pixels.unclear`, `pixels.syntax`, `pixels.corrupt`, `pixels.memory`, `pixels.time`.
    """


@dataclass(frozen=True, slots=True)
class FrameSpec:
    """The Image Pixel attributes that decide how a frame is laid out (PS3.3 C.7.6.3).

    `bit_offset` counts the bits to skip at the start of the given bytes (Bits Allocated 1, where
    frames need not start on a byte).
    """

    transfer_syntax_uid: str
    rows: int
    columns: int
    samples_per_pixel: int = 1
    bits_allocated: int = 16
    bits_stored: int = 16
    pixel_representation: int = 0
    photometric_interpretation: str = "MONOCHROME2"
    planar_configuration: int = 0
    keyword: PixelKeyword = "PixelData"
    bit_offset: int = 0

    @property
    def native(self) -> bool:
        """Whether the pixel data is not encapsulated."""
        return self.transfer_syntax_uid in NATIVE_SYNTAXES

    @property
    def pixels(self) -> int:
        """Rows x columns."""
        return self.rows * self.columns

    @property
    def frame_bits(self) -> int:
        """Length of one native frame in bits (YBR_FULL_422 shares chroma, PS3.3 C.7.6.3.1.2)."""
        samples = self.samples_per_pixel
        if self.native and samples == 3 and self.photometric_interpretation == "YBR_FULL_422":
            samples = 2
        return self.pixels * samples * self.bits_allocated

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the decoded frame; one byte a pixel for Bits Allocated 1."""
        return self.pixels * self.samples_per_pixel * max(1, self.bits_allocated // 8)

    def check(self) -> None:
        """Refuse what cannot be decoded before anything is allocated.

        Raises:
            CannotDisplay: `pixels.attributes`, `pixels.too_large`.
        """
        possible = (
            self.rows > 0
            and self.columns > 0
            and self.samples_per_pixel in (1, 3, 4)
            and self.bits_allocated in (1, 8, 16, 32, 64)
            and 0 < self.bits_stored <= self.bits_allocated
            and self.pixel_representation in (0, 1)
        )
        if not possible:
            raise CannotDisplay(
                "pixels.attributes",
                marked(
                    "The image attributes are missing or contradict each other: {rows} x "
                    "{columns}, {samples} samples, {bits} bits."
                ),
                rows=self.rows,
                columns=self.columns,
                samples=self.samples_per_pixel,
                bits=self.bits_allocated,
            )
        if self.decoded_bytes > MAX_FRAME_BYTES:
            raise CannotDisplay(
                "pixels.too_large",
                marked("One frame declares {rows} x {columns} pixels, more than can be displayed."),
                rows=self.rows,
                columns=self.columns,
            )

    def to_json(self) -> dict[str, Any]:
        """The spec as plain values, for another process."""
        return asdict(self)


def truncated(have: int, need: int) -> CannotDisplay:
    """The error for a frame that is shorter than its attributes declare."""
    return CannotDisplay(
        "pixels.truncated",
        marked("The pixel data is too short: {have} of {need} bytes."),
        have=have,
        need=need,
    )
