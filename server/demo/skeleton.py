"""The bones of the chest: ribs, breast bone, spine, shoulder blades and collar bones."""

from __future__ import annotations

import numpy as np

from server.demo.anatomy import (
    CAGE_DEPTH,
    CAGE_WIDTH,
    CAGE_Y,
    MUSCLE,
    RIB_STEP,
    RIB_TOP,
    SPINE_Y,
    cage,
)
from server.demo.shapes import Plane, blend, cover, ellipse, keyed, tube, waves


def draw_bones(p: Plane) -> None:
    """Lay every bone that the plane cuts over it."""
    _ribs(p)
    _sternum(p)
    _vertebra(p)
    _shoulders(p)


def _ribs(p: Plane) -> None:
    z = p.z
    wall = cage(p, 6.0)
    cy = keyed(z, CAGE_Y)
    rows = np.abs(wall) < 9
    angle = np.arctan2(
        np.abs(p.x[None, :]), (p.y[:, None] - cy) * (keyed(z, CAGE_WIDTH) / keyed(z, CAGE_DEPTH))
    )
    drop = 46 * (1 - np.cos(np.minimum(angle, 2.3) * 1.12)) + 8 * np.sin(angle)
    index = np.round((RIB_TOP - drop - z) / RIB_STEP)
    away = RIB_TOP - drop - z - index * RIB_STEP
    near = (index >= 0) & (index <= 11) & rows
    ends = np.select([index < 1, index < 7, index < 10], [1.9, 2.45, 2.15], 1.5)
    near &= (angle < ends + 0.35) & (angle > 0.24)
    half = p.slab_mm * 0.3
    shape = np.sqrt((np.maximum(np.abs(away) - half, 0) / 6.4) ** 2 + (wall / 4.4) ** 2)
    bone = cover((shape - 1.0) * 4.4, max(p.pixel_mm, 1.0)) * near
    shell = 220 + 460 * np.clip((shape - 0.45) * 2.4, 0, 1)
    gristle = angle > ends
    blend(p.values, bone.astype(np.float32), np.where(gristle, 96.0, shell).astype(np.float32))


def _sternum(p: Plane) -> None:
    z = p.z
    if not -96 < z < 76:
        return
    y = keyed(z, CAGE_Y) - keyed(z, CAGE_DEPTH) - 7
    half = keyed(z, ((-96, 5), (-78, 8), (-60, 17), (20, 15), (42, 18), (56, 28), (76, 24)))
    ellipse(p, (0, y), (half + 1, 7.5), 380.0, 0.0, ((2, 0.05, 0.0), (4, 0.06, 0.0)))
    ellipse(p, (0, y), (half - 1.4, 5.3), 150.0, 0.0, ((2, 0.05, 0.0), (4, 0.06, 0.0)))


def _vertebra(p: Plane) -> None:
    z, y = p.z, keyed(p.z, SPINE_Y)
    level = np.floor((z - 4.0) / RIB_STEP)
    part = (z - 4.0) / RIB_STEP - level
    size = keyed(z, ((-200, 21), (0, 17), (100, 15), (152, 13)))
    shape = ((4, 0.03, 0.8), (2, 0.05, 0.0))
    plate = (
        abs(part - 0.40) / 0.40
    )  # 0 in the middle of a vertebra, 1 at its end plates, more in the disc
    bone = float(np.clip((1.06 - plate) / 0.12, 0, 1))
    waist = 1.0 - 0.07 * max(0.0, 1.0 - plate)
    rim = 0.5 + 0.5 * min(plate, 1.0) ** 4
    radii = (size * waist, size * 0.84 * waist)
    ellipse(p, (0, y), radii, 92.0 + bone * (200 + 300 * rim), 0.0, shape)
    inner = p.like(0.0)
    ellipse(inner, (0, y), (radii[0] - 1.8, radii[1] - 1.8), bone, 0.0, shape, 0.8)
    speck = 150 + 110 * rim + 14 * waves(p.x, p.y, z, 5, 83, 16)
    blend(p.values, inner.values, speck.astype(np.float32))
    canal = y + size * 0.84 + 8
    for k in (level, level + 1):
        _arch(p, 4.0 + (k + 0.42) * RIB_STEP, y, canal)
    ellipse(p, (0, canal), (9.5, 8.0), 6.0)
    ellipse(p, (0, canal), (5.2, 4.2), 36.0)


def _arch(p: Plane, z: float, y: float, canal: float) -> None:
    """The back of one vertebra: pedicles, laminae, transverse and spinous processes."""
    for s in (-1, 1):
        tube(p, ((s * 11, y + 12, z), (s * 12.5, canal + 2, z)), (4.6, 4.8), 470.0)
        tube(p, ((s * 12.5, canal + 3, z - 2), (s * 3, canal + 13, z - 8)), (4.8, 4.4), 450.0)
        side = ((s * 12, canal + 2, z), (s * 32, canal + 9, z + 2))
        tube(p, side, (4.8, 3.6), 430.0)
        tube(p, side, (2.6, 1.8), 190.0)
    spine = ((0, canal + 13, z - 8), (0, canal + 29, z - 20))
    tube(p, spine, (4.2, 3.6), 450.0)
    tube(p, spine, (1.8, 1.4), 190.0)


def _shoulders(p: Plane) -> None:
    z = p.z
    if z < -60:
        return
    for s in (-1, 1):
        if z < 112:  # shoulder blade: a thin plate that turns with height
            t = min((z + 60) / 164, 1.0)
            here = min((112 - z) / 16, (z + 60) / 16, 1.0)
            inner, outer = (s * (84 + 4 * t), 86 + 6 * t), (s * (118 + 26 * t), 62 - 22 * t)
            ellipse(
                p,
                ((inner[0] + outer[0]) / 2, (inner[1] + outer[1]) / 2),
                ((26 + 8 * t) * here, (10 + 4 * t) * here),
                MUSCLE + 5,
                -s * 0.75,
            )
            if here > 0.3:
                a, b = (*inner, z), (*outer, z)
                tube(p, (a, b), (1.8 * here, 4.4 * here), 560.0)
                tube(p, (a, b), (0.4 * here, 2.6 * here), 260.0)
        if z > 66:
            tube(
                p, ((s * 100, 92, 66), (s * 140, 62, 104), (s * 150, 34, 114)), (3.5, 4.5, 6), 420.0
            )
        collar = (
            (s * 19, -46, 74),
            (s * 50, -44, 88),
            (s * 84, -16, 100),
            (s * 112, 4, 106),
            (s * 142, 20, 116),
        )
        tube(p, collar, (8.5, 6.8, 6, 6, 7), 560.0)
        tube(p, collar, (6.2, 4.6, 3.8, 3.8, 5), 210.0)
