"""Rendered frames and thumbnails against pictures computed from pydicom's pixels."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

from dataset.codecs import DECODER_DEPENDENCIES, decoder_of
from tests.dicomweb.conftest import Answer, Client
from tests.dicomweb.material import dataset, file, path, pixels, set_pixels

PNG, JPEG = "image/png", "image/jpeg"
# Nobody among the permitted libraries decodes these; said in words, not shown.
NO_CODEC = ("4.53", "4.55")


def picture(answer: Answer) -> NDArray[np.uint8]:
    """The pixels of an answer."""
    assert answer.status == 200, answer.body
    return np.asarray(Image.open(io.BytesIO(answer.body)))


async def stow(client: Client, *files: bytes) -> str:
    """Store and give the path of the first instance."""
    answer = await client.stow(*files)
    assert answer.status == 200, answer.body
    url: str = answer.json["00081199"]["Value"][0]["00081190"]["Value"][0]
    return url.removeprefix(client.root)


def linear(values: NDArray[Any], center: float, width: float) -> NDArray[np.uint8]:
    """PS3.3 C.11.2.1.2.1, written as the standard has it."""
    x = values.astype(np.float64)
    y = ((x - (center - 0.5)) / (width - 1) + 0.5) * 255
    y[x <= center - 0.5 - (width - 1) / 2] = 0
    y[x > center - 0.5 + (width - 1) / 2] = 255
    return np.asarray(np.round(y), dtype=np.uint8)


def assert_close(shown: NDArray[np.uint8], expected: NDArray[Any], name: str = "") -> None:
    """Within one grey level."""
    assert shown.shape == expected.shape, name
    assert np.abs(shown.astype(int) - expected.astype(int)).max() <= 1, name


async def test_the_window_of_the_request_is_applied(client: Client) -> None:
    values = pixels(4, side=64)
    ds = dataset(RescaleSlope="2", RescaleIntercept="-1024", WindowCenter="40", WindowWidth="400")
    set_pixels(ds, values)
    where = await stow(client, file(ds))
    hounsfield = values.astype(float) * 2 - 1024
    own = await client.get(f"{where}/rendered", PNG)
    assert own.headers["Content-Type"] == PNG
    assert_close(picture(own), linear(hounsfield, 40, 400))
    asked = await client.get(f"{where}/rendered?window=500,1000,linear", PNG)
    assert_close(picture(asked), linear(hounsfield, 500, 1000))
    exact = await client.get(f"{where}/rendered?window=500,1000,linear-exact", PNG)
    assert_close(picture(exact), np.clip(np.round(((hounsfield - 500) / 1000 + 0.5) * 255), 0, 255))
    sigmoid = await client.get(f"{where}/rendered?window=500,1000,sigmoid", PNG)
    assert_close(picture(sigmoid), np.round(255 / (1 + np.exp(-4 * (hounsfield - 500) / 1000))))


async def test_low_values_of_monochrome1_are_bright(client: Client) -> None:
    values = pixels(4, side=32)
    ds = dataset(PhotometricInterpretation="MONOCHROME1", WindowCenter="2048", WindowWidth="4096")
    set_pixels(ds, values)
    where = await stow(client, file(ds))
    shown = picture(await client.get(f"{where}/rendered", PNG))
    assert_close(shown, 255 - linear(values, 2048, 4096))


async def test_jpeg_is_the_default_and_follows_the_quality(client: Client) -> None:
    ds = dataset()
    set_pixels(ds, pixels(4, side=128))
    where = await stow(client, file(ds))
    plain = await client.get(f"{where}/rendered")
    assert plain.headers["Content-Type"] == JPEG
    small = await client.get(f"{where}/rendered?quality=10", "image/*")
    assert small.headers["Content-Type"] == JPEG
    assert len(small.body) < len(plain.body) / 2
    browser = "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"
    assert (await client.get(f"{where}/rendered", browser)).headers["Content-Type"] == PNG
    assert (await client.get(f"{where}/rendered?accept=image/png")).headers["Content-Type"] == PNG


async def test_the_viewport_bounds_the_picture_and_keeps_its_shape(client: Client) -> None:
    ds = dataset(WindowCenter="2048", WindowWidth="4096")
    values = np.repeat(pixels(4, side=40), 2, axis=1)
    set_pixels(ds, values)
    where = await stow(client, file(ds))
    assert picture(await client.get(f"{where}/rendered?viewport=20,20", PNG)).shape == (10, 20)
    assert picture(await client.get(f"{where}/rendered?viewport=160,160", PNG)).shape == (80, 160)
    part = await client.get(f"{where}/rendered?viewport=30,20,10,5,30,20", PNG)
    assert_close(picture(part), linear(values, 2048, 4096)[5:25, 10:40])
    mirrored = await client.get(f"{where}/rendered?viewport=80,40,,,-80,", PNG)
    assert_close(picture(mirrored), linear(values, 2048, 4096)[:, ::-1])


@pytest.mark.parametrize(
    "query",
    [
        "window=40",
        "window=40,0",
        "window=40,-5,linear",
        "window=a,b,linear",
        "window=40,400,cubic",
        "window=nan,400",
        "viewport=0,10",
        "viewport=10",
        "viewport=99999,1",
        "viewport=10,10,0,0,0,5",
        "viewport=10,10,1",
        "quality=0",
        "quality=101",
        "quality=best",
    ],
)
async def test_bad_parameters_are_refused(client: Client, query: str) -> None:
    where = await stow(client, file(dataset()))
    answer = await client.get(f"{where}/rendered?{query}")
    assert (answer.status, answer.json["code"]) == (400, "render.bad_value")


async def test_frames_are_rendered_one_by_one_or_together(client: Client) -> None:
    stack = np.stack([pixels(number) for number in range(3)])
    ds = dataset(NumberOfFrames=3, WindowCenter="2048", WindowWidth="4096")
    set_pixels(ds, stack)
    where = await stow(client, file(ds))
    second = await client.get(f"{where}/frames/2/rendered", PNG)
    assert_close(picture(second), linear(stack[1], 2048, 4096))
    both = await client.get(f"{where}/frames/3,1/rendered", f'multipart/related; type="{PNG}"')
    shown = [np.asarray(Image.open(io.BytesIO(content))) for _, content in both.parts()]
    assert_close(shown[0], linear(stack[2], 2048, 4096))
    assert_close(shown[1], linear(stack[0], 2048, 4096))
    assert (await client.get(f"{where}/frames/4/rendered")).status == 404
    assert (await client.get(f"{where}/frames/1,2/rendered", PNG)).status == 406


async def test_functional_groups_decide_each_frame(client: Client) -> None:
    stack = np.stack([pixels(number) for number in range(2)])
    ds = dataset(NumberOfFrames=2)
    set_pixels(ds, stack)
    groups = []
    for center, slope in ((1000, 1), (3000, 2)):
        voi, transformation, group = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        voi.WindowCenter, voi.WindowWidth = str(center), "500"
        transformation.RescaleSlope, transformation.RescaleIntercept = str(slope), "0"
        group.FrameVOILUTSequence = [voi]
        group.PixelValueTransformationSequence = [transformation]
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = groups
    where = await stow(client, file(ds))
    first = picture(await client.get(f"{where}/frames/1/rendered", PNG))
    assert_close(first, linear(stack[0], 1000, 500))
    second = picture(await client.get(f"{where}/frames/2/rendered", PNG))
    assert_close(second, linear(stack[1].astype(float) * 2, 3000, 500))


async def test_a_thumbnail_stands_for_study_series_instance_and_frame(client: Client) -> None:
    files = []
    for number in range(1, 4):
        ds = dataset(number=number)
        set_pixels(ds, pixels(number, side=600))
        files.append(file(ds))
    no_pixels = dataset(series=2, PixelData=None, Rows=None, Columns=None)
    await stow(client, *files, file(no_pixels))
    for where in (path(), path(1, 1), path(1, 1, 1), f"{path(1, 1, 1)}/frames/1"):
        answer = await client.get(f"{where}/thumbnail")
        assert answer.headers["Content-Type"] == JPEG
        assert picture(answer).shape == (256, 256), where
    small = await client.get(f"{path()}/thumbnail?viewport=64,64", "image/png")
    assert picture(small).shape == (64, 64)
    answer = await client.get(f"{path(1, 2)}/thumbnail")
    assert (answer.status, answer.json["code"]) == (406, "pixels.none")


async def test_small_images_are_not_enlarged_for_a_thumbnail(client: Client) -> None:
    where = await stow(client, file(dataset()))
    assert picture(await client.get(f"{where}/thumbnail")).shape == (16, 16)


async def test_an_unchanged_picture_is_not_sent_again(client: Client) -> None:
    where = await stow(client, file(dataset()))
    first = await client.get(f"{where}/rendered")
    again = await client.get(f"{where}/rendered", **{"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    other = await client.get(f"{where}/rendered", PNG)
    assert other.headers["ETag"] != first.headers["ETag"]


async def test_a_file_that_declares_more_than_it_has_is_refused_at_once(client: Client) -> None:
    """910 bytes that declare 65535 x 65535 pixels."""
    where = await stow(client, file(dataset(Rows=65535, Columns=65535)))
    answer = await client.get(f"{where}/rendered")
    assert (answer.status, answer.json["code"]) == (406, "pixels.too_large")
    short = await stow(client, file(dataset(number=2, Rows=512)))
    answer = await client.get(f"{short}/rendered")
    assert (answer.status, answer.json["code"]) == (406, "pixels.unclear")


async def test_parameters_that_are_not_supported_are_named(client: Client) -> None:
    where = await stow(client, file(dataset()))
    answer = await client.get(f"{where}/rendered?annotation=patient")
    assert (answer.status, "annotation" in answer.headers["Warning"]) == (200, True)


def oracle(ds: pydicom.Dataset) -> NDArray[Any] | None:
    """What the first frame should look like, from pydicom alone; None where it cannot say."""
    array = ds.pixel_array
    if ds.get("NumberOfFrames", 1) and int(ds.get("NumberOfFrames", 1) or 1) > 1:
        array = array[0]
    photometric = ds.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        colour = apply_color_lut(array, ds)
        return colour >> 8 if colour.dtype == np.uint16 and colour.max() > 255 else colour
    if ds.SamplesPerPixel == 3:
        return array if ds.BitsStored == 8 else None
    modal = apply_modality_lut(array, ds).astype(float)
    if "PerFrameFunctionalGroupsSequence" in ds or "VOILUTSequence" in ds:
        return None
    if "WindowCenter" in ds and ds.WindowWidth:
        center, width = np.ravel(ds.WindowCenter)[0], np.ravel(ds.WindowWidth)[0]
        gray = linear(modal, float(center), float(width))
    elif ds.BitsStored <= 8 and not ds.PixelRepresentation and (modal == array).all():
        gray = np.round(modal * 255.0 / ((1 << ds.BitsStored) - 1))
    else:
        kept = modal
        if "PixelPaddingValue" in ds:
            limit = ds.get("PixelPaddingRangeLimit", ds.PixelPaddingValue)
            low, high = sorted((ds.PixelPaddingValue, limit))
            kept = modal[(array < low) | (array > high)]
        low, high = kept.min(), kept.max()
        gray = np.round(np.clip((modal - low) / max(high - low, 1e-9), 0, 1) * 255)
    inverse = photometric == "MONOCHROME1" or ds.get("PresentationLUTShape") == "INVERSE"
    return 255 - gray if inverse else gray


@pytest.mark.timeout(180)
async def test_every_image_of_the_corpus_is_shown_as_pydicom_decodes_it(
    shared_data: Path, client: Client
) -> None:
    for syntax in DECODER_DEPENDENCIES:
        decoder_of(syntax)  # lets pydicom decode it too
    shown, hidden, seen = 0, {}, set()
    for file_path in sorted((shared_data / "dicom").rglob("*")):
        if not file_path.is_file() or "series/" in str(file_path):
            continue
        name = str(file_path.relative_to(shared_data / "dicom"))
        answer = await client.stow(file_path.read_bytes())
        if answer.status != 200:
            continue
        (url,) = answer.json["00081199"]["Value"][0]["00081190"]["Value"]
        if url in seen:
            continue
        seen.add(url)
        answer = await client.get(f"{url.removeprefix(client.root)}/rendered", PNG)
        if answer.status != 200:
            assert answer.status == 406, (name, answer.body)
            hidden[name] = answer.json["code"]
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                expected = oracle(pydicom.dcmread(file_path, force=True))
            except (ValueError, AttributeError, RuntimeError, NotImplementedError, TypeError):
                continue
        if expected is not None:
            assert_close(picture(answer), expected, name)
            shown += 1
    assert shown > 110
    with_pixels = {name: code for name, code in hidden.items() if code != "pixels.none"}
    unexpected = {name: code for name, code in with_pixels.items() if not is_expected(name, code)}
    assert unexpected == {}, unexpected


def is_expected(name: str, code: str) -> bool:
    """What is known not to be shown: no codec, or damaged on purpose."""
    if code == "pixels.syntax":
        return any(part in name for part in NO_CODEC)
    return name.startswith("malformed/") or "embedded-sequence-delimiter" in name
