"""The demonstration set: drawn here, the same every time, readable by others."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from dataset.charset import decode_text
from server.demo.catalogue import Study, studies
from server.demo.generate import generate

DAY = dt.date(2026, 11, 22)


def _short(study: Study) -> Study:
    """The first two planes of each series."""
    series = tuple(replace(one, images=min(one.images, 2)) for one in study.series)
    return replace(study, series=series)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Dataset]]:
    """Study key → its data sets, without the radiograph that takes seconds."""
    folder = tmp_path_factory.mktemp("demo")
    chosen = [_short(study) for study in studies() if study.picture != "dx_chest"]
    found: dict[str, list[Dataset]] = {}
    for path in generate(folder, DAY, chosen=chosen, workers=1):
        found.setdefault(path.relative_to(folder).parts[0], []).append(pydicom.dcmread(path))
    return found


def test_five_invented_patients_in_four_ways_to_write_chinese() -> None:
    every = studies()
    assert len({study.patient_id for study in every}) == len(every) == 5
    charsets = {study.declared or str(study.charset) for study in every}
    assert charsets == {"GB18030", "ISO_IR 192", "ISO_IR 100", "['', 'ISO 2022 IR 58']"}
    assert {study.modality for study in every} == {"CT", "DX", "US", "MR"}


def test_the_same_day_gives_the_same_bytes_and_another_day_other_uids(tmp_path: Path) -> None:
    heart = [study for study in studies() if study.key == "heart-us"]
    one, two = (
        generate(tmp_path / name, DAY, chosen=heart, workers=1)[0].read_bytes() for name in "ab"
    )
    assert hashlib.sha256(one).digest() == hashlib.sha256(two).digest()
    later = generate(tmp_path / "c", DAY + dt.timedelta(days=1), chosen=heart, workers=1)[0]
    uids = {pydicom.dcmread(path).StudyInstanceUID for path in (tmp_path / "a").rglob("*.dcm")}
    assert pydicom.dcmread(later).StudyInstanceUID not in uids


def test_every_pixel_can_be_decoded_and_shows_something(drawn: dict[str, list[Dataset]]) -> None:
    for key, instances in drawn.items():
        for ds in instances:
            pixels = ds.pixel_array
            assert np.ptp(pixels) > 100, key
            assert pixels.std() > 10, key


def test_planes_of_a_series_stand_in_order_and_at_their_place(
    drawn: dict[str, list[Dataset]],
) -> None:
    for key in ("chest-ct", "head-ct", "brain-mr"):
        by_series: dict[str, list[Dataset]] = {}
        for ds in drawn[key]:
            by_series.setdefault(ds.SeriesInstanceUID, []).append(ds)
        for planes in by_series.values():
            heights = [float(ds.ImagePositionPatient[2]) for ds in planes]
            step = abs(heights[1] - heights[0])
            assert step == float(planes[0].SpacingBetweenSlices)
            assert len({ds.FrameOfReferenceUID for ds in planes}) == 1


def test_the_wrong_declaration_is_found_out(drawn: dict[str, list[Dataset]]) -> None:
    ds = drawn["brain-mr"][0]
    assert ds.SpecificCharacterSet == "ISO_IR 100"
    raw = ds["PatientName"].value.original_string
    decoded = decode_text(bytes(raw), ["ISO_IR 100"], "PN")
    assert decoded.text == "Shan^Xiaomei=单^晓梅"
    assert decoded.repaired


def test_dates_count_back_from_the_day(drawn: dict[str, list[Dataset]]) -> None:
    assert drawn["head-ct"][0].StudyDate == "20261122"
    assert drawn["brain-mr"][0].StudyDate == "20261110"


def test_the_radiograph_has_dark_lungs_and_a_bright_spine(tmp_path: Path) -> None:
    chest = [study for study in studies() if study.picture == "dx_chest"]
    ds = pydicom.dcmread(generate(tmp_path, DAY, chosen=chest, workers=1)[0])
    pixels = ds.pixel_array.astype(float)
    rows, columns = pixels.shape
    middle = slice(int(rows * 0.42), int(rows * 0.52))
    spine = pixels[middle, int(columns * 0.47) : int(columns * 0.53)].mean()
    lungs = pixels[middle, int(columns * 0.20) : int(columns * 0.32)].mean()
    air = pixels[: rows // 20, : columns // 20].mean()
    assert spine > lungs * 1.5 > air * 1.5
