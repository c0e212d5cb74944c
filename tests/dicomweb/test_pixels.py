"""Decoding frames: native ones against pydicom, compressed ones in worker processes."""

from __future__ import annotations

import asyncio
import csv
import os
import signal
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder

from dicomweb.pixels.codecs import decode
from dicomweb.pixels.frame import BIG_ENDIAN, NATIVE_SYNTAXES, CannotDisplay, FrameSpec
from dicomweb.pixels.native import decode_native
from dicomweb.pixels.pool import CodecPool, Limits

ELE = "1.2.840.10008.1.2.1"
# Codecs that nobody among the permitted libraries has (see the package's notes on codecs).
NOT_DECODABLE = {"1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55"}


def read(path: Path) -> pydicom.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(path, force=True)


def spec_of(ds: pydicom.Dataset) -> FrameSpec:
    return FrameSpec(
        transfer_syntax_uid=str(ds.file_meta.TransferSyntaxUID),
        rows=ds.Rows,
        columns=ds.Columns,
        samples_per_pixel=ds.SamplesPerPixel,
        bits_allocated=ds.BitsAllocated,
        bits_stored=ds.BitsStored,
        pixel_representation=ds.PixelRepresentation,
        photometric_interpretation=ds.PhotometricInterpretation,
        planar_configuration=ds.get("PlanarConfiguration", 0) or 0,
    )


def matrix(shared_data: Path) -> dict[str, pydicom.Dataset]:
    files = sorted((shared_data / "dicom" / "ts_matrix_ct").glob("*.dcm"))
    return {str(ds.file_meta.TransferSyntaxUID): ds for ds in map(read, files)}


def frame_of(ds: pydicom.Dataset) -> bytes:
    return next(generate_frames(ds.PixelData, number_of_frames=1))


@pytest.fixture
async def pool() -> AsyncIterator[CodecPool]:
    async with CodecPool(Limits(workers=1)) as running:
        yield running


def test_every_lossless_codec_gives_the_very_pixels_of_the_native_file(shared_data: Path) -> None:
    datasets = matrix(shared_data)
    expected = decode_native(datasets[ELE].PixelData, spec_of(datasets[ELE]))[0]
    lossless = {"5", "4.57", "4.70", "4.80", "4.90"}
    seen = set()
    for uid, ds in datasets.items():
        short = uid.removeprefix("1.2.840.10008.1.2.")
        if uid in NATIVE_SYNTAXES or short not in lossless:
            continue
        array, photometric = decode(frame_of(ds), spec_of(ds))
        assert photometric == "MONOCHROME2"
        np.testing.assert_array_equal(array, expected)
        seen.add(short)
    assert seen == lossless


def test_lossy_codecs_come_close_to_what_was_encoded(shared_data: Path) -> None:
    datasets = matrix(shared_data)
    expected = decode_native(datasets[ELE].PixelData, spec_of(datasets[ELE]))[0]
    for uid, most in (("1.2.840.10008.1.2.4.81", 1), ("1.2.840.10008.1.2.4.91", 5)):
        array, _ = decode(frame_of(datasets[uid]), spec_of(datasets[uid]))
        assert np.abs(array.astype(int) - expected).max() <= most


def test_codecs_that_are_missing_are_named(shared_data: Path) -> None:
    datasets = matrix(shared_data)
    for uid in NOT_DECODABLE:
        with pytest.raises(CannotDisplay) as caught:
            decode(frame_of(datasets[uid]), spec_of(datasets[uid]))
        assert caught.value.code == "pixels.syntax"


def test_native_frames_of_the_corpus_equal_pydicom(shared_data: Path) -> None:
    compared = 0
    rows = (shared_data / "manifest.csv").read_text(encoding="utf-8").splitlines()
    for row in csv.DictReader(rows):
        if row["transfer_syntax"] not in NATIVE_SYNTAXES or not row["dims"]:
            continue
        ds = read(shared_data / row["file"])
        if "PixelData" not in ds or "TransferSyntaxUID" not in ds.file_meta:
            continue
        if ds.file_meta.TransferSyntaxUID == BIG_ENDIAN and ds.get("BitsAllocated") == 8:
            continue  # bytes in words are put right where frames are read, see test_rendered
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                decoder = get_decoder(ds.file_meta.TransferSyntaxUID)
                expected, properties = decoder.as_array(ds, index=0)
                array, photometric = decode_native(ds.PixelData, spec_of(ds))
        except (CannotDisplay, ValueError, AttributeError, NotImplementedError, TypeError):
            continue
        np.testing.assert_array_equal(array, expected, err_msg=row["file"])
        assert photometric == properties["photometric_interpretation"], row["file"]
        compared += 1
    assert compared > 100


