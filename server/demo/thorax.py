"""A thorax drawn from its anatomy: chest wall, ribs, lungs, heart, vessels, upper abdomen.

One function gives the radiodensity (Hounsfield units) of an axial plane at any height, so the same
body serves as a CT series and, summed along the beam, as a chest radiograph. Heights run from
+150 mm (neck) to -200 mm (kidneys).
"""

from __future__ import annotations

import numpy as np

from server.demo.anatomy import (
    AIR,
    AORTA,
    BODY_DEPTH,
    BODY_WIDTH,
    BODY_Y,
    BRANCHES,
    BRONCHI,
    CAVA,
    FAT,
    FAT_MM,
    HEART,
    LOWER_CAVA,
    MUSCLE,
    PULMONARY,
    RIGHT_PULMONARY,
    SPINE_Y,
    TRACHEA,
    VEINS,
    cage,
    dome,
    superellipse,
)
from server.demo.lungs import draw_lungs
from server.demo.shapes import (
    Image,
    Plane,
    blend,
    cover,
    ellipse,
    ellipsoid,
    keyed,
    plane,
    tube,
    waves,
)
from server.demo.skeleton import draw_bones


def section(x: Image, y: Image, z: float, slab_mm: float, *, contrast: bool) -> Image:
    """Radiodensity in HU of the axial plane at height ``z``; ``contrast`` fills the vessels."""
    p = plane(x, y, z, slab_mm, AIR)
    _wall(p)
    lung = draw_lungs(p)
    _mediastinum(p, contrast=contrast)
    _abdomen(p, lung, contrast=contrast)
    draw_bones(p)
    _airways(p)
    return p.values


def _wall(p: Plane) -> None:
    z = p.z
    a, b, cy = keyed(z, BODY_WIDTH), keyed(z, BODY_DEPTH), keyed(z, BODY_Y)
    skin = superellipse(p, cy, a, b, 2.35)
    # Flatten the back, dent the midline.
    skin += 5.0 * np.exp(-((p.x[None, :] / 18) ** 2)) * (np.abs(p.y[:, None] - cy) / b) ** 4
    fat = keyed(z, FAT_MM)
    lumps = waves(p.x, p.y, z, 62, 11)
    blend(p.values, cover(skin, p.pixel_mm), 40.0)
    blend(p.values, cover(skin + 1.8, p.pixel_mm), FAT + 5 * lumps)
    inner = skin + fat + 4.0 * lumps
    blend(p.values, cover(inner, p.pixel_mm + 1.0), MUSCLE + 3 * lumps)
    planes = np.abs(waves(p.x, p.y * 0.7, z * 0.5, 38, 23)) - 0.08
    streak = np.clip(-planes * 9, 0, 1) * cover(inner + 2.5, 2.0)
    blend(p.values, (streak * 0.55).astype(np.float32), FAT + 12)
    if z > 20:
        for side in (-1, 1):  # breast muscle in front, under the collar bones
            h = keyed(z, ((20, 0.0), (50, 1), (100, 0.9), (122, 0.0)))
            at = (side * 66, cy - b * 0.80)
            ellipse(p, at, (46 * h, 11 * h), MUSCLE + 6, side * 0.33, ((3, 0.08, 1.0),))
    for side in (-1, 1):  # muscles along the spine
        back = keyed(z, SPINE_Y) + 38
        ellipse(
            p,
            (side * 27, back),
            (21, 14),
            MUSCLE + 4,
            side * 0.15,
            ((2, 0.08, 0.5), (3, 0.06, z / 40)),
        )


