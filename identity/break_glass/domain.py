"""What an emergency access is, opens and needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from kernel.errors import Conflict, Invalid
from kernel.i18n.catalog import Word, marked

Verdict = Literal["justified", "unjustified"]

USE = "identity.break_glass.use"
REVIEW = "identity.break_glass.review"
LASTS_S = 1800.0
LONGEST_S = 4 * 3600.0
REASON_LENGTH = 10
# What it opens at the organisation and below.
OPENS = frozenset(
    {
        "archive.study.search",
        "archive.study.read",
        "archive.identifiers.read",
        "archive.sensitive.vip",
        "archive.sensitive.mental_health",
        "archive.sensitive.hiv",
    }
)
VERDICTS: Mapping[str, str] = {
    "justified": marked("Justified"),
    "unjustified": marked("Not justified"),
}


@dataclass(frozen=True, slots=True)
class BreakGlass:
    """One emergency access, from opening to the end of its review."""

    id: int
    account_id: int
    organisation_id: int
    study_instance_uid: str
    reason: str
    opened_at: datetime
    expires_at: datetime
    reviewed_at: datetime | None
    reviewed_by: int | None
    verdict: str
    comment: str

    @property
    def state(self) -> str:
        """`waiting` for its review, or its verdict."""
        return self.verdict or "waiting"


def check_reason(reason: str) -> str:
    """The reason without outer space; raises Invalid `break_glass.reason` for a word or two."""
    plain = " ".join(reason.split())
    if not len(plain.encode()) >= REASON_LENGTH or len(plain) > 1000:
        raise Invalid("break_glass.reason", "Say in a sentence why this cannot wait.")
    return plain


def check_verdict(found: BreakGlass, verdict: str, reviewer_id: int, comment: str) -> None:
    """Raise Invalid `break_glass.verdict`, Conflict `break_glass.own` or `break_glass.reviewed`."""
    if verdict not in VERDICTS or (verdict == "unjustified" and not comment.strip()):
        raise Invalid("break_glass.verdict", "A verdict that is not justified needs a comment.")
    if found.account_id == reviewer_id:
        raise Conflict("break_glass.own", "Nobody reviews their own emergency access.")
    if found.verdict:
        raise Conflict(
            "break_glass.reviewed",
            "This was reviewed already: {verdict}.",
            verdict=Word(VERDICTS[found.verdict]),
        )
