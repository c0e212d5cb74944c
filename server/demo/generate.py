"""Write the demonstration studies as DICOM files: the same bytes for the same day, in seconds."""

from __future__ import annotations

import datetime as dt
import io
import multiprocessing
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydicom.charset import encode_string
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from dataset.charset import encode_text
from server.demo import echo, head, radiograph, thorax
from server.demo.catalogue import JPEG_2000_LOSSLESS, RLE_LOSSLESS, Series, Study, studies
from server.demo.shapes import Image, axis, blur, grain

SOP_CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "US": "1.2.840.10008.5.1.4.1.1.3.1",
}
IMPLEMENTATION_CLASS_UID = "2.25.302935142318113046213098325124816203271"
AXIAL = ["1", "0", "0", "0", "1", "0"]
NAMES = uuid.UUID("b9b4f8d0-6a2e-5d0c-9a53-7f6f4d0c2a11")
Progress = Callable[[int, int], None]


def generate(
    folder: Path,
    day: dt.date,
    *,
    chosen: Sequence[Study] | None = None,
    workers: int = 2,
    progress: Progress = lambda _done, _total: None,
) -> list[Path]:
    """Write the studies (all, or those ``chosen``) below ``folder``; the files in order.

    Their dates are counted back from ``day``. ``progress`` is told how many of the planes have
    been drawn. Drawing uses ``workers`` processes (1: this one).
    """
    jobs = [
        (folder, day, study, number)
        for study in (studies() if chosen is None else chosen)
        for number in range(max(series.images for series in study.series))
    ]
    jobs.sort(key=lambda job: job[2].picture != "dx_chest")  # the longest first
    paths: list[Path] = []
    for done, files in enumerate(_run(jobs, workers), 1):
        paths += files
        progress(done, len(jobs))
    return sorted(paths)


Job = tuple[Path, dt.date, Study, int]


def _run(jobs: list[Job], workers: int) -> Iterator[list[Path]]:
    if workers == 1:
        yield from (_draw(job) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")
    with _one_thread_each(), ProcessPoolExecutor(workers, mp_context=context) as pool:
        for future in as_completed([pool.submit(_draw, job) for job in jobs]):
            yield future.result()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that start meanwhile use one thread for matrix products: they are many already."""
    name = "OPENBLAS_NUM_THREADS"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _draw(job: Job) -> list[Path]:
    """Draw one plane of one study in each of its series and write the files."""
    folder, day, study, number = job
    out = []
    drawn = PAINTERS[study.picture](study, number)
    for series, attributes in drawn:
        ds = _common(study, series, number, day)
        for keyword, value in {**series.attributes, **attributes}.items():
            setattr(ds, keyword, value)
        path = folder / study.key / f"series{series.number}" / f"image{number + 1:04d}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_encode(ds, study, series))
        out.append(path)
    return out


def uid(day: dt.date, *parts: object) -> str:
    """A UID that stays the same for the same day and parts (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(NAMES, '/'.join(map(str, (day.isoformat(), *parts)))).int}"


def _common(study: Study, series: Series, number: int, day: dt.date) -> Dataset:
    ds = Dataset()
    date = (day - dt.timedelta(days=study.days_ago)).strftime("%Y%m%d")
    clock = dt.datetime.strptime(study.time, "%H%M%S") + dt.timedelta(  # noqa: DTZ007
        minutes=series.number, seconds=number
    )
    ds.SpecificCharacterSet = study.charset
    ds.SOPClassUID, ds.SOPInstanceUID = (
        SOP_CLASSES[study.modality],
        uid(day, study.key, series.number, number),
    )
    for event in ("Study", "Series", "Acquisition", "Content"):
        setattr(ds, f"{event}Date", date)
        setattr(ds, f"{event}Time", study.time if event == "Study" else clock.strftime("%H%M%S"))
    ds.AccessionNumber, ds.Modality = study.accession_number, study.modality
    ds.Manufacturer, ds.ManufacturerModelName, ds.StationName = (
        "YUNYING DEMO",
        study.model,
        study.station,
    )
    ds.InstitutionName, ds.InstitutionalDepartmentName = study.institution, study.department
    ds.ReferringPhysicianName = study.physician
    ds.StudyDescription, ds.SeriesDescription = study.description, series.description
    ds.PatientName, ds.PatientID, ds.PatientSex = study.name, study.patient_id, study.sex
    ds.PatientBirthDate = study.birth_date
    ds.PatientAge = f"{(int(date) - int(study.birth_date)) // 10000:03d}Y"
    ds.BodyPartExamined = study.body_part
    ds.StudyInstanceUID, ds.SeriesInstanceUID = (
        uid(day, study.key),
        uid(day, study.key, series.number),
    )
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = "1", series.number, number + 1
    ds.PatientComments = "演示数据，由程序绘制 / demonstration data, drawn by a program"
    return ds


def _encode(ds: Dataset, study: Study, series: Series) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        ds.SOPClassUID,
        ds.SOPInstanceUID,
    )
    meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.1")
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    ds.file_meta = meta
    if isinstance(study.charset, list):
        _write_escapes(ds, "\\".join(study.charset))
    if series.transfer_syntax_uid in (RLE_LOSSLESS, JPEG_2000_LOSSLESS):
        ds.compress(series.transfer_syntax_uid, generate_instance_uid=False)
    meta.TransferSyntaxUID = UID(series.transfer_syntax_uid)
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    content = out.getvalue()
    if study.declared:  # the text stays as it is, only its declaration turns wrong
        right = _charset_element(str(study.charset))
        content = content.replace(right, _charset_element(study.declared), 1)
    return content


