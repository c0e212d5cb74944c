"""Studies that the study browser is tested with: a CT, an MR, an ultrasound clip and a report."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import BasicTextSRStorage, MRImageStorage, UltrasoundMultiFrameImageStorage

from tests.dicomweb.material import dataset, set_pixels

CT, MR, US, SR = 41, 42, 43, 44
SLICES = 8
FRAMES = 6


def ct_slice(number: int) -> Dataset:
    """A slice with a bright square that moves from slice to slice; its window is 400 / 40."""
    ds = dataset(CT, 1, number, SpecificCharacterSet="GB18030", PatientAge="045Y", PatientSex="M")
    ds.PatientName = "Wang^Xiaoming=王^小明"
    ds.InstitutionName = "凯里市第一人民医院"
    stored = np.full((64, 64), 1064, dtype=np.uint16)
    stored[8 + number * 4 : 24 + number * 4, 20:44] = 1204
    set_pixels(ds, stored)
    ds.RescaleSlope, ds.RescaleIntercept = "1", "-1024"
    ds.WindowCenter, ds.WindowWidth = "40", "400"
    ds.PixelSpacing = ["0.7", "0.7"]
    ds.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    ds.ImagePositionPatient = ["0", "0", str(number * 5)]
    ds.SliceThickness = "5"
    return ds


def mr_image() -> Dataset:
    """One MR image of another patient."""
    return dataset(
        MR,
        SOPClassUID=MRImageStorage,
        Modality="MR",
        PatientName="Shan^Xiaomei=单^晓梅",
        StudyDescription="头颅MR平扫",
    )


def us_clip() -> Dataset:
    """A clip of some frames, each of another grey."""
    ds = dataset(
        US,
        SOPClassUID=UltrasoundMultiFrameImageStorage,
        Modality="US",
        PatientName="Shi^Lanhua=石^兰花",
        StudyDescription="心脏彩超",
    )
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    frames = [np.full((48, 64), 20 + 40 * number, dtype=np.uint8) for number in range(FRAMES)]
    set_pixels(ds, np.stack(frames))
    ds["PixelData"].VR = "OB"
    ds.NumberOfFrames = FRAMES
    ds.FrameTime = "50"
    return ds


def report() -> Dataset:
    """A structured report with one sentence."""
    ds = dataset(SR, SOPClassUID=BasicTextSRStorage, Modality="SR", StudyDescription="报告")
    ds.PatientName = "Pan^Zhiqiang=潘^志强"
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"):
        delattr(ds, keyword)
    ds.ValueType = "CONTAINER"
    ds.ConceptNameCodeSequence = Sequence([_code("18782-3", "LN", "放射学报告")])
    sentence = Dataset()
    sentence.RelationshipType = "CONTAINS"
    sentence.ValueType = "TEXT"
    sentence.ConceptNameCodeSequence = Sequence([_code("121071", "DCM", "所见")])
    sentence.TextValue = "两肺纹理清晰，未见异常。"
    ds.ContentSequence = Sequence([sentence])
    return ds


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def every_study() -> list[Dataset]:
    """All of the above."""
    slices = [ct_slice(number) for number in range(1, SLICES + 1)]
    return [*slices, mr_image(), us_clip(), report()]
