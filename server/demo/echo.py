"""An ultrasound cine: the four-chamber view of a beating heart on a 640 x 480 colour screen."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from server.demo.shapes import Image, blur

WIDTH, HEIGHT, FRAMES = 640, 480, 32
DEPTH_MM, HALF_ANGLE = 160.0, 0.70
TOP, PIXELS_PER_MM = 34, 2.55
SAMPLES, LINES = 440, 176
FRAME_TIME_MS = 33.3


@dataclass(frozen=True, slots=True)
class Beat:
    """Where the heart is in its cycle: squeeze, filling, opening of the valves (0..1)."""

    squeeze: float
    fill: float
    valve: float


def beat(phase: float) -> Beat:
    """The state of the heart at a phase (0 = R wave, 1 = the next)."""
    squeeze = float(np.sin(np.pi * min(phase / 0.42, 1.0)) ** 1.4) if phase < 0.42 else 0.0
    early = np.exp(-(((phase - 0.56) / 0.07) ** 2))
    late = 0.7 * np.exp(-(((phase - 0.88) / 0.05) ** 2))
    fill = float(np.exp(-(((phase - 0.90) / 0.06) ** 2)))
    return Beat(squeeze, fill, float(min(1.0, early + late + 0.25 * (0.5 < phase < 0.95))))


def cine(seed: int) -> list[bytes]:
    """The frames of one heart beat as JPEG baseline images (4:2:2, RGB read back)."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((2, SAMPLES, LINES)).astype(np.float32)
    where = _scan_map()
    out = []
    for n in range(FRAMES):
        phase = n / FRAMES
        grey = _frame(noise, rng, beat(phase))
        out.append(_jpeg(_screen(_convert(grey, where), phase, n)))
    return out


def _frame(noise: NDArray[np.float32], rng: np.random.Generator, now: Beat) -> Image:
    """One frame on the polar grid (depth x line), 0..1 after log compression."""
    depth = np.linspace(2, DEPTH_MM, SAMPLES, dtype=np.float32)[:, None]
    angle = np.linspace(-HALF_ANGLE, HALF_ANGLE, LINES, dtype=np.float32)[None, :]
    x, y = depth * np.sin(angle), depth * np.cos(angle)
    moved = np.clip(
        np.arange(SAMPLES) + now.squeeze * 9 * np.sin(np.linspace(0, np.pi, SAMPLES)),
        0,
        SAMPLES - 2,
    )
    low = moved.astype(int)
    share = (moved - low).astype(np.float32)[:, None]
    amplitude = np.sqrt(_echoes(x, y, now))
    parts = []
    for field in noise:
        here = field[low] * (1 - share) + field[low + 1] * share
        part = blur(
            (here + 0.12 * rng.standard_normal(here.shape, dtype=np.float32)) * amplitude, 0.9
        )
        spread = blur(part.T.copy(), 1.5).T  # the beam is wider than its pulse is long
        parts.append(0.5 * part + spread)
    power = parts[0] ** 2 + parts[1] ** 2
    gain = np.exp(-(((depth - 70) / 150) ** 2)) * (1 - 0.55 * (np.abs(angle) / HALF_ANGLE) ** 3)
    level = 10 * np.log10(power * gain * gain + 1e-7)
    return np.clip((level + 34) / 46, 0, 1).astype(np.float32)


def _inside(
    x: Image, y: Image, cx: float, cy: float, a: float, b: float, turn: float = 0.0
) -> Image:
    """Signed millimetres (about) to the outline of an ellipse, negative inside."""
    c, s = np.cos(turn), np.sin(turn)
    u, v = ((x - cx) * c + (y - cy) * s) / a, ((y - cy) * c - (x - cx) * s) / b
    away: Image = (np.hypot(u, v) - 1) * np.float32(np.sqrt(a * b))
    return away


def _soft(distance: Image, edge_mm: float = 1.6) -> Image:
    return np.clip(0.5 - distance / edge_mm, 0, 1)


