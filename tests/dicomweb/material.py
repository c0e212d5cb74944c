"""Small DICOM files for the tests of this package, made by pydicom."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

ROOT = "1.2.826.0.1.3680043.10.999.78"
ELE = str(ExplicitVRLittleEndian)


def uid(*parts: int) -> str:
    """A UID below the tests' own root."""
    return ".".join([ROOT, *map(str, parts)])


def dataset(study: int = 1, series: int = 1, number: int = 1, **more: Any) -> Dataset:
    """A CT instance of 16 x 16 pixels; `more` are attributes by keyword, None leaves one out."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = uid(study, series, number)
    ds.StudyDate = f"202403{study % 28 + 1:02d}"
    ds.StudyTime = "081500"
    ds.AccessionNumber = f"A{study:05d}"
    ds.Modality = "CT"
    ds.StudyDescription = "胸部CT平扫"
    ds.SeriesDescription = f"series {series}"
    ds.PatientName = "Yang^XiuYing=杨^秀英"
    ds.PatientID = f"P{study:05d}"
    ds.PatientSex = "F"
    ds.StudyInstanceUID = uid(study)
    ds.SeriesInstanceUID = uid(study, series)
    ds.SeriesNumber = series
    ds.InstanceNumber = number
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 0
    set_pixels(ds, pixels(study, series, number))
    for keyword, value in more.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def pixels(*seed: int, side: int = 16) -> NDArray[np.uint16]:
    """Random 12-bit pixels."""
    return np.random.default_rng(seed).integers(0, 4096, (side, side), dtype=np.uint16)


def set_pixels(ds: Dataset, array: NDArray[Any]) -> None:
    """Put native pixel data and its size into a data set; a first axis of frames is allowed."""
    ds.Rows, ds.Columns = array.shape[-2:] if ds.SamplesPerPixel == 1 else array.shape[-3:-1]
    ds.PixelData = array.tobytes()
    ds["PixelData"].VR = "OW"


def file(ds: Dataset, transfer_syntax_uid: str = ELE, *, preamble: bool = True) -> bytes:
    """A DICOM file; without preamble it begins with group 0002."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", "1.2")
    ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID", "1.2")
    ds.file_meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    out = io.BytesIO()
    dcmwrite(out, ds, enforce_file_format=True)
    whole = out.getvalue()
    return whole if preamble else whole[132:]


def path(study: int = 1, series: int | None = None, number: int | None = None) -> str:
    """The path of a resource below the DICOMweb root."""
    text = f"/studies/{uid(study)}"
    if series is not None:
        text += f"/series/{uid(study, series)}"
    if number is not None:
        text += f"/instances/{uid(study, series or 1, number)}"
    return text
