"""A chest radiograph: `server.demo.thorax` summed along the beam, then processed."""

from __future__ import annotations

import numpy as np

from server.demo import thorax
from server.demo.shapes import Image, axis, blur, grain

HEIGHT_MM, WIDTH_MM = 340.0, 322.0
STEP_X_MM, STEP_Z_MM = 0.7, 1.7
PIXEL_MM = 0.2
TOP_Z = 150.0


def chest(seed: int) -> Image:
    """A PA radiograph as stored values 0..4095 (rows x columns, 0.2 mm), dense parts bright.

    The patient's right is on the left of the image, as it is read.
    """
    path = _water_path()
    fine = _enlarge(path, STEP_Z_MM / PIXEL_MM, STEP_X_MM / PIXEL_MM)
    shaped = _compress(fine)
    for sigma_px, share, limit in (
        (5.0, 0.10, 0.8),
        (40.0, 0.075, 2.0),
    ):  # detail back into the dense parts
        shaped += share * limit * np.tanh((fine - _soft(fine, sigma_px)) / limit)
    shaped += (0.0045 + 0.006 * shaped) * grain(shaped.shape, 0.7, seed)
    stored: Image = np.clip(shaped * 3500 + 220, 0, 4095)
    return stored


def _water_path() -> Image:
    """Water-equivalent centimetres along the beam, rows from head to feet."""
    x, y = axis(int(WIDTH_MM / STEP_X_MM), STEP_X_MM), axis(112, 2.2)
    rows = []
    for k in range(int(HEIGHT_MM / STEP_Z_MM)):
        hu = thorax.section(x, y, TOP_Z - k * STEP_Z_MM, STEP_Z_MM, contrast=False)
        density = 1.0 + hu / 1000.0
        density += (
            np.maximum(hu - 120.0, 0.0) / 1000.0 * 0.75
        )  # calcium absorbs more than its density says
        rows.append(density.sum(axis=0) * 0.22)
    path = np.asarray(rows, np.float32)
    return blur(np.maximum(path, 0.0), 0.45)


def _enlarge(image: Image, rows: float, columns: float) -> Image:
    """Cubic enlargement (Catmull-Rom) of both axes."""
    for at, factor in enumerate((rows, columns)):
        size = image.shape[at]
        where = (np.arange(round(size * factor)) + 0.5) / factor - 0.5
        base = np.floor(where).astype(int)
        t = (where - base).astype(np.float32)
        weights = (
            ((-t + 2) * t - 1) * t / 2,
            ((3 * t - 5) * t * t + 2) / 2,
            ((-3 * t + 4) * t + 1) * t / 2,
            (t - 1) * t * t / 2,
        )
        shape = (-1, 1) if at == 0 else (1, -1)
        taps = [np.take(image, np.clip(base + k - 1, 0, size - 1), axis=at) for k in range(4)]
        image = sum(tap * w.reshape(shape) for tap, w in zip(taps, weights, strict=True))
    return image


def _compress(path: Image) -> Image:
    """Bring lungs, mediastinum and abdomen into one range (0..1)."""
    knots = (0.0, 1.5, 6.0, 9.0, 11.5, 14.0, 18.0, 22.0, 27.0)
    grey = (0.0, 0.10, 0.14, 0.22, 0.36, 0.52, 0.68, 0.78, 0.90)
    return np.interp(path, knots, grey).astype(np.float32)


def _soft(image: Image, sigma_px: float) -> Image:
    """A wide blur, worked out on a coarser grid."""
    step = max(1, int(sigma_px // 3))
    small = blur(image[step // 2 :: step, step // 2 :: step], sigma_px / step)
    return _enlarge(small, image.shape[0] / small.shape[0], image.shape[1] / small.shape[1])
