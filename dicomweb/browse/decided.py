"""What the study page says about decisions, kept versions and contradictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from archive.decisions.domain import REJECTION_CODES, Decision, StudyState
from kernel.i18n.catalog import marked, translate

KINDS: Mapping[str, str] = {
    "delete": marked("deleted"),
    "correct": marked("corrected"),
    "reject": marked("rejected"),
    "restore": marked("restored"),
    "hold": marked("put under a legal hold"),
    "release": marked("released from the legal hold"),
    "classify": marked("classified as sensitive or not"),
    "choose": marked("version chosen"),
}
# What a person has to look at, by how a second data set of the same UID differs from the first.
CONFLICTS: Mapping[str, str] = {
    "identity": marked("it names another patient, study or kind of object"),
    "pixels": marked("its pixels differ"),
    "unreadable": marked("it cannot be compared"),
}
CONTRADICTIONS: Mapping[str, str] = {
    "patient_id_differs": marked("Patient ID differs between images"),
    "patient_name_differs": marked("Patient name differs between images"),
    "birth_date_differs": marked("Birth date differs between images"),
    "sex_differs": marked("Sex differs between images"),
    "modality_differs": marked("Modality differs within a series"),
    "series_in_two_studies": marked("A series stands in another study too"),
}


@dataclass(frozen=True, slots=True)
class StudyNotes:
    """`tags` are short words beside the title; `notes` and `history` are sentences."""

    tags: list[str]
    notes: list[str]
    history: list[str]


def study_notes(states: Sequence[StudyState], lang: str) -> StudyNotes:
    """The notes of a study in one language."""
    tags: dict[str, None] = {}
    for state in states:
        tags |= dict.fromkeys(translate(tag, lang) for tag in _tags(state))
    return StudyNotes(
        list(tags),
        [line for state in states for line in _notes(state, lang)],
        [_line(made, lang) for state in states for made in reversed(state.decisions)],
    )


def _tags(state: StudyState) -> Iterator[str]:
    if state.held is not None:
        yield marked("Legal hold")
    if state.corrections or state.own_patient_id:
        yield marked("Corrected")
    if state.rejected:
        yield marked("Partly rejected")
    if any(one.relation in CONFLICTS and not one.chosen for one in state.versions):
        yield marked("Conflict")


def _notes(state: StudyState, lang: str) -> Iterator[str]:
    if state.own_patient_id:
        words = marked("The images name the patient {patient}.")
        yield translate(words, lang, patient=state.own_patient_id)
    for one in state.versions:
        if one.relation in CONFLICTS:
            words = marked("Another data set of image {uid} came from {source}: {why}.")
            if one.chosen:
                words = marked("Another data set of image {uid} from {source} is shown: {why}.")
            why = translate(CONFLICTS[one.relation], lang)
            yield translate(words, lang, uid=one.sop_instance_uid, source=one.source, why=why)
    for flag in state.contradictions:
        said = translate(CONTRADICTIONS.get(flag.kind, flag.kind), lang)
        yield f"{said}: {flag.stored} ≠ {flag.received}"


def _line(made: Decision, lang: str) -> str:
    at = datetime.fromtimestamp(made.decided_ms / 1000, UTC).astimezone()
    what = translate(KINDS.get(made.kind, made.kind), lang)
    code = REJECTION_CODES.get(str(made.detail.get("code", "")))
    reason = f"{translate(code, lang)}; {made.reason}" if code else made.reason
    return f"{at:%Y-%m-%d %H:%M} {made.actor}: {what} ({reason})"
