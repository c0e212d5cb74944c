"""Instances for the archive's tests, made by pydicom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from archive.journal.domain import Identity, Origin

ROOT = "1.2.826.0.1.3680043.10.999.77"
ORIGIN = Origin(1, "dimse", "CT_ROOM1", "127.0.0.1", "YUNYING")


@dataclass(frozen=True, slots=True)
class Made:
    """An encoded data set with what a sender announces about it."""

    identity: Identity
    data: bytes
    study: str
    series: str


def uid(*parts: int) -> str:
    """A UID below the tests' own root."""
    return ".".join([ROOT, *map(str, parts)])


def make(
    study: int = 1, series: int = 1, number: int = 1, *, side: int = 16, seed: int = 0, **more: Any
) -> Made:
    """A small CT instance; `more` are attributes by keyword, None leaves one out."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = uid(study, series, number)
    ds.StudyDate = f"202403{study % 28 + 1:02d}"
    ds.StudyTime = "081500"
    ds.AccessionNumber = f"A{study:05d}"
    ds.Modality = "CT"
    ds.StudyDescription = "胸部CT平扫"
    ds.PatientName = "Yang^XiuYing=杨^秀英"
    ds.PatientID = f"P{study:05d}"
    ds.PatientBirthDate = "19700101"
    ds.PatientSex = "F"
    ds.StudyInstanceUID = uid(study)
    ds.SeriesInstanceUID = uid(study, series)
    ds.SeriesNumber = series
    ds.InstanceNumber = number
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows = ds.Columns = side
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 0
    rng = np.random.default_rng([study, series, number, seed])
    ds.PixelData = rng.integers(0, 4096, (side, side), dtype=np.uint16).tobytes()
    ds["PixelData"].VR = "OW"
    for keyword, value in more.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    named = ds.get("SOPInstanceUID", "")
    identity = Identity(str(ds.get("SOPClassUID", "")), str(named), ExplicitVRLittleEndian)
    return Made(identity, encode(ds), str(ds.get("StudyInstanceUID", "")), uid(study, series))


def encode(ds: Dataset, *, implicit: bool = False, little: bool = True) -> bytes:
    """A data set's bytes without preamble and group 2."""
    out = DicomBytesIO()
    out.is_implicit_VR = implicit
    out.is_little_endian = little
    write_dataset(out, ds)
    return bytes(out.getvalue())
