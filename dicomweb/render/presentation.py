"""How an image wants to be shown: its own look-up tables and windows (PS3.4 N.2, PS3.3 C.11)."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, cast

from dataset.voi import Lut, Tone, Window, WindowShape
from dicomweb.pixels.images import Attributes, Image, first_value
from dicomweb.pixels.picture_spec import PictureSpec
from dicomweb.render.domain import RenderRequest

_SHARED_GROUPS, _FRAME_GROUPS = "52009229", "52009230"
_FRAME_VOI, _PIXEL_TRANSFORMATION = "00289132", "00289145"
MOST = 1e30  # of a slope, an intercept, a window
_SHAPES: frozenset[str] = frozenset({"LINEAR", "LINEAR_EXACT", "SIGMOID"})
_PALETTE = (("00281101", "00281201"), ("00281102", "00281202"), ("00281103", "00281203"))


def picture_of(image: Image, number: int, request: RenderRequest, media_type: str) -> PictureSpec:
    """The picture of frame `number`: what the request asks, else what the instance says.

    A window in the request replaces the instance's VOI LUT (PS3.18 8.3.5.1.4).
    """
    attributes = image.attributes
    transformation = _group(attributes, number, _PIXEL_TRANSFORMATION) or attributes
    voi = _group(attributes, number, _FRAME_VOI) or attributes
    window = request.window or _window(voi)
    frame = image.frame_spec(number)
    tone = Tone(
        bits_stored=frame.bits_stored,
        signed=frame.pixel_representation == 1,
        slope=_decimal(transformation, "00281053", 1.0),
        intercept=_decimal(transformation, "00281052", 0.0),
        modality_lut=_lut_item(attributes, "00283000"),
        window=window,
        voi_lut=None if window is not None else _lut_item(voi, "00283010"),
        inverse=first_value(attributes, "20500020") == "INVERSE",
        padding=_padding(attributes),
    )
    return PictureSpec(
        tone=tone,
        palette=_palette(attributes),
        region=request.region,
        viewport=request.viewport,
        enlarge=request.enlarge,
        media_type=media_type,
        quality=request.quality,
    )


def _group(attributes: Attributes, number: int, tag: str) -> Attributes | None:
    """A functional group of a frame: its own, else the shared one (PS3.3 C.7.6.16)."""
    per_frame = _items(attributes, _FRAME_GROUPS)
    shared = _items(attributes, _SHARED_GROUPS)
    own = per_frame[number - 1 : number]
    for groups in (*own, *shared[:1]):
        items = _items(groups, tag)
        if items:
            return items[0]
    return None


def _window(attributes: Attributes) -> Window | None:
    """The first window of the instance; None where it has none that can be used."""
    center = _decimal(attributes, "00281050", None)
    width = _decimal(attributes, "00281051", None)
    shape = str(first_value(attributes, "00281056", "LINEAR")).strip().upper()
    if center is None or width is None or width <= 0 or shape not in _SHAPES:
        return None
    if shape == "LINEAR" and width < 1:
        return None
    return Window(center, width, cast(WindowShape, shape))


def _padding(attributes: Attributes) -> tuple[int, int] | None:
    """Pixel Padding Value and Range Limit (PS3.3 C.7.5.1.1.2), lower first."""
    value = first_value(attributes, "00280120")
    limit = first_value(attributes, "00280121", value)
    if not isinstance(value, int) or not isinstance(limit, int):
        return None
    if not -(2**63) <= min(value, limit) <= max(value, limit) < 2**63:
        return None
    return min(value, limit), max(value, limit)


def _palette(attributes: Attributes) -> tuple[Lut, Lut, Lut] | None:
    """Palette Color Lookup Tables (PS3.3 C.7.9); segmented ones are not read."""
    tables = [_lut(attributes, descriptor, data) for descriptor, data in _PALETTE]
    red, green, blue = tables
    return None if red is None or green is None or blue is None else (red, green, blue)


def _lut_item(attributes: Attributes, sequence: str) -> Lut | None:
    """The table of the first item of a Modality or VOI LUT Sequence (PS3.3 C.11.1, C.11.2)."""
    items = _items(attributes, sequence)
    return _lut(items[0], "00283002", "00283006") if items else None


def _lut(attributes: Attributes, descriptor_tag: str, data_tag: str) -> Lut | None:
    descriptor = attributes.get(descriptor_tag, {}).get("Value") or []
    if len(descriptor) != 3 or not all(isinstance(value, int) for value in descriptor):
        return None
    entries, first, bits = descriptor
    entries = entries % 65536 or 65536  # 0 stands for 65536
    raw = _words(attributes.get(data_tag, {}))
    if bits <= 8 and len(raw) == (entries + 1) // 2 * 2 and len(raw) < 2 * entries:
        raw = b"".join(bytes((byte, 0)) for byte in raw[:entries])  # 8-bit entries, two a word
    if len(raw) < 2 * entries or not (1 <= bits <= 16 and abs(first) <= 65536):
        return None
    return Lut(first=first, bits=bits, data=raw[: 2 * entries])


def _words(attribute: Mapping[str, Any]) -> bytes:
    """Little endian 16-bit words of a table, kept as numbers or as binary."""
    if "InlineBinary" in attribute:
        return base64.b64decode(attribute["InlineBinary"])
    values = attribute.get("Value") or []
    if not all(isinstance(value, int) for value in values):
        return b""
    return b"".join((value & 0xFFFF).to_bytes(2, "little") for value in values)


def _items(attributes: Attributes, tag: str) -> Sequence[Attributes]:
    values = attributes.get(tag, {}).get("Value") or []
    return [value if isinstance(value, Mapping) else {} for value in values]


def _decimal(attributes: Attributes, tag: str, default: Any) -> Any:
    """A finite number of a size that arithmetic survives, or the default."""
    value = first_value(attributes, tag, default)
    usable = isinstance(value, int | float) and -MOST <= value <= MOST
    return float(value) if usable else default