def _echoes(x: Image, y: Image, now: Beat) -> Image:
    """How strongly each point scatters."""
    q, f = now.squeeze, now.fill
    ring = 88 - 11 * q  # the valve plane is pulled towards the apex
    echo = np.full(x.shape, 0.10, np.float32) * np.clip(1.2 - y / 190, 0.2, 1)
    heart = _inside(x, y, -1, 78, 50 - 3 * q, 70 - 1.5 * q)
    echo += _soft(heart, 3) * (0.30 - echo)
    echo += np.exp(-(((heart - 1.0) / 1.3) ** 2)) * 1.3 * (y > 34)  # pericardium
    left = _inside(x, y, 15 - q, 54 + 2 * q, 20 * (1 - 0.30 * q), 38 * (1 - 0.17 * q), 0.10)
    right = _inside(x, y, -24, 62 + q, 14 * (1 - 0.22 * q), 29 * (1 - 0.15 * q), -0.20)
    atrium_l = _inside(x, y, 18, ring + 29 + q * 4, 21 + 3 * q - 2 * f, 22 + 4 * q - 2 * f)
    atrium_r = _inside(x, y, -24, ring + 27 + q * 4, 19 + 3 * q - 2 * f, 20 + 4 * q - 2 * f)
    for cavity in (left, right, atrium_l, atrium_r):
        echo += np.exp(-(((cavity - 0.8) / 0.9) ** 2)) * 0.22
        echo *= 1 - 0.985 * _soft(cavity)
    for cx, half in ((16.5, 14.0), (-23.0, 12.0)):
        opening = np.abs(x - cx) < half * (0.25 + 0.7 * now.valve)
        gap = np.abs(x - cx) < half
        echo *= 1 - 0.97 * (opening & (np.abs(y - ring) < 8))
        for s in (-1, 1):  # two leaflets, hinged at the ring
            swing = 0.25 + 1.05 * now.valve
            along = np.abs(x - cx - s * half)
            leaf = np.abs(y - (ring - along * np.tan(swing) * 0.55)) - 0.5
            reach = along < half * (1.0 - 0.42 * now.valve)
            echo += (
                np.exp(-(np.maximum(leaf, 0) ** 2) / 0.8) * 0.9 * (reach & gap & (s * (x - cx) > 0))
            )
    septum = np.exp(-(((x + 3.5 + 0.05 * (y - 100)) / 1.4) ** 2)) * (y > ring) * (y < ring + 50)
    echo += 0.5 * septum
    echo += 0.9 * np.exp(-(((x + 1) / 5) ** 2 + ((y - ring) / 3.5) ** 2))  # the crux of the heart
    echo += 1.2 * np.exp(-(((y - 5) / 4.0) ** 2))  # skin and near field
    band = _inside(x, y, 13 - 4 * q, 44, 2.2, 9, 0.5)
    echo += 0.5 * _soft(band) * (1 - 0.6 * q)  # papillary muscle
    return np.maximum(echo, 0.0015)


def _scan_map() -> tuple[NDArray[np.intp], NDArray[np.intp], Image, Image, NDArray[np.bool_]]:
    """For each pixel of the screen its place on the polar grid, and where the sector is."""
    py, px = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    x, y = (px - WIDTH / 2) / PIXELS_PER_MM, (py - TOP) / PIXELS_PER_MM
    depth, angle = np.hypot(x, y), np.arctan2(x, y)
    inside = (depth > 2) & (depth < DEPTH_MM) & (np.abs(angle) < HALF_ANGLE) & (y > 0)
    row = np.clip((depth - 2) / (DEPTH_MM - 2) * (SAMPLES - 1), 0, SAMPLES - 1.001)
    line = np.clip((angle + HALF_ANGLE) / (2 * HALF_ANGLE) * (LINES - 1), 0, LINES - 1.001)
    r0, l0 = row.astype(np.intp), line.astype(np.intp)
    return r0, l0, (row - r0).astype(np.float32), (line - l0).astype(np.float32), inside


def _convert(
    grey: Image, where: tuple[NDArray[np.intp], NDArray[np.intp], Image, Image, NDArray[np.bool_]]
) -> Image:
    r, c, fr, fc, inside = where
    top = grey[r, c] * (1 - fc) + grey[r, c + 1] * fc
    low = grey[r + 1, c] * (1 - fc) + grey[r + 1, c + 1] * fc
    screen: Image = (top * (1 - fr) + low * fr) * inside
    return screen


def _screen(sector: Image, phase: float, number: int) -> Picture.Image:
    """Sector, depth scale, grey bar, settings and the ECG trace, as the machine shows them."""
    tint = np.stack([sector**1.06, sector, sector**0.92], axis=-1)
    picture = Picture.fromarray((tint * 245 + 4).clip(0, 255).astype(np.uint8), "RGB")
    pen, font, ink = ImageDraw.Draw(picture), ImageFont.load_default(12), (190, 198, 206)
    for k in range(17):
        y = TOP + k * 10 * PIXELS_PER_MM
        pen.line((604, y, 604 + (9 if k % 5 == 0 else 4), y), fill=ink)
        if k % 5 == 0 and k:
            pen.text((618, y - 7), str(k), fill=ink, font=font)
    for k in range(100):
        pen.line((14, 60 + k, 24, 60 + k), fill=(255 - k * 5 // 2,) * 3)
    for k, line in enumerate(
        ("Adult Echo", "S5-1", "30 Hz", "16.0 cm", "2D  62%", "C 48", "P Med", "HGen")
    ):
        pen.text((14, 176 + 16 * k), line, fill=ink, font=font)
    pen.text((500, 10), "TIs 0.7   MI 1.2", fill=ink, font=font)
    pen.text((WIDTH // 2 + 16, 14), "V", fill=(80, 200, 240), font=font)
    beats = [(30 + k, 462 - 22 * _ecg((k / 290) % 1.0)) for k in range(580)]
    pen.line(beats, fill=(40, 190, 90))
    x = 30 + phase * 290
    pen.line((x, 438, x, 474), fill=(230, 200, 60))
    pen.text((560, 440), f"72 bpm {number + 1:02d}", fill=(40, 190, 90), font=font)
    return picture


def _ecg(phase: float) -> float:
    waves = [(0.0, 1.0, 0.010), (1.0, 1.0, 0.010), (0.025, -0.3, 0.008), (0.975, -0.15, 0.008)]
    waves += [(0.28, 0.28, 0.04), (0.84, 0.16, 0.025)]
    return float(sum(h * np.exp(-(((phase - at) / w) ** 2)) for at, h, w in waves))


def _jpeg(picture: Picture.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=88, subsampling="4:2:2", optimize=False)
    return out.getvalue()
