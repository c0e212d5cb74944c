"""A series as stacks that a person scrolls through.

Single-frame images of a series form one stack; each multi-frame object (an ultrasound clip, an
enhanced CT) is a stack of its frames; each object without an image stands alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from archive.retrieve.domain import StoredInstance
from dicomweb.browse.facts import SeriesFacts
from dicomweb.browse.kinds import OTHER, Kind, kind_of


@dataclass(frozen=True, slots=True)
class Stack:
    """What one tile of the series strip opens.

    `key` is unique in the study: the SOP Instance UID of what stands alone, else the series' UID.
    """

    key: str
    shape: Literal["images", "frames", "object"]
    count: int
    kind: Kind | None = None


@dataclass(frozen=True, slots=True)
class SeriesStacks:
    """One series with its stacks."""

    facts: SeriesFacts
    stacks: list[Stack] = field(default_factory=list)


def group_by_series(instances: Iterable[StoredInstance]) -> dict[str, list[StoredInstance]]:
    """Instances by Series Instance UID, in the order in which they come."""
    series: dict[str, list[StoredInstance]] = {}
    for instance in instances:
        series.setdefault(instance.series_instance_uid, []).append(instance)
    return series


def is_image(instance: StoredInstance) -> bool:
    """Whether frames of it can be asked for: it has rows and columns, and is of no other kind."""
    return bool(instance.rows and instance.columns) and kind_of(instance.sop_class_uid) is None


def series_stacks(facts: SeriesFacts, instances: Sequence[StoredInstance]) -> SeriesStacks:
    """The stacks of one series: the single images first, then clips, then other objects."""
    images = [each for each in instances if is_image(each)]
    singles = [each for each in images if each.frames <= 1]
    found = SeriesStacks(facts)
    if singles:
        found.stacks.append(Stack(facts.series_instance_uid, "images", len(singles)))
    for each in images:
        if each.frames > 1:
            found.stacks.append(Stack(each.sop_instance_uid, "frames", each.frames))
    for each in instances:
        if not is_image(each):
            kind = kind_of(each.sop_class_uid) or OTHER
            found.stacks.append(Stack(each.sop_instance_uid, "object", 1, kind))
    return found


def stack_data(instances: Sequence[StoredInstance], key: str) -> list[dict[str, Any]]:
    """The members of the stack `key` for the viewer, one entry for each object, in order."""
    alone = [each for each in instances if each.sop_instance_uid == key]
    members = alone or [each for each in instances if is_image(each) and each.frames <= 1]
    return [
        {
            "uid": each.sop_instance_uid,
            "number": each.instance_number,
            "frames": max(each.frames, 1),
            "rows": each.rows or 0,
            "columns": each.columns or 0,
        }
        for each in members
    ]
