"""Drawing with soft edges on planes in millimetres: ellipses, tubes, blur and smooth noise.

Coordinates are the patient's (PS3.3 C.7.6.2.1.1): x grows to the left hand, y to the back,
z to the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[Any]
Point = tuple[float, float, float]
Keys = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Plane:
    """One axial plane being drawn: ``values`` is rows (y) x columns (x); ``x`` and ``y`` in mm."""

    values: Image
    x: Image
    y: Image
    z: float
    slab_mm: float

    @property
    def pixel_mm(self) -> float:
        """The wider of the two pixel spacings, in mm."""
        return float(max(self.x[1] - self.x[0], self.y[1] - self.y[0]))

    def like(self, fill: float) -> Plane:
        """An empty plane on the same grid."""
        return Plane(np.full_like(self.values, fill), self.x, self.y, self.z, self.slab_mm)


def plane(x: Image, y: Image, z: float, slab_mm: float, fill: float) -> Plane:
    """A new plane at height ``z`` filled with one value."""
    return Plane(np.full((len(y), len(x)), fill, np.float32), x, y, z, slab_mm)


def axis(count: int, spacing_mm: float) -> Image:
    """Pixel centres of a centred axis, in mm."""
    return ((np.arange(count) - (count - 1) / 2) * spacing_mm).astype(np.float32)


def keyed(z: float, keys: Keys) -> float:
    """The value at ``z`` of a curve given as (z, value) pairs in ascending z."""
    return float(np.interp(z, [k[0] for k in keys], [k[1] for k in keys]))


def along(positions: Image, keys: Keys) -> Image:
    """The values of a curve given as pairs, at every position."""
    curve: Image = np.interp(positions, [k[0] for k in keys], [k[1] for k in keys])
    return curve


def cover(distance: Image, edge_mm: float) -> Image:
    """How much of a pixel lies inside, from its signed distance to the border (inside < 0)."""
    share: Image = np.clip(0.5 - distance / edge_mm, 0.0, 1.0)
    return share


def blend(values: Image, alpha: Image, value: float | Image) -> None:
    """Lay ``value`` over ``values`` in place where ``alpha`` says so."""
    values += alpha * (value - values)


def _window(p: Plane, cx: float, cy: float, rx: float, ry: float) -> tuple[slice, slice]:
    columns = slice(*np.searchsorted(p.x, (cx - rx, cx + rx)))
    rows = slice(*np.searchsorted(p.y, (cy - ry, cy + ry)))
    return rows, columns


def ellipse(
    p: Plane,
    centre: tuple[float, float],
    radii: tuple[float, float],
    value: float,
    turn: float = 0.0,
    wobble: Sequence[tuple[int, float, float]] = (),
    soft_mm: float = 0.0,
) -> None:
    """Lay an ellipse over the plane; ``wobble``: (harmonic, amplitude, phase) of its outline."""
    a, b = radii
    if a <= 0.2 or b <= 0.2:
        return
    reach = max(a, b) * (1.0 + sum(abs(w[1]) for w in wobble)) + 2 * p.pixel_mm + soft_mm
    rows, columns = _window(p, centre[0], centre[1], reach, reach)
    u, v = p.x[columns][None, :] - centre[0], p.y[rows][:, None] - centre[1]
    c, s = np.cos(turn), np.sin(turn)
    along, across = (u * c + v * s) / a, (v * c - u * s) / b
    q = np.sqrt(along * along + across * across)
    if wobble:
        theta = np.arctan2(across, along)
        q = q / (1.0 + sum(m * np.cos(k * theta + f) for k, m, f in wobble))
    alpha = cover((q - 1.0) * np.float32(np.sqrt(a * b)), p.pixel_mm + soft_mm)
    blend(p.values[rows, columns], alpha.astype(np.float32), value)


def ellipsoid(
    p: Plane,
    centre: Point,
    radii: Point,
    value: float,
    turn: float = 0.0,
    wobble: Sequence[tuple[int, float, float]] = (),
    lean: tuple[float, float] = (0.0, 0.0),
    soft_mm: float = 0.0,
) -> None:
    """Lay the cut through an ellipsoid over the plane; ``lean`` shifts x and y per mm of height."""
    h = (p.z - centre[2]) / radii[2]
    if abs(h) >= 1.0:
        return
    k, dz = float(np.sqrt(1.0 - h * h)), p.z - centre[2]
    at = (centre[0] + lean[0] * dz, centre[1] + lean[1] * dz)
    ellipse(p, at, (radii[0] * k, radii[1] * k), value, turn, wobble, soft_mm)


def tube(p: Plane, points: Sequence[Point], radii: Sequence[float], value: float) -> None:
    """Lay the cut through a chain of round cones over the plane, thickened by the slab."""
    for (q0, r0), (q1, r1) in zip(
        zip(points, radii, strict=True), zip(points[1:], radii[1:], strict=False), strict=False
    ):
        _cone(p, q0, q1, r0, r1, value)


def _cone(p: Plane, q0: Point, q1: Point, r0: float, r1: float, value: float) -> None:
    big, half = max(r0, r1), p.slab_mm / 2
    if not min(q0[2], q1[2]) - big - half < p.z < max(q0[2], q1[2]) + big + half:
        return
    edge = big + 2 * p.pixel_mm
    cx, cy = (q0[0] + q1[0]) / 2, (q0[1] + q1[1]) / 2
    rows, columns = _window(p, cx, cy, abs(q1[0] - q0[0]) / 2 + edge, abs(q1[1] - q0[1]) / 2 + edge)
    u, v = p.x[columns][None, :] - q0[0], p.y[rows][:, None] - q0[1]
    d = (q1[0] - q0[0], q1[1] - q0[1], q1[2] - q0[2])
    length2 = d[0] ** 2 + d[1] ** 2 + d[2] ** 2 + 1e-9
    t = np.clip((u * d[0] + v * d[1] + (p.z - q0[2]) * d[2]) / length2, 0.0, 1.0)
    dz = np.maximum(np.abs(p.z - q0[2] - t * d[2]) - half, 0.0)
    away = np.sqrt((u - t * d[0]) ** 2 + (v - t * d[1]) ** 2 + dz * dz) - (r0 + t * (r1 - r0))
    thin = min(1.0, 2 * big / max(p.slab_mm, 1e-3)) if p.slab_mm > 2 * big else 1.0
    blend(p.values[rows, columns], (cover(away, p.pixel_mm) * thin).astype(np.float32), value)


def blur(image: Image, sigma_px: float) -> Image:
    """Gaussian blur over rows and columns, edges repeated; ``sigma_px`` in pixels."""
    if sigma_px <= 0.05:
        return image
    n = max(1, int(np.ceil(2.6 * sigma_px)))
    weights = np.exp(-0.5 * (np.arange(-n, n + 1) / sigma_px) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    for at in (0, 1):
        pad = [(n, n) if k == at else (0, 0) for k in (0, 1)]
        wide = np.pad(image, pad, mode="edge")
        size = image.shape[at]
        total = np.zeros_like(image)
        for k, weight in enumerate(weights):
            total += weight * (wide[k : k + size] if at == 0 else wide[:, k : k + size])
        image = total
    return image


def grain(shape: tuple[int, int], sigma_px: float, seed: int) -> Image:
    """Noise of mean 0 and standard deviation 1 with a given grain size, fixed by the seed."""
    noise = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    noise = blur(noise, sigma_px)
    return noise / np.float32(noise.std())


def waves(x: Image, y: Image, z: float, length_mm: float, seed: int, count: int = 7) -> Image:
    """Smooth noise in space (about -1 to 1): plane waves of random direction, coherent over z."""
    rng = np.random.default_rng(seed)
    rows = np.empty((len(y), 2 * count), np.float32)
    columns = np.empty((2 * count, len(x)), np.float32)
    for n in range(count):
        k = rng.standard_normal(3)
        k *= 2 * np.pi / (length_mm * rng.uniform(0.7, 1.5)) / np.linalg.norm(k)
        phase = rng.uniform(0, 2 * np.pi) + k[2] * z
        # cos(a + b) = cos a cos b - sin a sin b: the sum of waves is one matrix product
        rows[:, 2 * n], rows[:, 2 * n + 1] = np.cos(k[1] * y + phase), -np.sin(k[1] * y + phase)
        columns[2 * n], columns[2 * n + 1] = np.cos(k[0] * x), np.sin(k[0] * x)
    return (rows @ columns) / np.float32(np.sqrt(count / 2))
