"""Names of a study, a series and an instance: parsed once at each edge, then passed as values.

A UID is written by the standard as numbers and dots (PS3.5 9.1). Real archives also hold UIDs that
anonymisers made of letters, and such an instance has to be found again: `parse` accepts 1 to 128
letters, digits, dots, hyphens and underscores and refuses everything else (paths, wildcards, lists,
blanks). `strict_uid` says whether a UID is of the standard's form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kernel.errors import Invalid

_TOLERATED = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}\Z")
_STRICT = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*\Z")


def strict_uid(value: str) -> bool:
    """True where `value` is a UID as PS3.5 9.1 has it: up to 64 characters, no leading zeros."""
    return len(value) <= 64 and _STRICT.match(value) is not None


def parse_uid(value: str) -> str:
    """Return `value` without its padding; raise `Invalid('uid.invalid')` where it cannot name an
    object.
    """
    uid = value.strip(" \0")
    if _TOLERATED.match(uid) is None:
        raise Invalid(
            "uid.invalid",
            "“{value}” is not a UID: 1 to 64 digits and dots were expected.",
            value=value[:80],
        )
    return uid


@dataclass(frozen=True, slots=True)
class StudyRef:
    """A study by its Study Instance UID (0020,000D)."""

    study_instance_uid: str

    @classmethod
    def parse(cls, study_instance_uid: str) -> StudyRef:
        """Check the UID; raises `Invalid('uid.invalid', value=…)`."""
        return cls(parse_uid(study_instance_uid))

    def __str__(self) -> str:
        return self.study_instance_uid


@dataclass(frozen=True, slots=True)
class SeriesRef:
    """A series in its study, by Series Instance UID (0020,000E)."""

    study: StudyRef
    series_instance_uid: str

    @classmethod
    def parse(cls, study_instance_uid: str, series_instance_uid: str) -> SeriesRef:
        """Check both UIDs; raises `Invalid('uid.invalid', value=…)`."""
        return cls(StudyRef.parse(study_instance_uid), parse_uid(series_instance_uid))

    @property
    def study_instance_uid(self) -> str:
        return self.study.study_instance_uid

    def __str__(self) -> str:
        return f"{self.study}/{self.series_instance_uid}"


@dataclass(frozen=True, slots=True)
class InstanceRef:
    """An instance in its series, by SOP Instance UID (0008,0018)."""

    series: SeriesRef
    sop_instance_uid: str

    @classmethod
    def parse(
        cls, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str
    ) -> InstanceRef:
        """Check the three UIDs; raises `Invalid('uid.invalid', value=…)`."""
        return cls(
            SeriesRef.parse(study_instance_uid, series_instance_uid), parse_uid(sop_instance_uid)
        )

    @property
    def study(self) -> StudyRef:
        return self.series.study

    @property
    def study_instance_uid(self) -> str:
        return self.series.study.study_instance_uid

    @property
    def series_instance_uid(self) -> str:
        return self.series.series_instance_uid

    def __str__(self) -> str:
        return f"{self.series}/{self.sop_instance_uid}"