def test_a_frame_shorter_than_declared_is_refused() -> None:
    with pytest.raises(CannotDisplay) as caught:
        decode_native(b"\0" * 10, FrameSpec(ELE, rows=512, columns=512))
    assert caught.value.code == "pixels.truncated"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"rows": 65535, "columns": 65535}, "pixels.too_large"),
        ({"rows": 0}, "pixels.attributes"),
        ({"bits_allocated": 12}, "pixels.attributes"),
        ({"bits_stored": 17}, "pixels.attributes"),
        ({"samples_per_pixel": 2}, "pixels.attributes"),
    ],
)
def test_what_cannot_be_is_refused_before_memory_is_taken(
    change: dict[str, Any], code: str
) -> None:
    with pytest.raises(CannotDisplay) as caught:
        FrameSpec(**{"transfer_syntax_uid": ELE, "rows": 8, "columns": 8, **change}).check()
    assert caught.value.code == code


def test_frames_of_one_bit_may_begin_inside_a_byte() -> None:
    bits = np.random.default_rng(3).integers(0, 2, 3 * 5 * 4, dtype=np.uint8)
    packed = np.packbits(bits, bitorder="little").tobytes()
    for number in range(4):
        start = number * 15
        spec = FrameSpec(ELE, 3, 5, bits_allocated=1, bits_stored=1, bit_offset=start % 8)
        array, _ = decode_native(packed[start // 8 :], spec)
        np.testing.assert_array_equal(array.ravel(), bits[start : start + 15])


async def test_a_worker_decodes_and_can_be_used_again(shared_data: Path, pool: CodecPool) -> None:
    ds = matrix(shared_data)["1.2.840.10008.1.2.4.80"]
    expected, _ = decode(frame_of(ds), spec_of(ds))
    for _ in range(2):
        answer = await pool.decode(spec_of(ds), frame_of(ds))
        assert answer.data == expected.astype("<i2").tobytes()
        assert answer.head["shape"] == [512, 512]


async def test_a_worker_says_why_it_cannot_decode(pool: CodecPool) -> None:
    spec = FrameSpec("1.2.840.10008.1.2.4.90", 8, 8)
    with pytest.raises(CannotDisplay) as caught:
        await pool.decode(spec, b"not a codestream")
    assert caught.value.code == "pixels.corrupt"


async def test_a_worker_that_dies_costs_one_request(shared_data: Path, pool: CodecPool) -> None:
    ds = matrix(shared_data)["1.2.840.10008.1.2.5"]
    await pool.decode(spec_of(ds), frame_of(ds))
    process = pool._workers[0].process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(CannotDisplay):
        await pool.decode(spec_of(ds), frame_of(ds))
    assert (await pool.decode(spec_of(ds), frame_of(ds))).data


async def test_a_job_that_takes_too_long_is_ended(shared_data: Path) -> None:
    ds = matrix(shared_data)["1.2.840.10008.1.2.4.90"]
    async with CodecPool(Limits(workers=1, seconds=0.0)) as impatient:
        with pytest.raises(CannotDisplay) as caught:
            await impatient.decode(spec_of(ds), frame_of(ds))
    assert caught.value.code == "pixels.time"


async def test_memory_of_a_job_is_bounded() -> None:
    """A JPEG-LS codestream that declares 65535 x 65535 pixels asks its decoder for gigabytes."""
    header = bytes.fromhex("ffd8fff7000b08ffffffff0101110 0ffda00080101000000 00".replace(" ", ""))
    spec = FrameSpec("1.2.840.10008.1.2.4.80", 64, 64, bits_allocated=8, bits_stored=8)
    async with CodecPool(Limits(workers=1, memory_bytes=256 << 20)) as small:
        with pytest.raises(CannotDisplay) as caught:
            await small.decode(spec, header + b"\0" * 1000 + b"\xff\xd9")
    assert caught.value.code in ("pixels.memory", "pixels.corrupt")


async def test_a_caller_that_goes_away_leaves_the_worker_in_order(
    shared_data: Path, pool: CodecPool
) -> None:
    ds = matrix(shared_data)["1.2.840.10008.1.2.4.90"]
    task = asyncio.create_task(pool.decode(spec_of(ds), frame_of(ds)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len((await pool.decode(spec_of(ds), frame_of(ds))).data) == 512 * 512 * 2
