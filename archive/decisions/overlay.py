"""What the decisions about a study add up to: corrections, rejections, a hold, chosen versions.

Pure. The stored bytes and the rows of what was received say the rest. Whatever is decided about a
study, a series or an instance ends when that is deleted: what comes again later is new.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from archive.decisions.domain import (
    CHOOSE,
    CLASSIFY,
    CORRECT,
    DELETE,
    HOLD,
    REJECT,
    RELEASE,
    RESTORE,
    Decision,
)
from archive.index.values import PATIENT_TAGS, SERIES_TAGS, STUDY_TAGS
from dataset.syntax import tag_text
from kernel.errors import Conflict, Invalid
from kernel.i18n.catalog import marked

Place = tuple[str, str]
"""Series and SOP Instance UID; '' and '' is the whole study."""

STUDY: Place = ("", "")

# Identity and pixels are what an instance is, not what is said of it (PS3.3 C.12.1, C.7.6.3); the
# character set follows the text.
_NEVER = frozenset(
    {
        0x00080005,
        0x00080016,
        0x00080018,
        0x0020000D,
        0x0020000E,
        0x00200052,
        0x00080008,
        0x04000561,
    }
)
_NEVER_GROUPS = frozenset({0x0000, 0x0002, 0x0028, 0x7FE0, 0xFFFA, 0xFFFC, 0xFFFE})
_WINDOW = frozenset({0x00281050, 0x00281051, 0x00281055})  # how pixels are shown at first


# What cannot be decided twice, or not yet, and why.
REFUSALS = {
    DELETE: ("study.held", marked("the study is under a legal hold: {reason}")),
    REJECT: ("decision.rejected_already", marked("it is rejected already")),
    RESTORE: ("decision.not_rejected", marked("it is not rejected")),
    HOLD: ("decision.held_already", marked("the study is under a legal hold already: {reason}")),
    RELEASE: ("decision.not_held", marked("the study is under no legal hold")),
}


@dataclass(slots=True)
class Overlay:
    """How a study is shown; each part by place."""

    corrections: dict[Place, dict[str, Any]] = field(default_factory=dict)
    rejected: dict[Place, Decision] = field(default_factory=dict)
    chosen: dict[Place, tuple[int, int]] = field(default_factory=dict)
    held: Decision | None = None
    sensitivity: tuple[str, ...] = ()
    corrected_ms: int = 0

    def changes(self, series_uid: str, sop_uid: str) -> dict[str, Any]:
        """The corrected attributes of an instance: its own, its series', its study's."""
        found: dict[str, Any] = {}
        for place in (STUDY, (series_uid, ""), (series_uid, sop_uid)):
            found |= self.corrections.get(place, {})
        return found

    def end(self, gone: Decision) -> None:
        """A deletion ends what was decided about what it took away."""
        detail = gone.detail
        if detail.get("gone") or not gone.series_instance_uid:
            self.corrections, self.rejected, self.chosen = {}, {}, {}
            self.sensitivity = ()
            return
        series = {*detail.get("series", ())}
        if not gone.sop_instance_uid:
            series.add(gone.series_instance_uid)
        place = (gone.series_instance_uid, gone.sop_instance_uid)
        for part in (self.corrections, self.rejected, self.chosen):
            for key in [key for key in part if key[0] in series or key == place]:
                del part[key]


def fold(decisions: Iterable[Decision]) -> Overlay:
    """What the decisions about one study, in the order of deciding, add up to."""
    found = Overlay()
    for made in decisions:
        place = (made.series_instance_uid, made.sop_instance_uid)
        if made.kind == DELETE:
            found.end(made)
        elif made.kind == CORRECT:
            _correct(found, place, made)
        elif made.kind == REJECT:
            found.rejected[place] = made
        elif made.kind == RESTORE:
            found.rejected.pop(place, None)
        elif made.kind in (HOLD, RELEASE):
            found.held = made if made.kind == HOLD else None
        elif made.kind == CLASSIFY:
            found.sensitivity = tuple(made.detail["kinds"])
        elif made.kind == CHOOSE:
            found.chosen.pop(place, None)
            if made.detail["version"]:
                received_ms, length = made.detail["version"]
                found.chosen[place] = (received_ms, length)
    return found


def _correct(found: Overlay, place: Place, made: Decision) -> None:
    now = found.corrections.setdefault(place, {})
    for tag, attribute in made.detail["attributes"].items():
        now.pop(tag, None)
        if attribute is not None:
            now[tag] = attribute
    if not now:
        del found.corrections[place]
    found.corrected_ms = max(found.corrected_ms, made.decided_ms)


def check(overlay: Overlay, made: Decision) -> None:
    """Whether a decision may be taken now. Raises `Conflict` and `Invalid` with the reason."""
    place = (made.series_instance_uid, made.sop_instance_uid)
    rejected = place in overlay.rejected
    held = overlay.held is not None
    refused = {
        DELETE: held,
        REJECT: rejected,
        RESTORE: not rejected,
        HOLD: held,
        RELEASE: not held,
    }
    if refused.get(made.kind):
        code, words = REFUSALS[made.kind]
        raise Conflict(code, words, reason=overlay.held.reason if overlay.held else "")
    if made.kind == CORRECT:
        check_attributes(place, made.detail["attributes"])


def check_attributes(place: Place, attributes: Mapping[str, Any]) -> None:
    """Whether these attributes can be corrected there.

    What all instances of a study or series share is corrected for all of them. Raises `Invalid`
    (``correct.attribute``, ``correct.level``, ``correct.nothing``).
    """
    if not attributes:
        raise Invalid("correct.nothing", "no attribute is named")
    level = "study" if place == STUDY else "instance" if place[1] else "series"
    for key in attributes:
        tag = int(key, 16)
        never = tag in _NEVER or (tag >> 16 in _NEVER_GROUPS and tag not in _WINDOW)
        if never or not tag & 0xFFFF:
            raise Invalid("correct.attribute", "{tag} cannot be corrected", tag=tag_text(tag))
        if tag in PATIENT_TAGS | STUDY_TAGS:
            owner = "study"
        elif tag in SERIES_TAGS:
            owner = "series"
        else:
            continue
        if level != owner:
            raise Invalid(
                "correct.level",
                "{tag} belongs to the {owner}: it cannot be corrected for one {level}",
                tag=tag_text(tag),
                owner=owner,
                level=level,
            )
