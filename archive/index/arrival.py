"""An instance on its way into the index: what the scanner found, made into index values."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from archive.index.values import (
    PATIENT_TAGS,
    SERIES_TAGS,
    STUDY_TAGS,
    charsets_of,
    json_attributes,
    number_of,
    text_of,
    uid_of,
)
from dataset.refs import parse_uid
from kernel.errors import Invalid

if TYPE_CHECKING:
    from archive.journal.domain import Identity, Origin
    from archive.journal.segment import Segment
    from dataset.scanner import ScanResult

# What all instances of a series agree on; compared as sent, decoded only where they differ.
_FINGERPRINT = (0x00100020, 0x00100010, 0x00100030, 0x00100040, 0x00080060)


@dataclass(slots=True)
class Arrival:
    """One received instance between its append to the journal and its index row.

    `byte_offset` and `byte_length` place its Part 10 file in `segment`. `reason` is None for an
    instance that can be indexed, else the stable code of why it goes to quarantine. `order` ranks
    instances received in the same millisecond when they are indexed again.
    """

    origin: Origin
    received_ms: int
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    segment: Segment = field(init=False)
    byte_offset: int = 0
    byte_length: int = 0
    checksum: bytes = b""
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    values: dict[int, bytes] = field(default_factory=dict)
    requests: list[dict[int, bytes]] = field(default_factory=list)
    little_endian: bool = True
    reason: str | None = None
    detail: str = ""
    order: int = 0

    @property
    def fingerprint(self) -> tuple[bytes | None, ...]:
        """The values that all instances of a series share, as sent."""
        get = self.values.get
        return tuple([get(tag) for tag in _FINGERPRINT])

    def number(self, tag: int) -> int | None:
        """The first value of an integer element (IS, US, UL), None where absent or unreadable."""
        return number_of(tag, self.values.get(tag), little_endian=self.little_endian)

    def text(self, tag: int) -> str:
        """The decoded text of an element, '' where absent."""
        return text_of(tag, self.values.get(tag), charsets_of(self.values))

    def date(self, tag: int) -> str:
        """The first value of a DA element as YYYYMMDD; the old form with dots too (PS3.5 6.2)."""
        return self.text(tag).partition("\\")[0].replace(".", "").strip()

    def time(self, tag: int) -> str:
        """The first value of a TM element as HHMMSS.F; the old form with colons too."""
        return self.text(tag).partition("\\")[0].replace(":", "").strip()

    def study_attributes(self) -> str:
        """Patient and study level attributes as DICOM JSON text."""
        return self._json(PATIENT_TAGS | STUDY_TAGS)

    def patient_attributes(self) -> str:
        """Patient level attributes as DICOM JSON text."""
        return self._json(PATIENT_TAGS)

    def series_attributes(self) -> str:
        """Series level attributes as DICOM JSON text."""
        return self._json(SERIES_TAGS, self.requests)

    def _json(self, tags: frozenset[int], requests: list[dict[int, bytes]] | None = None) -> str:
        found: dict[str, Any] = json_attributes(self.values, tags, requests or [])
        return json.dumps(found, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Identified:
    """The UIDs an instance is indexed under."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str


def identify(scan: ScanResult, announced: Identity, *, binding: bool) -> Identified:
    """The UIDs in `scan`; what the data set does not say is taken from what was announced.

    Raises `Invalid` with the code that the quarantine shows where a UID is missing or malformed,
    and where the announcement is `binding` (C-STORE, PS3.4 B.2.3: "Data Set does not match SOP
    Class") also where it differs. The file meta information of a stored file binds nobody: where
    it differs the data set is right.
    """
    values = scan.values
    sop_instance_uid = uid_of(values.get(0x00080018)) or announced.sop_instance_uid
    sop_class_uid = uid_of(values.get(0x00080016)) or announced.sop_class_uid
    found = Identified(
        sop_class_uid,
        sop_instance_uid,
        uid_of(values.get(0x0020000D)),
        uid_of(values.get(0x0020000E)),
    )
    for uid, name, tag, code in (
        (sop_class_uid, "SOP Class UID", "(0008,0016)", "sop_class_uid"),
        (sop_instance_uid, "SOP Instance UID", "(0008,0018)", "sop_instance_uid"),
        (found.study_instance_uid, "Study Instance UID", "(0020,000D)", "study_instance_uid"),
        (found.series_instance_uid, "Series Instance UID", "(0020,000E)", "series_instance_uid"),
    ):
        if not uid:
            raise Invalid(f"instance.{code}.missing", "{name} {tag} is missing", name=name, tag=tag)
        try:
            parse_uid(uid)
        except Invalid as error:
            raise Invalid(
                f"instance.{code}.invalid",
                "{name} {tag} is not a UID: {value}",
                name=name,
                tag=tag,
                value=uid[:64],
            ) from error
    if not binding:
        return found
    if announced.sop_instance_uid and announced.sop_instance_uid != sop_instance_uid:
        raise Invalid(
            "instance.sop_instance_uid.mismatch",
            "the data set holds SOP Instance UID {found}, announced was {announced}",
            found=sop_instance_uid,
            announced=announced.sop_instance_uid,
        )
    if announced.sop_class_uid and announced.sop_class_uid != sop_class_uid:
        raise Invalid(
            "instance.sop_class_uid.mismatch",
            "the data set holds SOP Class UID {found}, announced was {announced}",
            found=sop_class_uid,
            announced=announced.sop_class_uid,
        )
    return found
