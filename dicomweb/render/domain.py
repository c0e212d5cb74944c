"""The query parameters of a rendered resource (PS3.18 8.3.5, Table 8.3.5-1)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dataset.voi import Window, WindowShape
from dicomweb.media import Offer
from dicomweb.pixels.picture_spec import Region
from kernel.errors import Invalid

JPEG, PNG = "image/jpeg", "image/png"
MAX_VIEWPORT = 8192
DEFAULT_QUALITY = 90
THUMBNAIL_PIXELS = 256

# Known to the standard, not applied here: named in a Warning header.
IGNORED_PARAMETERS = ("annotation", "iccprofile", "charset")

_SHAPES: dict[str, WindowShape] = {
    "linear": "LINEAR",
    "linear-exact": "LINEAR_EXACT",
    "sigmoid": "SIGMOID",
}
_NUMBER = re.compile(r"[+-]?(?:\d{1,12}(?:\.\d{0,12})?|\.\d{1,12})(?:[eE][+-]?\d{1,2})?\Z")


@dataclass(frozen=True, slots=True)
class RenderRequest:
    """How a frame is to be shown; None where the stored attributes decide.

    `viewport` is (width, height) in pixels, the most that the picture may have; `region` the part
    of the source that is shown.
    """

    window: Window | None = None
    viewport: tuple[int, int] | None = None
    region: Region | None = None
    quality: int = DEFAULT_QUALITY
    enlarge: bool = True
    ignored: tuple[str, ...] = ()


def parse_render(parameters: Mapping[str, str], *, thumbnail: bool = False) -> RenderRequest:
    """Parse the query parameters of …/rendered or …/thumbnail.

    Raises:
        Invalid: `render.bad_value` with the name and value of the parameter.
    """
    viewport, region = _viewport(parameters.get("viewport"))
    if thumbnail and viewport is None:
        viewport = (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS)
    return RenderRequest(
        window=_window(parameters.get("window")),
        viewport=viewport,
        region=region,
        quality=_quality(parameters.get("quality")),
        enlarge=not thumbnail,
        ignored=tuple(name for name in IGNORED_PARAMETERS if name in parameters),
    )


def render_offers(*, single: bool) -> list[Offer]:
    """JPEG is the default (PS3.18 Table 8.7.4-1); several frames come as multipart."""
    kinds = (JPEG, PNG)
    if single:
        return [Offer(kind) for kind in kinds] + [Offer(kind, multipart=True) for kind in kinds]
    return [Offer(kind, multipart=True) for kind in kinds]


def _window(text: str | None) -> Window | None:
    """PS3.18 8.3.5.1.4: center,width,shape."""
    if text is None:
        return None
    fields = [field.strip() for field in text.split(",")]
    if len(fields) not in (2, 3):
        raise _bad("window", text)
    center, width = _number("window", fields[0], text), _number("window", fields[1], text)
    shape = _SHAPES.get((fields[2] if len(fields) == 3 else "linear").lower())
    smallest = 1.0 if shape == "LINEAR" else math.ulp(0.0)
    if shape is None or width < smallest:
        raise _bad("window", text)
    return Window(center, width, shape)


def _viewport(text: str | None) -> tuple[tuple[int, int] | None, Region | None]:
    """PS3.18 8.3.5.1.3: vw,vh[,sx,sy,sw,sh]; a negative sw or sh mirrors; parts may be left out."""
    if text is None:
        return None, None
    fields = [field.strip() for field in text.split(",")]
    if len(fields) not in (2, 6):
        raise _bad("viewport", text)
    width, height = (_number("viewport", field, text) for field in fields[:2])
    if not (1 <= width <= MAX_VIEWPORT and 1 <= height <= MAX_VIEWPORT):
        raise _bad("viewport", text)
    if len(fields) == 2:
        return (int(width), int(height)), None
    edges = [None if not field else _number("viewport", field, text) for field in fields[2:]]
    region = Region(
        left=int(edges[0] or 0),
        top=int(edges[1] or 0),
        width=None if edges[2] is None else int(edges[2]),
        height=None if edges[3] is None else int(edges[3]),
    )
    if region.left < 0 or region.top < 0 or region.width == 0 or region.height == 0:
        raise _bad("viewport", text)
    return (int(width), int(height)), region


def _quality(text: str | None) -> int:
    """PS3.18 8.3.5.1.2: 1 to 100."""
    if text is None:
        return DEFAULT_QUALITY
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= 100:
        raise _bad("quality", text)
    return int(text)


def _number(name: str, field: str, text: str) -> float:
    if not _NUMBER.match(field):
        raise _bad(name, text)
    return float(field)


def _bad(name: str, value: str) -> Invalid:
    return Invalid(
        "render.bad_value",
        "The value {value} of parameter {name} cannot be understood.",
        name=name,
        value=value[:100],
    )
