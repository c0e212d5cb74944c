"""What a page says about a patient, a study and a series, read from DICOM JSON (PS3.18 F)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

from dicomweb.browse.kinds import WITHOUT_IMAGES
from kernel.i18n.catalog import marked

Dataset = Mapping[str, Any]

_AGE = re.compile(r"(\d{1,3})([DWMY])")
_AGE_UNITS = {
    "D": marked("{count} days old"),
    "W": marked("{count} weeks old"),
    "M": marked("{count} months old"),
    "Y": marked("{count} years old"),
}
_HAN = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff\U00020000-\U000323af]")


@dataclass(frozen=True, slots=True)
class Age:
    """An age as a msgid with `{count}` and its number."""

    msgid: str
    count: int


@dataclass(frozen=True, slots=True)
class PatientFacts:
    """One patient as a study shows it; `name` is read first, `other_name` is its Latin form."""

    name: str
    other_name: str
    patient_id: str
    sex: str
    birth_date: date | None
    age: Age | None


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """One study; `arrived_at` is the time of the last change that the archive knows, in UTC."""

    study_instance_uid: str
    patient: PatientFacts
    description: str
    accession_number: str
    study_date: date | None
    study_time: time | None
    modalities: tuple[str, ...]
    institution: str
    referring_physician: str
    series: int
    instances: int
    arrived_at: datetime | None
    arriving: bool

    @property
    def is_pictured(self) -> bool:
        """Whether a thumbnail can be expected."""
        return not self.modalities or bool(set(self.modalities) - WITHOUT_IMAGES)


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """One series of a study."""

    series_instance_uid: str
    number: str
    modality: str
    description: str
    body_part: str


def values(dataset: Dataset, tag: str) -> list[Any]:
    """The values of `tag` ('GGGGEEEE'); an absent or empty element has none."""
    element = dataset.get(tag) or {}
    return [value for value in element.get("Value") or [] if value not in (None, "")]


def text(dataset: Dataset, tag: str) -> str:
    """The first value of `tag` as text; '' where there is none."""
    found = values(dataset, tag)
    return str(found[0]).strip() if found else ""


def number(dataset: Dataset, tag: str) -> int:
    """The first value of `tag` as a whole number; 0 where there is none."""
    try:
        return int(float(text(dataset, tag) or 0))
    except ValueError:
        return 0


def person_names(dataset: Dataset, tag: str) -> tuple[str, str]:
    """The name to read first (ideographic where there is one) and the other form, or ''."""
    found = values(dataset, tag)
    groups = found[0] if found and isinstance(found[0], Mapping) else {}
    written = _spoken(str(groups.get("Ideographic") or ""))
    latin = _spoken(str(groups.get("Alphabetic") or ""))
    first = written or latin
    return first, latin if latin != first else ""


def _spoken(group: str) -> str:
    """A component group as people write it: 王^小明 is 王小明, Wang^Xiao Ming is Wang Xiao Ming."""
    joint = "" if _HAN.search(group) else " "
    return joint.join(part for part in (piece.strip() for piece in group.split("^")) if part)


def dicom_date(value: str) -> date | None:
    """A DA value (PS3.5 6.2; the old dotted form too), or None where it is no date."""
    digits = value.replace(".", "").replace("-", "")[:8]
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
    except ValueError:
        return None


def dicom_time(value: str) -> time | None:
    """A TM value to the minute, or None where it is no time."""
    digits = value.replace(":", "")
    try:
        return time(int(digits[:2]), int(digits[2:4] or 0))
    except ValueError:
        return None


def age_at(stated: str, born: date | None, day: date | None) -> Age | None:
    """The stated age (AS, PS3.5 6.2), else the one from birth date and study date."""
    match = _AGE.fullmatch(stated.strip())
    if match and int(match[1]):
        return Age(_AGE_UNITS[match[2]], int(match[1]))
    if born is None or day is None or not born <= day:
        return None
    years = day.year - born.year - ((day.month, day.day) < (born.month, born.day))
    if years >= 2:
        return Age(_AGE_UNITS["Y"], years)
    months = (day.year - born.year) * 12 + day.month - born.month - (day.day < born.day)
    if months >= 1:
        return Age(_AGE_UNITS["M"], months)
    return Age(_AGE_UNITS["D"], (day - born).days)


def patient_facts(dataset: Dataset) -> PatientFacts:
    """The patient of a study-level data set."""
    name, other = person_names(dataset, "00100010")
    born = dicom_date(text(dataset, "00100030"))
    day = dicom_date(text(dataset, "00080020"))
    sex = text(dataset, "00100040").upper()
    return PatientFacts(
        name=name,
        other_name=other,
        patient_id=text(dataset, "00100020"),
        sex=sex if sex in {"M", "F"} else "",
        birth_date=born,
        age=age_at(text(dataset, "00101010"), born, day),
    )


def study_facts(
    dataset: Dataset, arrived_at: datetime | None, now: datetime, quiet_s: float
) -> StudyFacts:
    """A study as found by the catalogue; it arrives until it was quiet for `quiet_s` seconds."""
    seen = arrived_at.replace(tzinfo=UTC) if arrived_at and not arrived_at.tzinfo else arrived_at
    return StudyFacts(
        study_instance_uid=text(dataset, "0020000D"),
        patient=patient_facts(dataset),
        description=text(dataset, "00081030"),
        accession_number=text(dataset, "00080050"),
        study_date=dicom_date(text(dataset, "00080020")),
        study_time=dicom_time(text(dataset, "00080030")),
        modalities=tuple(str(value) for value in values(dataset, "00080061")),
        institution=text(dataset, "00080080"),
        referring_physician=person_names(dataset, "00080090")[0],
        series=number(dataset, "00201206"),
        instances=number(dataset, "00201208"),
        arrived_at=seen,
        arriving=seen is not None and (now - seen).total_seconds() < quiet_s,
    )


def series_facts(dataset: Dataset) -> SeriesFacts:
    """A series as found by the catalogue."""
    return SeriesFacts(
        series_instance_uid=text(dataset, "0020000E"),
        number=text(dataset, "00200011"),
        modality=text(dataset, "00080060"),
        description=text(dataset, "0008103E"),
        body_part=text(dataset, "00180015"),
    )