def _write_escapes(ds: Dataset, charset: str) -> None:
    """Encode every text with its ISO 2022 escape sequences, which pydicom leaves out for IR 58."""
    for element in ds:
        if element.VR in ("LO", "LT", "PN", "SH", "ST") and not str(element.value).isascii():
            element.value = encode_text(str(element.value), charset, element.VR)


def _charset_element(value: str) -> bytes:
    text = encode_string(value, ["ascii"])
    text += b" " * (len(text) % 2)
    return b"\x08\x00\x05\x00CS" + len(text).to_bytes(2, "little") + text


def _pixels(image: Image, *, stored_bits: int, spacing_mm: float) -> dict[str, object]:
    stored = np.clip(np.rint(image), 0, (1 << stored_bits) - 1).astype("<u2")
    return {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": stored.shape[0],
        "Columns": stored.shape[1],
        "PixelSpacing": [f"{spacing_mm:g}"] * 2,
        "BitsAllocated": 16,
        "BitsStored": stored_bits,
        "HighBit": stored_bits - 1,
        "PixelRepresentation": 0,
        "PixelData": stored.tobytes(),
    }


def _place(x_mm: float, z_mm: float, frame_of_reference: str) -> dict[str, object]:
    return {
        "ImagePositionPatient": [f"{x_mm:.2f}", f"{x_mm:.2f}", f"{z_mm:.2f}"],
        "ImageOrientationPatient": AXIAL,
        "SliceLocation": f"{z_mm:.2f}",
        "FrameOfReferenceUID": frame_of_reference,
        "PositionReferenceIndicator": "",
    }


Drawn = list[tuple[Series, Mapping[str, object]]]


def _ct_chest(study: Study, number: int) -> Drawn:
    z, spacing = 104.0 - 5.0 * number, 0.7
    grid = axis(512, spacing)
    hu = thorax.section(grid, grid, z, 5.0, contrast=True)
    thorax.couch(hu, grid, spacing)
    image = {
        "soft": blur(hu, 0.9) + 9 * grain(hu.shape, 1.0, 1000 + number),
        "sharp": hu + 0.9 * (hu - blur(hu, 1.2)) + 26 * grain(hu.shape, 0.5, 2000 + number),
    }
    return [
        (s, {**_ct(image[s.recipe], spacing), **_place(-178.85, z, uid(dt.date.min, study.key))})
        for s in study.series
    ]


