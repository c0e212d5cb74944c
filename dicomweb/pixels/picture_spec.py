"""What turns samples into a picture, apart from the samples: plain values (pure)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from dataset.voi import Lut, Tone, Window


class Region(NamedTuple):
    """The part of the source to show; None = to the edge, a negative extent mirrors."""

    left: int
    top: int
    width: int | None
    height: int | None


@dataclass(frozen=True, slots=True)
class PictureSpec:
    """Everything that turns samples into a picture, apart from the samples."""

    tone: Tone
    palette: tuple[Lut, Lut, Lut] | None = None
    region: Region | None = None
    viewport: tuple[int, int] | None = None
    enlarge: bool = True
    media_type: str = "image/jpeg"
    quality: int = 90

    def to_json(self) -> dict[str, Any]:
        """Plain values, for another process."""
        values = asdict(self)
        values["tone"]["modality_lut"] = _lut_to_json(self.tone.modality_lut)
        values["tone"]["voi_lut"] = _lut_to_json(self.tone.voi_lut)
        if self.palette is not None:
            values["palette"] = [_lut_to_json(lut) for lut in self.palette]
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PictureSpec:
        """What `to_json` made."""
        given, tone = dict(values), dict(values["tone"])
        for name in ("modality_lut", "voi_lut"):
            tone[name] = _lut_from_json(tone[name])
        if tone["window"] is not None:
            tone["window"] = Window(*tone["window"])
        if tone["padding"] is not None:
            tone["padding"] = tuple(tone["padding"])
        given["tone"] = Tone(**tone)
        if given["palette"] is not None:
            given["palette"] = tuple(_lut_from_json(lut) for lut in given["palette"])
        if given["region"] is not None:
            given["region"] = Region(*given["region"])
        return cls(**given)


def _lut_to_json(lut: Lut | None) -> list[Any] | None:
    if lut is None:
        return None
    return [lut.first, lut.bits, base64.b64encode(lut.data).decode("ascii")]


def _lut_from_json(values: list[Any] | None) -> Lut | None:
    if values is None:
        return None
    return Lut(int(values[0]), int(values[1]), base64.b64decode(values[2]))
