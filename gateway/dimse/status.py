"""Statuses of the C-services: PS3.7 Annex C, PS3.4 Annex B.2.3, C.4.1.1.4, C.4.2.1.5, C.4.3.1.4."""

from __future__ import annotations

from kernel.errors import AppError, Denied, Invalid, NotFound, Unavailable

SUCCESS = 0x0000
PENDING = 0xFF00
PENDING_UNSUPPORTED_KEYS = 0xFF01
CANCELLED = 0xFE00

# PS3.7 C.4 and C.5
NOT_AUTHORIZED = 0x0124
NO_SUCH_SOP_CLASS = 0x0118
SOP_CLASS_NOT_SUPPORTED = 0x0122
INVALID_SOP_INSTANCE = 0x0117
UNRECOGNIZED_OPERATION = 0x0211
MISTYPED_ARGUMENT = 0x0212
PROCESSING_FAILURE = 0x0110

# PS3.4 Tables B.2-1, C.4-1, C.4-2, C.4-3
OUT_OF_RESOURCES = 0xA700
UNABLE_TO_COUNT = 0xA701
UNABLE_TO_PERFORM = 0xA702
MOVE_DESTINATION_UNKNOWN = 0xA801
DOES_NOT_MATCH = 0xA900
UNABLE_TO_PROCESS = 0xC000
SUB_OPERATIONS_WARNING = 0xB000

# The class of an error -> status; a code in _BY_CODE says it more exactly.
_BY_CLASS: tuple[tuple[type[AppError], int], ...] = (
    (Unavailable, OUT_OF_RESOURCES),
    (Denied, NOT_AUTHORIZED),
    (Invalid, UNABLE_TO_PROCESS),
    (NotFound, UNABLE_TO_PROCESS),
    (AppError, PROCESSING_FAILURE),
)
_BY_CODE = {
    "instance.sop_class_uid.mismatch": DOES_NOT_MATCH,
    "instance.sop_instance_uid.mismatch": DOES_NOT_MATCH,
    "query.level": DOES_NOT_MATCH,
}


def status_of(error: AppError) -> int:
    """The DIMSE status that tells of an error."""
    found = _BY_CODE.get(error.code)
    if found is not None:
        return found
    return next(status for kind, status in _BY_CLASS if isinstance(error, kind))


def status_of_reason(reason: str) -> int:
    """The status of a C-STORE whose instance was kept aside, from the receipt's reason."""
    return _BY_CODE.get(reason, UNABLE_TO_PROCESS)
