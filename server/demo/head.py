"""A head drawn from its anatomy: skull, folded cortex, ventricles, deep nuclei; as MR or CT.

The folds come from a smooth noise field: its zero lines are the sulci, so they run on from slice
to slice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from server.demo.shapes import (
    Image,
    Plane,
    axis,
    blend,
    blur,
    cover,
    ellipse,
    ellipsoid,
    grain,
    keyed,
    plane,
    waves,
)


@dataclass(frozen=True, slots=True)
class Contrast:
    """The brightness of each tissue in one kind of image (arbitrary units; HU for CT)."""

    air: float
    skin: float
    fat: float
    bone: float
    marrow: float
    fluid: float
    grey: float
    white: float
    deep: float
    muscle: float
    lesion: float


T1 = Contrast(8, 330, 820, 20, 420, 90, 350, 585, 430, 330, 280)
T2 = Contrast(8, 300, 640, 18, 240, 980, 480, 285, 370, 170, 780)
FLAIR = Contrast(8, 260, 520, 16, 200, 50, 450, 315, 390, 200, 830)
CT = Contrast(-1000, 40, -90, 1150, 420, 8, 38, 28, 36, 55, 68)

# Heights in mm from the level of the basal ganglia; the vertex is at +76.
WIDTH = ((-62, 54), (-40, 62), (-10, 69), (20, 69), (45, 60), (62, 42), (72, 22), (77, 6))
LENGTH = ((-62, 66), (-40, 82), (-10, 89), (20, 89), (45, 77), (62, 55), (72, 30), (77, 8))
MIDDLE_Y = ((-62, 6), (-40, 2), (0, 0), (77, 2))


def section(
    x: Image, y: Image, z: float, slab_mm: float, tissue: Contrast, *, bleed: bool
) -> Image:
    """One axial plane at height ``z`` in the units of ``tissue``.

    ``bleed`` draws a haemorrhage of the basal ganglia, otherwise a small fresh infarct is there.
    """
    p = plane(x, y, z, slab_mm, tissue.air)
    a, b, cy = keyed(z, WIDTH), keyed(z, LENGTH), keyed(z, MIDDLE_Y)
    turned = np.sqrt((p.x[None, :] / a) ** 2 + ((p.y[:, None] - cy) / b) ** 2)
    theta = np.arctan2(p.y[:, None] - cy, p.x[None, :])
    turned = turned / (
        1 + 0.025 * np.cos(2 * theta) + 0.012 * np.sin(3 * theta) + 0.012 * np.cos(4 * theta)
    )
    brain = ((turned - 1) * np.sqrt(a * b)).astype(np.float32)
    _shell(p, brain, tissue)
    _brain(p, brain, tissue)
    _deep(p, tissue, bleed=bleed)
    if z < -6:
        _base(p, brain, tissue)
    return p.values


def _shell(p: Plane, brain: Image, t: Contrast) -> None:
    thick = 1.2 * waves(p.x, p.y, p.z, 60, 3)
    for out_mm, value in ((14.0, t.skin), (12.3, t.fat), (8.6 + thick * 0.3, t.bone)):
        blend(p.values, cover(brain - out_mm, p.pixel_mm), value)
    marrow = np.abs(brain - 5.4) - (0.9 + 0.4 * thick)
    blend(p.values, cover(marrow, 1.2), t.marrow)
    blend(p.values, cover(brain - 1.9, p.pixel_mm), t.fluid)


def _brain(p: Plane, brain: Image, t: Contrast) -> None:
    x, y, z = p.x, p.y, p.z
    away = np.minimum(_from_fold(p, 27, 101), _from_fold(p, 34, 105) + 0.15)
    depth = -brain
    reach = 23 + 6 * waves(x, y, z, 40, 103)
    fade = np.clip((reach - depth) / 5, 0, 1)
    cleft = np.abs(x[None, :] + 0.8 * np.sin(y[:, None] / 17 + z / 9))
    split = cleft + 60.0 * ((np.abs(y[:, None]) < 34) & (z < 26))
    sylvian = np.hypot(
        (np.abs(x[None, :]) - 49) / 1.0, (y[:, None] + 4 + (np.abs(x[None, :]) - 49) * 0.5) / 0.16
    )
    sylvian = sylvian / 6.0 - 1.0 + abs(z + 2) / 22
    sulcus = np.minimum(away + (1 - fade) * 30, np.minimum(split, np.maximum(sylvian * 3, 0) + 0.4))
    near = np.minimum(sulcus, np.maximum(depth - 0.6, 0))
    blend(p.values, cover(brain + 0.2, p.pixel_mm), t.grey)
    white = np.clip((near - 3.6) / 1.2 + 0.5, 0, 1) * cover(brain + 3.6, 1.0)
    blend(p.values, white.astype(np.float32), t.white)
    wide = 0.62 + 0.3 * waves(x, y, z, 45, 104) - depth * 0.012
    fluid = np.clip((wide - sulcus) / 0.8 + 0.5, 0, 1) * cover(brain, p.pixel_mm)
    blend(p.values, (fluid * 0.9).astype(np.float32), t.fluid)


def _from_fold(p: Plane, length_mm: float, seed: int) -> Image:
    """Millimetres from the zero line of a smooth field, which is the bottom of a sulcus."""
    fold = waves(p.x, p.y, p.z * 0.7, length_mm, seed, 40)
    fold += 0.30 * waves(p.x, p.y, p.z * 0.7, length_mm / 2, seed + 1, 20)
    gy, gx = np.gradient(fold, p.y[1] - p.y[0], p.x[1] - p.x[0])
    away: Image = np.abs(fold) / np.maximum(np.hypot(gx, gy), 0.055)
    return away.astype(np.float32)


def _deep(p: Plane, t: Contrast, *, bleed: bool) -> None:
    z = p.z
    for s in (-1, 1):
        if z > -24:
            ellipsoid(p, (s * 22, -2, 6), (21, 33, 24), t.white, s * 0.10, (), (0, 0), 2.0)
            ellipsoid(
                p, (s * 37, 0, 4), (2.3, 17, 14), t.grey, s * 0.15, (), (0, 0), 1.0
            )  # insula, claustrum
            ellipsoid(
                p, (s * 27, -4, 4), (6.2, 15, 12), t.deep, s * 0.22, (), (0, 0), 0.8
            )  # putamen
            ellipsoid(
                p, (s * 20, 0, 2), (3.6, 9, 8), (t.deep + t.white) / 2, s * 0.3, (), (0, 0), 0.8
            )
            ellipsoid(
                p, (s * 10, 14, 5), (8.5, 14, 11), t.deep, -s * 0.25, (), (0, 0), 0.8
            )  # thalamus
            ellipsoid(
                p, (s * 13, -20, 10), (5, 9, 14), t.deep, s * 0.35, (), (0, 0), 0.8
            )  # caudate
        lift = (z - 16) / 20
        ellipsoid(
            p,
            (s * 8.5, -20 + 3 * lift, 17),
            (4.2, 13, 13),
            t.fluid,
            s * 0.38,
            ((2, 0.1, 0.4),),
            (0, 0),
            0.6,
        )
        ellipsoid(p, (s * 9, 4, 24), (4.4, 30, 8), t.fluid, s * 0.12, (), (0, 0), 0.6)
        ellipsoid(
            p, (s * 21, 34, 10), (4.6, 15, 12), t.fluid, -s * 0.42, ((2, 0.12, 0.0),), (0, 0), 0.6
        )
        plexus = 0.5 * (t.fluid + t.grey) if t is not CT else 130.0
        ellipsoid(p, (s * 22, 31, 10), (1.8, 5, 6), plexus, -s * 0.42)
    ellipsoid(p, (0, 10, 3), (2.2, 13, 11), t.fluid, 0.0, (), (0, 0), 0.5)  # third ventricle
    ellipsoid(p, (0, 32, 1), (3.5, 3.5, 4), 190.0 if t is CT else t.grey)  # pineal body
    if bleed:
        ellipsoid(
            p, (29, -2, 6), (17, 24, 17), 17.0, 0.25, ((3, 0.10, 1.0), (5, 0.05, 0.3)), (0, 0), 3.0
        )
        ellipsoid(
            p,
            (29, -3, 6),
            (11.5, 18, 12.5),
            t.lesion,
            0.25,
            ((3, 0.13, 1.0), (4, 0.07, p.z / 6)),
            (0, 0),
            1.4,
        )
        ellipsoid(p, (20, 33, 6), (3.6, 10, 5), t.lesion - 8, -0.42, (), (0, 0), 1.0)
    else:
        ellipsoid(
            p,
            (-27, -22, 27),
            (6.5, 5, 6),
            t.lesion,
            0.4,
            ((3, 0.15, 0.0), (5, 0.08, 1.0)),
            (0, 0),
            1.6,
        )
        for k, (qx, qy, qz) in enumerate(
            ((24, -30, 31), (-22, 22, 33), (28, 14, 35), (21, -8, 37), (-25, 2, 38))
        ):
            ellipsoid(
                p, (qx, qy, qz), (2.0 + 0.3 * k, 1.7, 3.0), t.lesion * 0.9, 0.3 * k, (), (0, 0), 1.2
            )


def _base(p: Plane, brain: Image, t: Contrast) -> None:
    """The lower slices: cisterns, midbrain, temporal horns and the top of the cerebellum."""
    for s in (-1, 1):
        ellipsoid(
            p, (s * 29, 6, -20), (2.6, 13, 7), t.fluid, s * 0.25, (), (0, 0), 0.6
        )  # temporal horns
        ellipsoid(p, (s * 31, 3, -26), (4.5, 12, 7), t.grey, s * 0.25, (), (0, 0), 0.8)
    for k in range(5):  # the star of the suprasellar cistern
        turn = np.pi / 2 + k * 2 * np.pi / 5
        arm = (11.0 * float(np.cos(turn)), -8 - 9.0 * float(np.sin(turn)), -25.0)
        ellipsoid(p, arm, (8, 3.2, 9), t.fluid, -turn, (), (0, 0), 0.8)
    ellipsoid(p, (0, -8, -25), (9, 8, 10), t.fluid, 0.0, (), (0, 0), 0.8)
    ellipsoid(p, (0, 12, -24), (19, 15, 15), t.fluid, 0.0, (), (0, 0), 0.8)
    if p.z < -17:
        _cerebellum(p, brain, t)
    ellipsoid(p, (0, 24, -23), (14, 6.5, 9), t.fluid, 0.0, ((2, 0.15, 0.0),), (0, 0), 0.6)
    for s in (-1, 1):
        ellipsoid(
            p, (s * 7.5, 4, -26), (6.5, 6, 22), t.white, s * 0.5, (), (0, 0), 0.6
        )  # peduncles
    ellipsoid(
        p, (0, 13, -26), (12.5, 9, 24), (t.white + t.grey) / 2, 0.0, ((4, 0.05, 0.8),), (0, 0), 0.6
    )
    ellipsoid(p, (0, 17, -26), (1.0, 1.2, 14), t.fluid)  # aqueduct
    for s in (-1, 1):
        ellipsoid(p, (s * 4.5, 20, -22), (4, 3.4, 6), t.grey)
    ellipsoid(p, (0, -11, -27), (6.5, 2.0, 4), t.white)  # optic chiasm


def _cerebellum(p: Plane, brain: Image, t: Contrast) -> None:
    x, y, z = p.x, p.y, p.z
    way = np.hypot(x[None, :] * 0.75, y[:, None] - 22) + 0.7 * waves(x, y, z, 20, 111)
    leaf = 0.5 + 0.5 * np.sin(way * 1.5)
    grow = keyed(z, ((-40, 1.0), (-17, 0.25)))
    part = p.like(0.0)
    ellipse(
        part, (0, 46), (46 * grow, 25 * grow + 3), 1.0, 0.0, ((2, 0.06, 0.0), (3, 0.06, 1.57)), 0.8
    )
    part.values[:] *= cover(brain + 1.5, 1.0)
    rim = p.like(0.0)
    ellipse(
        rim,
        (0, 46),
        (46 * grow + 1, 25 * grow + 4),
        1.0,
        0.0,
        ((2, 0.06, 0.0), (3, 0.06, 1.57)),
        0.8,
    )
    blend(p.values, rim.values * cover(brain, 1.0), t.fluid)
    tissue = t.grey + (0.5 * t.white - 0.5 * t.grey) * leaf
    blend(p.values, part.values, tissue.astype(np.float32))
    blend(p.values, (part.values * np.clip(leaf - 0.92, 0, 1) * 3).astype(np.float32), t.fluid)
    for s in (-1, 1):
        ellipsoid(
            p, (s * 17, 44, -38), (13, 11, 12), t.white, s * 0.3, ((4, 0.15, 0.0),), (0, 0), 2.5
        )


def magnetic(z: float, slab_mm: float, tissue: Contrast, seed: int) -> Image:
    """An MR plane, 256 x 256 at 0.9 mm, with coil shading and noise; stored values from 0."""
    fine = axis(512, 0.45)
    image = section(fine, fine, z, slab_mm, tissue, bleed=False)
    image = image.reshape(256, 2, 256, 2).mean(axis=(1, 3), dtype=np.float32)
    c = axis(256, 0.9)
    coil = 1.0 + 0.10 * (np.hypot(c[None, :], c[:, None]) / 80) ** 2 + 0.03 * waves(c, c, z, 180, 7)
    image = blur(image, 0.55) * coil
    real = image + 13 * grain(image.shape, 0.5, seed)
    magnitude: Image = np.hypot(real, 13 * grain(image.shape, 0.5, seed + 1))
    return magnitude.astype(np.float32)


def tomography(z: float, slab_mm: float, seed: int) -> Image:
    """A CT plane with a bleed, 512 x 512 at 0.45 mm, in HU."""
    fine = axis(512, 0.45)
    image = section(fine, fine, z, slab_mm, CT, bleed=True)
    inside = (image > -200).astype(np.float32)
    harden = blur(np.clip(image - 300, 0, 900)[::4, ::4], 3.0).repeat(4, 0).repeat(4, 1) * 0.02
    return blur(image, 1.1) + inside * harden + (2.2 + 1.0 * inside) * grain(image.shape, 1.3, seed)
