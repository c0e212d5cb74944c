"""What kinds of objects a series can hold, in words: images, and objects without an image.

SOP classes are those of PS3.4 B.5. Words are English msgids.
"""

from dataclasses import dataclass
from typing import Literal

from kernel.i18n.catalog import marked


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object that is no image: its name, what to know about it, how it can be shown."""

    name: str
    explanation: str
    shows: Literal["", "report", "document"] = ""


_STORAGE = "1.2.840.10008.5.1.4.1.1."
_NOTHING_TO_SHOW = marked("It holds no image. It is kept complete and can be downloaded.")

KINDS: dict[str, Kind] = {
    "88.59": Kind(
        marked("Key object selection"),
        marked("A list of images that somebody marked as important, with a reason."),
        "report",
    ),
    "88.67": Kind(
        marked("Radiation dose report"),
        marked("The dose of each irradiation, written by the device as a structured report."),
        "report",
    ),
    "88.": Kind(
        marked("Structured report"),
        marked("Findings or measurements as coded text."),
        "report",
    ),
    "104.1": Kind(
        marked("PDF document"),
        marked("A document that was stored inside the study."),
        "document",
    ),
    "104.2": Kind(marked("CDA document"), marked("A document that was stored inside the study.")),
    "104.": Kind(marked("3D model"), _NOTHING_TO_SHOW),
    "11.": Kind(
        marked("Presentation state"),
        marked("How somebody set up images of this study: window, zoom, marks."),
    ),
    "9.": Kind(marked("Waveform"), marked("Curves over time, for example an electrocardiogram.")),
    "481.3": Kind(
        marked("Radiotherapy structures"),
        marked("Outlines of organs and targets for radiotherapy planning."),
    ),
    "481.5": Kind(marked("Radiotherapy plan"), _NOTHING_TO_SHOW),
    "481.8": Kind(marked("Radiotherapy plan"), _NOTHING_TO_SHOW),
    "66.1": Kind(marked("Spatial registration"), _NOTHING_TO_SHOW),
    "66.3": Kind(marked("Spatial registration"), _NOTHING_TO_SHOW),
    "66.5": Kind(marked("Surface segmentation"), _NOTHING_TO_SHOW),
    "66": Kind(marked("Raw data"), marked("Unprocessed data of the device.")),
    "67": Kind(marked("Value mapping"), _NOTHING_TO_SHOW),
    "4.2": Kind(
        marked("MR spectroscopy"), marked("Spectra instead of pixels; they need a special program.")
    ),
}
OTHER = Kind(marked("Object without an image"), _NOTHING_TO_SHOW)

MODALITIES: dict[str, str] = {
    "CT": marked("Computed tomography"),
    "MR": marked("Magnetic resonance"),
    "CR": marked("Computed radiography"),
    "DX": marked("Digital radiography"),
    "MG": marked("Mammography"),
    "US": marked("Ultrasound"),
    "XA": marked("Angiography"),
    "RF": marked("Fluoroscopy"),
    "NM": marked("Nuclear medicine"),
    "PT": marked("Positron emission tomography"),
    "ES": marked("Endoscopy"),
    "OP": marked("Ophthalmic photography"),
    "SM": marked("Slide microscopy"),
    "SC": marked("Secondary capture"),
    "OT": marked("Other"),
}

WITHOUT_IMAGES = frozenset(
    {
        "SR",
        "KO",
        "PR",
        "DOC",
        "REG",
        "FID",
        "HC",
        "PLAN",
        "RTPLAN",
        "RTSTRUCT",
        "RTRECORD",
        "AU",
        "ECG",
        "EPS",
        "EEG",
        "EMG",
        "EOG",
        "HD",
        "RESP",
        "RWV",
        "SMR",
        "STAIN",
        "TEXTUREMAP",
        "M3D",
        "ANN",
        "ASMT",
    }
)
"""Modalities (PS3.3 C.7.3.1.1.1) whose objects are no images: no thumbnail is asked for."""

CHIPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ct": (marked("CT"), ("CT",)),
    "mr": (marked("MR"), ("MR",)),
    "xray": (marked("X-ray"), ("CR", "DX")),
    "us": (marked("Ultrasound"), ("US",)),
    "mg": (marked("Breast"), ("MG",)),
    "xa": (marked("Vessels"), ("XA", "RF")),
    "nm": (marked("Nuclear"), ("NM", "PT")),
}
"""Filter chips: the word on it and the modalities (PS3.3 C.7.3.1.1.1) that it means."""


def kind_of(sop_class_uid: str) -> Kind | None:
    """The kind of an object that is no image by its SOP class, or None where it may be one."""
    rest = sop_class_uid.removeprefix(_STORAGE)
    if rest == sop_class_uid:
        return None
    if rest in KINDS:
        return KINDS[rest]
    longest = [prefix for prefix in KINDS if prefix.endswith(".") and rest.startswith(prefix)]
    return KINDS[max(longest, key=len)] if longest else None
