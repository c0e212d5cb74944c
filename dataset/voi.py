"""From stored values to grey levels: modality, values of interest, polarity.

Source: PS3.4 N.2, PS3.3 C.11.1 and C.11.2.

All functions are pure and take numpy arrays of any shape. Display values are 0 (darkest) to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

WindowShape = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]
Numbers = NDArray[Any]
Floats = NDArray[np.float64]

TABLE_VALUES = 1 << 17  # a larger table costs more than mapping the pixels themselves


class Window(NamedTuple):
    """Window centre and width in modality units (PS3.3 C.11.2.1.2), and VOI LUT Function."""

    center: float
    width: float
    shape: WindowShape = "LINEAR"


class Lut(NamedTuple):
    """A look-up table: first value mapped, bits of an entry, little endian 16-bit entries."""

    first: int
    bits: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Tone:
    """What turns the stored values of a grayscale image into grey levels.

    `inverse` is for MONOCHROME1 or a Presentation LUT Shape INVERSE. `padding` is the range of
    Pixel Padding Value, lowest and highest (PS3.3 C.7.5.1.1.2). Of `window` and `voi_lut` the
    window counts.
    """

    bits_stored: int = 16
    signed: bool = False
    slope: float = 1.0
    intercept: float = 0.0
    modality_lut: Lut | None = None
    window: Window | None = None
    voi_lut: Lut | None = None
    inverse: bool = False
    padding: tuple[float, float] | None = None

    @property
    def stored_are_modal(self) -> bool:
        """Whether stored values are modality values as they are."""
        return self.modality_lut is None and self.slope == 1.0 and self.intercept == 0.0


def to_gray(samples: Numbers, tone: Tone) -> NDArray[np.uint8]:
    """Grey levels of stored values, 0 dark and 255 bright, of the same shape.

    Without a window or VOI LUT, unsigned values of up to 8 bits are shown over their whole range,
    others from the smallest to the largest (`default_window`). Whole numbers go through a table of
    their distinct values.
    """
    if samples.size == 0:
        return np.zeros(samples.shape, dtype=np.uint8)
    voi = _voi(samples, tone)
    if samples.dtype.kind not in "iu":
        finite = samples[np.isfinite(samples)]
        darkest = float(finite.min()) if finite.size else 0.0
        return _levels(np.nan_to_num(samples, nan=darkest), tone, voi)
    low, high = int(samples.min()), int(samples.max())
    if high - low >= min(TABLE_VALUES, 2 * samples.size + 1024):
        return _levels(samples, tone, voi)
    table = _levels(np.arange(low, high + 1, dtype=np.int64), tone, voi)
    return table[samples if low == 0 else samples.astype(np.int64) - low]


def _voi(samples: Numbers, tone: Tone) -> Window | Lut:
    if tone.window is not None:
        return tone.window
    return tone.voi_lut if tone.voi_lut is not None else default_window(samples, tone)


def _levels(values: Numbers, tone: Tone, voi: Window | Lut) -> NDArray[np.uint8]:
    modal = modality(values, tone)
    shown = windowed(modal, voi) if isinstance(voi, Window) else looked_up(modal, voi)
    return to_uint8(1.0 - shown if tone.inverse else shown)


def to_uint8(shown: Floats) -> NDArray[np.uint8]:
    """Display values 0 to 1 as 0 to 255, halves rounded up."""
    return np.floor(shown * 255.0 + 0.5).astype(np.uint8)


def modality(values: Numbers, tone: Tone) -> Floats:
    """Stored values to modality units: table, else slope and intercept (PS3.3 C.11.1)."""
    lut = tone.modality_lut
    if lut is None:
        return values.astype(np.float64) * tone.slope + tone.intercept
    return _entries_at(values, lut).astype(np.float64)


def windowed(modal: Numbers, window: Window) -> Floats:
    """Modality units to display values 0 to 1.

    LINEAR is PS3.3 C.11.2.1.2.1, with a width below 1 taken for 1; SIGMOID and LINEAR_EXACT are
    C.11.2.1.3, with a width of 0 or less taken for the smallest there is.
    """
    values = np.asarray(modal, dtype=np.float64)
    center, width = window.center, window.width
    if window.shape == "SIGMOID":
        exponent = np.clip(-4.0 * (values - center) / max(width, 1e-9), -700.0, 700.0)
        return np.asarray(1.0 / (1.0 + np.exp(exponent)))
    if window.shape == "LINEAR":
        center, width = center - 0.5, width - 1.0
    if width <= 0.0:
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0.0, 1.0)


def looked_up(modal: Numbers, lut: Lut) -> Floats:
    """Modality units through a VOI LUT to display values 0 to 1 (PS3.3 C.11.2.1.1).

    Values outside the table take its first or last entry.
    """
    entries = _entries_at(np.floor(np.asarray(modal, dtype=np.float64) + 0.5), lut)
    return np.minimum(entries / float((1 << lut.bits) - 1), 1.0)


def default_window(samples: Numbers, tone: Tone) -> Window:
    """The window that shows everything where nothing else says what to show.

    Unsigned stored values of up to 8 bits keep their whole range, so that black stays black in
    secondary captures; others go from the smallest to the largest value that is not padding.
    """
    whole = samples.dtype.kind in "iu"
    if tone.stored_are_modal and tone.bits_stored <= 8 and not tone.signed and whole:
        return _between(0.0, float((1 << tone.bits_stored) - 1))
    kept = samples if whole else samples[np.isfinite(samples)]
    if tone.padding is not None:
        rest = kept[(kept < tone.padding[0]) | (kept > tone.padding[1])]
        kept = rest if rest.size else kept
    if kept.size == 0:
        return _between(0.0, 1.0)
    if tone.modality_lut is None:
        ends = modality(np.asarray([kept.min(), kept.max()]), tone)
    else:
        ends = modality(np.unique(kept), tone)  # a table need not rise
    return _between(float(ends.min()), float(ends.max()))


def _between(low: float, high: float) -> Window:
    return Window((low + high) / 2, high - low, "LINEAR_EXACT")


def _entries_at(values: Numbers, lut: Lut) -> NDArray[np.uint16]:
    entries = np.frombuffer(lut.data, dtype="<u2")
    if entries.size == 0:
        raise ValueError("a look-up table without entries")
    return entries[np.clip(values.astype(np.int64) - lut.first, 0, entries.size - 1)]
