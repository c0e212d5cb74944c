"""What became of the parts of a store request: statuses and failure reasons (PS3.18 10.5.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archive.journal.domain import Outcome, Receipt
from kernel.errors import AppError, Invalid, Unavailable

# PS3.18 Table I.2-2, PS3.4 Table B.2-1
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
PROCESSING_FAILURE = 0x0110


@dataclass(frozen=True, slots=True)
class PartResult:
    """One part of the request. `failure` None means that the instance is stored.

    `comment` says in words why it failed, with the stable code of the reason.
    """

    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    failure: int | None = None
    comment: str = ""


def status_of(results: Sequence[PartResult]) -> int:
    """HTTP status of the answer (PS3.18 Table 10.5.3-1); 503 when only resources were lacking."""
    failures = [result.failure for result in results if result.failure is not None]
    if not failures:
        return 200
    if len(failures) < len(results):
        return 202
    return 503 if all(failure == OUT_OF_RESOURCES for failure in failures) else 409


def from_receipt(receipt: Receipt) -> PartResult:
    """What the archive's answer means to the sender; quarantined bytes were not stored for it."""
    failed = receipt.outcome is Outcome.QUARANTINED
    return PartResult(
        sop_class_uid=receipt.sop_class_uid,
        sop_instance_uid=receipt.sop_instance_uid,
        study_instance_uid=receipt.study_instance_uid,
        series_instance_uid=receipt.series_instance_uid,
        failure=CANNOT_UNDERSTAND if failed else None,
        comment=f"{receipt.reason}: {receipt.detail}" if failed else "",
    )


def from_error(error: AppError, known: PartResult) -> PartResult:
    """A failure of the archive or the reader as a failed part."""
    if isinstance(error, Unavailable):
        failure = OUT_OF_RESOURCES
    elif isinstance(error, Invalid):
        failure = CANNOT_UNDERSTAND
    else:
        failure = PROCESSING_FAILURE
    return failed(known, failure, f"{error.code}: {error}")


def failed(known: PartResult, failure: int, comment: str) -> PartResult:
    """A failed part with what is known of its instance."""
    return PartResult(
        sop_class_uid=known.sop_class_uid,
        sop_instance_uid=known.sop_instance_uid,
        study_instance_uid=known.study_instance_uid,
        series_instance_uid=known.series_instance_uid,
        failure=failure,
        comment=comment,
    )