def _ct_head(study: Study, number: int) -> Drawn:
    z = -33.0 + 5.0 * number
    image = head.tomography(z, 5.0, 3000 + number)
    return [
        (s, {**_ct(image, 0.45), **_place(-114.98, z, uid(dt.date.min, study.key))})
        for s in study.series
    ]


def _ct(hu: Image, spacing_mm: float) -> dict[str, object]:
    return {
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "AcquisitionNumber": "1",
        "RescaleIntercept": "-1024",
        "RescaleSlope": "1",
        "RescaleType": "HU",
        **_pixels(hu + 1024, stored_bits=12, spacing_mm=spacing_mm),
    }


def _mr_head(study: Study, number: int) -> Drawn:
    z = -32.0 + 6.0 * number
    out: Drawn = []
    for s in study.series:
        tissue = {"T1": head.T1, "T2": head.T2, "FLAIR": head.FLAIR}[s.recipe]
        image = head.magnetic(z, 5.0, tissue, 4000 + 100 * s.number + 2 * number)
        pixels = _pixels(image, stored_bits=12, spacing_mm=0.9)
        place = _place(-114.75, z, uid(dt.date.min, study.key))
        out.append((s, {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"], **pixels, **place}))
    return out


def _dx_chest(study: Study, number: int) -> Drawn:
    pixels = _pixels(
        radiograph.chest(5000 + number), stored_bits=12, spacing_mm=radiograph.PIXEL_MM
    )
    pixels["ImagerPixelSpacing"] = pixels.pop("PixelSpacing")
    return [
        (
            study.series[0],
            {
                "ImageType": ["DERIVED", "PRIMARY"],
                "PresentationIntentType": "FOR PRESENTATION",
                "PatientOrientation": ["L", "F"],
                "PixelIntensityRelationship": "LOG",
                "PixelIntensityRelationshipSign": -1,
                "RescaleIntercept": "0",
                "RescaleSlope": "1",
                "RescaleType": "US",
                "PresentationLUTShape": "IDENTITY",
                "LossyImageCompression": "00",
                "BurnedInAnnotation": "NO",
                "WindowCenter": "1900",
                "WindowWidth": "3700",
                "ImageLaterality": "U",
                **pixels,
            },
        )
    ]


def _us_heart(study: Study, number: int) -> Drawn:
    frames = echo.cine(6000 + number)
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 50, echo.TOP
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 590, 444
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3  # cm, PS3.3 C.8.5.5.1.15
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.1 / echo.PIXELS_PER_MM
    return [
        (
            study.series[0],
            {
                "ImageType": ["ORIGINAL", "PRIMARY"],
                "SamplesPerPixel": 3,
                "PhotometricInterpretation": "YBR_FULL_422",
                "PlanarConfiguration": 0,
                "Rows": echo.HEIGHT,
                "Columns": echo.WIDTH,
                "BitsAllocated": 8,
                "BitsStored": 8,
                "HighBit": 7,
                "PixelRepresentation": 0,
                "NumberOfFrames": len(frames),
                "FrameTime": f"{echo.FRAME_TIME_MS}",
                "FrameIncrementPointer": 0x00181063,
                "CineRate": "30",
                "RecommendedDisplayFrameRate": "30",
                "HeartRate": "72",
                "LossyImageCompression": "01",
                "LossyImageCompressionRatio": "16",
                "LossyImageCompressionMethod": "ISO_10918_1",
                "BurnedInAnnotation": "NO",
                "SequenceOfUltrasoundRegions": [region],
                "PixelData": encapsulate(frames),
            },
        )
    ]


PAINTERS: dict[str, Callable[[Study, int], Drawn]] = {
    "ct_chest": _ct_chest,
    "ct_head": _ct_head,
    "dx_chest": _dx_chest,
    "us_heart": _us_heart,
    "mr_head": _mr_head,
}
