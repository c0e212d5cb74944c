"""Grey levels, against the formulae of PS3.3 C.11 and against pydicom."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut, apply_windowing

from dataset.voi import (
    Lut,
    Tone,
    Window,
    default_window,
    looked_up,
    modality,
    to_gray,
    to_uint8,
    windowed,
)


@pytest.mark.parametrize(
    ("window", "value", "shown"),
    [
        # the examples in the note of PS3.3 C.11.2.1.2.1
        (Window(2048, 4096), 0, 0.0),
        (Window(2048, 4096), 4095, 1.0),
        (Window(2048, 4096), 2048, (2048 - 2047.5) / 4095 + 0.5),
        (Window(2048, 1), 2047, 0.0),
        (Window(2048, 1), 2048, 1.0),
        (Window(0, 100), -50, 0.0),
        (Window(0, 100), 50, 1.0),
        (Window(0, 100), 0, (0 + 0.5) / 99 + 0.5),
        (Window(0, 1), -1, 0.0),
        (Window(0, 1), 0, 1.0),
        # C.11.2.1.3.2
        (Window(2048, 4096, "LINEAR_EXACT"), 0, 0.0),
        (Window(2048, 4096, "LINEAR_EXACT"), 4096, 1.0),
        (Window(2048, 4096, "LINEAR_EXACT"), 2048, 0.5),
        (Window(0, 100, "LINEAR_EXACT"), -50, 0.0),
        (Window(0, 100, "LINEAR_EXACT"), 25, 0.75),
        # C.11.2.1.3.1
        (Window(40, 400, "SIGMOID"), 40, 0.5),
        (Window(40, 400, "SIGMOID"), 140, 1 / (1 + np.exp(-1))),
        (Window(40, 400, "SIGMOID"), -1e9, 0.0),
        # widths that the standard forbids
        (Window(40, 0), 40, 1.0),
        (Window(40, -5), 39, 0.0),
        (Window(40, 0, "LINEAR_EXACT"), 40, 0.0),
        (Window(40, 0, "SIGMOID"), 41, 1.0),
    ],
)
def test_windows_follow_the_formulae(window: Window, value: float, shown: float) -> None:
    assert windowed(np.asarray([value]), window)[0] == pytest.approx(shown)


@settings(deadline=None, max_examples=200)
@given(
    center=st.integers(-3000, 3000),
    width=st.integers(1, 5000),
    shape=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    slope=st.sampled_from([1.0, 0.5, 2.0]),
    intercept=st.sampled_from([0.0, -1024.0]),
    signed=st.booleans(),
)
def test_windows_agree_with_pydicom(
    center: int, width: int, shape: str, slope: float, intercept: float, signed: bool
) -> None:
    ds = Dataset()
    ds.PhotometricInterpretation, ds.BitsStored = "MONOCHROME2", 12
    ds.PixelRepresentation = int(signed)
    ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = center, width, shape
    ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
    stored = np.arange(-2048 if signed else 0, 2048 if signed else 4096, 7)
    low, high = (-2048, 2047) if signed else (0, 4095)
    with np.errstate(over="ignore"):
        expected = apply_windowing(apply_modality_lut(stored, ds), ds)
    bottom, top = low * slope + intercept, high * slope + intercept
    tone = Tone(slope=slope, intercept=intercept)
    got = windowed(modality(stored, tone), Window(center, width, shape))  # type: ignore[arg-type]
    assert np.allclose(got, (expected - bottom) / (top - bottom), atol=1e-9)


@pytest.mark.parametrize("first", [-10, 0, 100])
def test_look_up_tables_agree_with_pydicom(first: int) -> None:
    entries = np.asarray([5, 80, 200, 255, 7], dtype="<u2")
    item = Dataset()
    item.LUTDescriptor = [5, first, 8]
    item.LUTData = entries.tolist()
    item[0x00283002].VR = "SS"
    item[0x00283006].VR = "US"
    ds = Dataset()
    ds.VOILUTSequence = [item]
    ds.ModalityLUTSequence = [item]
    values = np.arange(first - 3, first + 9)
    lut = Lut(first, 8, entries.tobytes())
    assert np.array_equal(looked_up(values, lut) * 255, apply_voi_lut(values, ds).astype(float))
    assert np.array_equal(modality(values, Tone(modality_lut=lut)), apply_modality_lut(values, ds))


def test_fractions_are_rounded_before_they_are_looked_up() -> None:
    lut = Lut(0, 8, np.asarray([0, 255], dtype="<u2").tobytes())
    assert looked_up(np.asarray([0.49, 0.5]), lut).tolist() == [0.0, 1.0]


def test_halves_round_up() -> None:
    assert to_uint8(np.asarray([0.0, 0.5, 1.0, 1.5 / 255])).tolist() == [0, 128, 255, 2]


def test_eight_bit_images_keep_their_range() -> None:
    samples = np.asarray([[10, 20]], dtype=np.uint8)
    assert to_gray(samples, Tone(bits_stored=8)).tolist() == [[10, 20]]
    assert to_gray(samples, Tone(bits_stored=8, inverse=True)).tolist() == [[245, 235]]


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_other_images_are_shown_from_smallest_to_largest(dtype: type[np.generic]) -> None:
    samples = np.asarray([-1000, 0, 1000], dtype=dtype)
    assert to_gray(samples, Tone(slope=2, intercept=7)).tolist() == [0, 128, 255]
    assert to_gray(samples, Tone(slope=2, inverse=True)).tolist() == [255, 128, 0]


def test_padding_does_not_count() -> None:
    samples = np.asarray([-2000, 0, 50, 100], dtype=np.int16)
    tone = Tone(signed=True, padding=(-2000, -2000))
    assert default_window(samples, tone) == Window(50, 100, "LINEAR_EXACT")
    assert to_gray(samples, tone).tolist() == [0, 0, 128, 255]
    assert default_window(samples[:1], tone).width == 0


def test_a_table_that_falls_is_shown_whole() -> None:
    lut = Lut(0, 16, np.asarray([50, 0, 100], dtype="<u2").tobytes())
    tone = Tone(modality_lut=lut)
    assert to_gray(np.asarray([0, 1, 2], dtype=np.uint16), tone).tolist() == [128, 0, 255]


def test_values_that_are_no_numbers_are_dark() -> None:
    samples = np.asarray([np.nan, 0.0, 4.0], dtype=np.float32)
    assert to_gray(samples, Tone(window=Window(2, 4, "LINEAR_EXACT"))).tolist() == [0, 0, 255]
    assert to_gray(np.asarray([np.nan]), Tone()).tolist() == [0]


def test_empty_and_flat_images_have_grey_levels() -> None:
    assert to_gray(np.zeros((0, 3), dtype=np.uint16), Tone()).shape == (0, 3)
    assert to_gray(np.full((2, 2), 7, dtype=np.uint16), Tone()).tolist() == [[0, 0], [0, 0]]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=2000), st.booleans())
def test_the_table_gives_what_each_pixel_would(values: list[int], inverse: bool) -> None:
    samples = np.asarray(values, dtype=np.int16)
    tone = Tone(slope=0.5, intercept=-3, window=Window(40, 400), inverse=inverse)
    shown = windowed(modality(samples, tone), Window(40, 400))
    assert np.array_equal(to_gray(samples, tone), to_uint8(1 - shown if inverse else shown))
