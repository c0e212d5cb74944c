"""The lungs: where they lie, their tissue, fissures and the tree of vessels that fills them."""

from __future__ import annotations

from functools import cache

import numpy as np

from server.demo.anatomy import (
    CAGE_DEPTH,
    CAGE_WIDTH,
    CAGE_Y,
    FAT,
    LUNG,
    MIDDLE_LEFT,
    MIDDLE_RIGHT,
    cage,
    dome,
)
from server.demo.shapes import (
    Image,
    Plane,
    Point,
    along,
    blend,
    cover,
    ellipsoid,
    keyed,
    tube,
    waves,
)


def draw_lungs(p: Plane) -> Image:
    """Lay fat and lungs inside the rib cage; the share of each pixel that is lung."""
    z = p.z
    if z > 118:
        return np.zeros_like(p.values)
    chest = cage(p)
    fade = float(np.clip((118 - z) / 12, 0, 1))
    blend(p.values, cover(chest, p.pixel_mm) * np.float32(fade), FAT + 14)
    top = keyed(z, ((-200, 0), (55, 0), (85, 8), (115, 22)))
    low = keyed(z, ((-140, 44), (-78, 22), (-45, 0))) * np.clip(-p.y[:, None] / 45, 0, 1)
    right = along(p.y, MIDDLE_RIGHT)[:, None] + top
    left = along(p.y, MIDDLE_LEFT)[:, None] + top
    width = p.x[None, :]
    side = np.minimum(width + right + low, left + low - width)  # > 0 between the lungs
    wobbly = waves(p.x, p.y, z, 34, 31, 4) * 1.2
    inside = _round_max(chest + 2.0, side + 2.0 + wobbly, 9.0)
    lung = (cover(inside, p.pixel_mm) * fade).astype(np.float32)
    depth = (p.y[:, None] + 90) / 180
    tissue = LUNG + 42 * depth**2 + 7 * waves(p.x, p.y, z, 26, 41) + 4 * waves(p.x, p.y, z, 9, 43)
    blend(p.values, lung, tissue.astype(np.float32))
    _fissures(p, lung)
    _lung_tree(p, lung)
    return lung


def _round_max(a: Image, b: Image, radius: float) -> Image:
    """The greater of two distances with the corner rounded off."""
    h = np.clip(0.5 + (a - b) / (2 * radius), 0, 1)
    rounded: Image = b + (a - b) * h + radius * h * (1 - h)
    return rounded.astype(np.float32)


def _fissures(p: Plane, lung: Image) -> None:
    bend = 5 * waves(p.x, p.y, p.z, 90, 47)
    for right in (True, False):
        half = (p.x < 0) if right else (p.x > 0)
        lean = p.y[:, None] * 0.80 + p.z * 0.60 + (22 if right else 16) + bend
        line = np.clip(1 - np.abs(lean) / (0.8 + p.slab_mm * 0.22), 0, 1)
        blend(p.values, (line * lung * half[None, :] * 0.10).astype(np.float32), -250.0)


def _lung_tree(p: Plane, lung: Image) -> None:
    over = p.like(0.0)
    z, reach = p.z, p.slab_mm / 2
    least = (
        0.6 if p.slab_mm < 2 else 0.0
    )  # twigs vanish in a projection, which is made of thin slabs
    for low, high, q0, q1, r0, r1 in _segments():
        if low - reach <= z <= high + reach and r1 >= least:
            tube(over, (q0, q1), (r0, r1), 1.0)
    blend(p.values, over.values * lung, 46.0)
    # What was found: a spiculated nodule in the right upper lobe and an old calcified scar.
    ellipsoid(
        p,
        (-72, -12, 52),
        (9, 7.5, 8),
        38.0,
        0.4,
        ((2, 0.10, 1.0), (3, 0.13, 0.4), (7, 0.06, 2.0)),
        (0, 0),
        1.2,
    )
    for turn in (0.4, 1.3, 1.9, 3.3, 4.1, 5.6):
        c, s, far = float(np.cos(turn)), float(np.sin(turn)), 12 + 3 * float(np.cos(7 * turn))
        tube(
            p,
            ((-72 + 6 * c, -12 + 6 * s, 52), (-72 + far * c, -12 + far * s, 52 + 4 * s)),
            (0.7, 0.2),
            -350.0,
        )
    ellipsoid(p, (88, 30, 38), (3.0, 2.6, 3.0), 640.0)


@cache
def _segments() -> tuple[tuple[float, float, Point, Point, float, float], ...]:
    """The lung vessels as (lowest z, highest z, from, to, radii), grown from both hila."""
    return (*_tree(np.random.default_rng(2024), -1.0), *_tree(np.random.default_rng(2025), 1.0))


def _tree(
    rng: np.random.Generator, side: float, twigs: int = 2000
) -> list[tuple[float, float, Point, Point, float, float]]:
    """Join points spread through one lung to its hilum by short ways; radii follow Murray's law."""
    cloud = rng.uniform((28, -95, -150), (135, 95, 112), (twigs * 4, 3)) * (side, 1, 1)
    cloud = np.array([q for q in cloud if _in_lung(q)][:twigs])
    hilum = np.array((side * 44.0, 12.0, -8.0))
    cloud = cloud[np.argsort(np.linalg.norm(cloud - hilum, axis=1))]
    nodes = np.vstack([hilum, cloud])
    path = np.zeros(len(nodes))
    parent = np.zeros(len(nodes), int)
    for i in range(1, len(nodes)):
        way = np.linalg.norm(nodes[:i] - nodes[i], axis=1)
        parent[i] = int(np.argmin(way + 0.55 * path[:i]))
        path[i] = path[parent[i]] + way[parent[i]]
    load = np.full(len(nodes), 0.42**2.5)
    for i in range(len(nodes) - 1, 0, -1):
        load[parent[i]] += load[i] * 0.9
    radius = np.minimum(load**0.4, 5.0)
    out = []
    for i in range(1, len(nodes)):
        k = parent[i]
        a, b = _point(nodes[k]), _point(nodes[i])
        start = float(min(radius[k], radius[i] * 1.25))
        low, high = min(a[2], b[2]) - start, max(a[2], b[2]) + start
        out.append((low, high, a, b, start, float(radius[i])))
    return out


def _point(q: Image) -> Point:
    return float(q[0]), float(q[1]), float(q[2])


def _in_lung(q: Image) -> bool:
    x, y, z = _point(q)
    a, b, cy = keyed(z, CAGE_WIDTH) - 5, keyed(z, CAGE_DEPTH) - 5, keyed(z, CAGE_Y)
    if z > 108 or z < -150 or (x / a) ** 2 + ((y - cy) / b) ** 2 > 1:
        return False
    return (
        abs(x) > keyed(y, MIDDLE_RIGHT) + 3
        and z > dome(np.array([[x]]), np.array([[y]])).item() + 4
    )
