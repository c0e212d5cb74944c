"""Rules of C-MOVE and C-GET: unique keys, progress, contexts (PS3.4 C.4.2, C.4.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from archive.query.domain import Level
from archive.retrieve.domain import StoredInstance
from dataset.encode import Identifier, encode
from gateway.dimse.command import COMPLETED, FAILED, REMAINING, WARNING
from gateway.dimse.status import (
    CANCELLED,
    SUB_OPERATIONS_WARNING,
    SUCCESS,
    UNABLE_TO_PERFORM,
)
from gateway.find.domain import level_of
from gateway.upper_layer.pdu import ProposedContext
from gateway.upper_layer.sop_classes import EXPLICIT_LE, IMPLICIT_LE, Root
from kernel.errors import Invalid

# PS3.4 C.6.1.1 and C.6.2.1: the unique key of each level.
UNIQUE_KEYS: dict[Level, int] = {
    "PATIENT": 0x00100020,
    "STUDY": 0x0020000D,
    "SERIES": 0x0020000E,
    "IMAGE": 0x00080018,
}
UNCOMPRESSED = (EXPLICIT_LE, IMPLICIT_LE)
MOST_CONTEXTS = 128  # PS3.8 9.3.2.2: odd numbers of one byte
MOST_FAILED_UIDS = 900  # as many as an explicit VR UI of 64 KiB surely holds


@dataclass(frozen=True, slots=True)
class Wanted:
    """The unique keys of an identifier, those at and above its level."""

    patient_id: str | None
    study_uids: tuple[str, ...]
    series_uids: tuple[str, ...]
    sop_uids: tuple[str, ...]


def wanted(identifier: Identifier, root: Root) -> Wanted:
    """What to send.

    Raises:
        Invalid: ``query.level`` for a level that the model does not have or whose unique key is
            missing (A900H: the identifier does not match the SOP class).
    """
    level = level_of(identifier, root)
    order: tuple[Level, ...] = ("PATIENT", "STUDY", "SERIES", "IMAGE")
    values: dict[Level, tuple[str, ...]] = dict.fromkeys(order, ())
    for one in order[: order.index(level) + 1]:
        text = identifier.get(UNIQUE_KEYS[one], "")
        parts = text.split("\\") if isinstance(text, str) else []
        values[one] = tuple(part.strip() for part in parts if part.strip())
    if not values[level]:
        tag = UNIQUE_KEYS[level]
        raise Invalid(
            "query.level",
            "level {level} needs ({group},{element})",
            level=level,
            group=f"{tag >> 16:04X}",
            element=f"{tag & 0xFFFF:04X}",
        )
    patient = values["PATIENT"]
    return Wanted(
        patient[0] if patient else None, values["STUDY"], values["SERIES"], values["IMAGE"]
    )


@dataclass(slots=True)
class Progress:
    """The numbers of sub-operations (PS3.7 Table 9.1-3)."""

    remaining: int
    completed: int = 0
    warning: int = 0
    failed: list[str] = field(default_factory=list)
    studies: dict[str, tuple[int, int]] = field(default_factory=dict)  # sent and failed

    def count(self, instance: StoredInstance, status: int | None) -> None:
        """One sub-operation ended with a C-STORE status; None means it could not be sent."""
        self.remaining -= 1
        sent, failed = self.studies.get(instance.study_instance_uid, (0, 0))
        if status == SUCCESS:
            self.completed += 1
            sent += 1
        elif status is not None and (status >> 12 == 0xB or status in (0x0001, 0x0107, 0x0116)):
            self.warning += 1
            sent += 1
        else:
            self.failed.append(instance.sop_instance_uid)
            failed += 1
        self.studies[instance.study_instance_uid] = (sent, failed)

    def fail(self, instances: Iterable[StoredInstance]) -> None:
        """None of these can be sent."""
        for one in instances:
            self.count(one, None)

    def counters(self, *, remaining: bool) -> list[tuple[int, int]]:
        """Command elements in ascending order; a final response has no Remaining."""
        head = [(REMAINING, self.remaining)] if remaining else []
        return [
            *head,
            (COMPLETED, self.completed),
            (FAILED, len(self.failed)),
            (WARNING, self.warning),
        ]

    def final_status(self, *, cancelled: bool) -> int:
        """PS3.4 Table C.4-2."""
        if cancelled:
            return CANCELLED
        if not self.failed and not self.warning:
            return SUCCESS
        if not self.completed and not self.warning:
            return UNABLE_TO_PERFORM
        return SUB_OPERATIONS_WARNING

    def failed_list(self, *, implicit: bool) -> bytes | None:
        """The data set of a final response: Failed SOP Instance UID List (0008,0058)."""
        if not self.failed:
            return None
        told = {"00080058": {"vr": "UI", "Value": self.failed[:MOST_FAILED_UIDS]}}
        return encode(told, implicit=implicit, charset="")


def batches(instances: Iterable[StoredInstance]) -> Iterator[list[StoredInstance]]:
    """Instances in their order, cut where one association would need more than 128 contexts."""
    batch: list[StoredInstance] = []
    keys: set[tuple[str, str]] = set()
    for one in instances:
        needed = {(one.sop_class_uid, one.transfer_syntax_uid), (one.sop_class_uid, "")}
        if batch and len(keys | needed) > MOST_CONTEXTS:
            yield batch
            batch, keys = [], set()
        keys |= needed
        batch.append(one)
    if batch:
        yield batch


def contexts_for(batch: Iterable[StoredInstance]) -> tuple[ProposedContext, ...]:
    """One context for each (SOP class, stored syntax), one uncompressed for each SOP class."""
    pairs: dict[tuple[str, tuple[str, ...]], None] = {}
    for one in batch:
        pairs[one.sop_class_uid, (one.transfer_syntax_uid,)] = None
    for sop_class, _ in list(pairs):
        pairs[sop_class, UNCOMPRESSED] = None
    return tuple(
        ProposedContext(2 * index + 1, sop_class, syntaxes)
        for index, (sop_class, syntaxes) in enumerate(pairs)
    )
