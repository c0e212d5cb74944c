"""What an image says about how it wants to be shown, hostile values included."""

from __future__ import annotations

import random
import warnings
from typing import Any

import numpy as np
import pytest

from archive.retrieve.domain import StoredInstance
from dataset.voi import Lut, Tone, Window
from dicomweb.pixels.images import Image
from dicomweb.pixels.picture import draw
from dicomweb.pixels.picture_spec import PictureSpec, Region
from dicomweb.render.domain import RenderRequest
from dicomweb.render.presentation import picture_of

INSTANCE = StoredInstance(
    1, 1, "1.2", "1.3", "1.4", "1.5", "1.2.840.10008.1.2.1", 1, 1, 4, 4, 1, 0, 32
)


def image(**attributes: Any) -> Image:
    """An image of 4 x 4 pixels with more attributes by tag."""
    base = {"t00280010": 4, "t00280011": 4, "t00280100": 16, "t00280101": 12}
    json = {
        name[1:]: {"vr": "UN", "Value": value if isinstance(value, list) else [value]}
        for name, value in {**base, **attributes}.items()
    }
    return Image(INSTANCE, json, [[(0, 32)]], "PixelData", deflated=False)


def tone(**attributes: Any) -> Tone:
    """The tone of such an image."""
    return picture_of(image(**attributes), 1, RenderRequest(), "image/png").tone


def test_the_first_of_several_windows_counts() -> None:
    found = tone(t00281050=[40, 300], t00281051=[400, 1500], t00281056="SIGMOID").window
    assert found == Window(40.0, 400.0, "SIGMOID")


@pytest.mark.parametrize(
    "attributes",
    [
        {"t00281050": 40},
        {"t00281050": 40, "t00281051": 0},
        {"t00281050": "forty", "t00281051": 400},
        {"t00281050": 40, "t00281051": 400, "t00281056": "STRANGE"},
    ],
)
def test_a_window_that_cannot_be_used_is_left_out(attributes: dict[str, Any]) -> None:
    assert tone(**attributes).window is None


def test_a_table_is_read_from_numbers_and_its_entry_count_may_be_zero_for_65536() -> None:
    item = {
        "00283002": {"vr": "US", "Value": [3, 100, 12]},
        "00283006": {"vr": "US", "Value": [1, 2, 3]},
    }
    assert tone(t00283010=[item]).voi_lut == Lut(100, 12, b"\1\0\2\0\3\0")
    item["00283002"]["Value"] = [0, 0, 16]
    assert tone(t00283010=[item]).voi_lut is None
    item["00283002"]["Value"] = [3, 0, 40]
    assert tone(t00283010=[item]).voi_lut is None


def test_a_window_of_the_request_replaces_the_stored_table() -> None:
    item = {
        "00283002": {"vr": "US", "Value": [3, 100, 12]},
        "00283006": {"vr": "US", "Value": [1, 2, 3]},
    }
    request = RenderRequest(window=Window(1, 2))
    found = picture_of(image(t00283010=[item]), 1, request, "image/png").tone
    assert (found.window, found.voi_lut) == (Window(1, 2), None)


def test_a_picture_spec_survives_the_way_to_another_process() -> None:
    lut = Lut(-5, 16, b"\1\0")
    spec = PictureSpec(
        Tone(bits_stored=12, modality_lut=lut, window=Window(1, 2), padding=(-1, 3)),
        palette=(lut, lut, lut),
        region=Region(1, 2, None, -4),
        viewport=(5, 6),
    )
    assert PictureSpec.from_json(spec.to_json()) == spec


def test_strange_attributes_never_break_the_pipeline() -> None:
    """Random values where numbers belong: a picture or a refusal, nothing else."""
    chance = random.Random(11)
    tags = [
        "t00281050", "t00281051", "t00281052", "t00281053", "t00280120", "t00280121", "t00280103",
        "t00283000", "t00283010", "t20500020", "t52009229", "t52009230",
    ]  # fmt: skip
    strange: list[Any] = [
        None, "", "x", -1, 0, 1e308, -1e308, 10**40, 10**400, 65536, [], [None], [{}], "NaN",
        [{"00283002": {"Value": [1, 2, 16]}, "00283006": {"InlineBinary": "AQI="}}],
    ]  # fmt: skip
    samples = np.arange(16, dtype=np.uint16).reshape(4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(500):
            given = {tag: chance.choice(strange) for tag in chance.sample(tags, 4)}
            spec = picture_of(image(**given), 1, RenderRequest(), "image/png")
            assert draw(samples, "MONOCHROME2", spec).startswith(b"\x89PNG")