def _mediastinum(p: Plane, *, contrast: bool) -> None:
    blood = (lambda hu: hu) if contrast else (lambda _hu: 42.0)
    _heart(p, contrast=contrast)
    back = keyed(p.z, SPINE_Y) - 24
    ellipse(p, (6, min(back, 34)), (8.5, 5.5), 44.0, 0.2)  # oesophagus
    ellipse(p, (7, min(back, 34)), (2.2, 1.2), -500.0)
    wet = 1.6  # vessel walls against fat
    vessels = [(c, blood(225.0)) for c in (*VEINS, *BRANCHES)]
    vessels += [(PULMONARY, blood(205.0)), (RIGHT_PULMONARY, blood(205.0)), (CAVA, blood(230.0))]
    vessels += [(LOWER_CAVA, blood(118.0)), (AORTA, blood(268.0))]
    for chain, _ in vessels:
        tube(p, [c[0] for c in chain], [c[1] + wet for c in chain], 50.0)
    for chain, hu in vessels:
        tube(p, [c[0] for c in chain], [c[1] for c in chain], hu)
    for at, size in (
        ((-14, 6, 34), 4.0),
        ((10, 26, 12), 4.5),
        ((-22, -4, 48), 3.5),
        ((34, 8, 22), 3.5),
    ):
        ellipsoid(p, at, (size * 1.4, size, size * 1.6), 58.0, 0.5)  # lymph nodes
    if p.z > 96:
        for side in (-1, 1):  # thyroid and the muscles of the neck
            ellipsoid(p, (side * 17, -6, 126), (9, 12, 26), 118.0 if contrast else 95.0, side * 0.3)
            ellipsoid(p, (side * 38, -10, 150), (11, 16, 40), 60.0, side * 0.6)


def _heart(p: Plane, *, contrast: bool) -> None:
    for number, (centre, radii, turn, hu) in enumerate(HEART):
        value = hu if contrast or hu < 0 else 44.0
        wobble = ((3, 0.03, 0.8), (4, 0.02, p.z / 30)) if number > 1 else ((3, 0.025, 0.6),)
        ellipsoid(p, centre, radii, value, turn, wobble, (-0.05, 0.0), 0.8)
    if -95 < p.z < -30:
        groove = waves(p.x, p.y, p.z, 16, 61) > 1.35
        box = np.hypot(p.x[None, :] - 40, p.y[:, None] + 34) < 30
        blend(p.values, (groove & box).astype(np.float32) * 0.5 * (p.values > 80), -60.0)
    if contrast:
        for q in ((58, -6, -62), (44, 2, -78)):
            ellipsoid(p, q, (3.5, 3.5, 14), 120.0)  # papillary muscles


def _abdomen(p: Plane, lung: Image, *, contrast: bool) -> None:
    if p.z > -66:
        return
    height = dome(p.x[None, :], p.y[:, None]) - p.z  # > 0 under the diaphragm
    below = np.clip(0.5 + height / (p.slab_mm * 0.8 + 2), 0, 1)
    inside = cover(cage(p) + 2.0, p.pixel_mm) * below
    keep = p.like(0.0)
    keep.values[:] = p.values
    organs = p.like(FAT)
    organs.values[:] += 6 * waves(p.x, p.y, p.z, 30, 71)
    _organs(organs, contrast=contrast)
    rim = inside * np.clip(1 - (height - 1) / 3.5, 0, 1)
    blend(organs.values, (rim * 0.9).astype(np.float32), 55.0)
    middle = np.hypot(p.x[None, :] - 2, (p.y[:, None] - 38) * 0.9) < 27  # spine, aorta, cava stay
    share = inside * np.where(middle & (lung < 0.5), 0, 1)
    heart = cover(np.hypot((p.x[None, :] - 22) / 1.2, p.y[:, None] + 22) - 40, 6.0)
    share *= 1 - heart * np.clip((p.z + 112) / 10, 0, 1)
    blend(p.values, share.astype(np.float32), organs.values)
    for chain, hu in ((LOWER_CAVA, 120.0), (AORTA, 262.0)):
        tube(p, [c[0] for c in chain], [c[1] for c in chain], hu if contrast else 42.0)


def _organs(o: Plane, *, contrast: bool) -> None:
    z = o.z
    liver, spleen = (112.0, 122.0) if contrast else (60.0, 50.0)
    ellipsoid(o, (-58, -8, -142), (76, 84, 90), liver, 0.15, ((3, 0.05, 0.3), (2, 0.05, 1.0)))
    ellipsoid(o, (10, -48, -128), (62, 36, 42), liver, 0.35, ((3, 0.08, 2.0),))
    vein = 158.0 if contrast else 48.0
    for side, q in enumerate(
        (
            ((-84, -18, -128), (-112, -6, -150)),
            ((-52, -44, -126), (-58, -66, -146)),
            ((-8, -34, -122), (20, -52, -132)),
        )
    ):
        tube(o, ((-24, 2, -112), *q), (6, 4.2 - side * 0.4, 1.6), vein)
    tube(
        o,
        ((-8, 2, -200), (-34, -10, -164), (-66, -14, -158), (-98, -8, -166)),
        (7, 6.5, 4.5, 2),
        vein,
    )
    for k in range(26):
        a = k * 2.39
        at = (
            -62 + 52 * np.cos(a) * (0.35 + k / 42),
            -8 + 56 * np.sin(a) * (0.35 + k / 42),
            -150 + 60 * np.sin(k * 1.7),
        )
        tube(o, (at, (at[0] + 9 * np.cos(a), at[1] + 9 * np.sin(a), at[2] + 12)), (1.9, 1.2), vein)
    ellipsoid(o, (-52, -52, -186), (17, 24, 22), 10.0)  # gall bladder
    ellipsoid(o, (92, 34, -140), (25, 46, 42), spleen, -0.5, ((3, 0.10, 0.5), (5, 0.04, z / 20)))
    ellipsoid(
        o, (62, -14, -136), (45, 44, 48), 62.0, 0.5, ((3, 0.06, 1.0),)
    )  # stomach: wall, content, gas
    before = o.values.copy()
    ellipsoid(o, (62, -14, -136), (40, 39, 43), 24.0, 0.5, ((3, 0.06, 1.0),))
    gas = o.like(0.0)
    ellipsoid(gas, (62, -14, -136), (40, 39, 43), 1.0, 0.5, ((3, 0.06, 1.0),))
    level = np.clip((-22 - o.y) / 1.2 + 0.5, 0, 1)[:, None].astype(np.float32)
    blend(o.values, gas.values * level * (before != 0), -985.0)
    for side, x in ((-1, -56.0), (1, 58.0)):  # kidneys
        at = (x, 52.0, -196.0)
        ellipsoid(o, at, (29, 26, 44), 200.0 if contrast else 34.0, side * 0.5, ((3, 0.05, 0.0),))
        ellipsoid(o, (x - side * 4, 49, -200), (13, 11, 30), FAT + 60, side * 0.5, ((4, 0.2, 0.0),))


def _airways(p: Plane) -> None:
    chains = (TRACHEA, *BRONCHI)
    for chain in chains:
        tube(p, [c[0] for c in chain], [c[1] + 1.3 for c in chain], 34.0)
    for chain in chains:
        tube(p, [c[0] for c in chain], [c[1] for c in chain], -996.0)


def couch(hu: Image, grid: Image, pixel_mm: float) -> None:
    """Lay the CT couch under the patient: a thin curved shell around foam, in place."""
    x, y = grid[None, :], grid[:, None]
    sag = 126 - 26 * (x / 200) ** 2
    air = hu < -900
    shell = cover(np.abs(y - sag - 4) - 1.2, pixel_mm) * (np.abs(x) < 172)
    foam = cover(np.abs(y - sag - 14) - 9, pixel_mm) * (np.abs(x) < 168)
    low = cover(np.abs(y - sag - 25) - 1.2, pixel_mm) * (np.abs(x) < 165)
    for part, value in ((foam, -940.0), (shell, -420.0), (low, -420.0)):
        blend(hu, (part * air).astype(np.float32), value)
