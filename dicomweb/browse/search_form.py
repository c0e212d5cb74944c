"""The search form of the study list, and the catalogue query that it means."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from archive.query.domain import Query
from dicomweb.browse.kinds import CHIPS
from kernel.i18n.catalog import marked

PAGE = 30
_STUDY_DATE, _MODALITIES = 0x00080020, 0x00080061
_INCLUDE = frozenset(
    {
        0x00080020,
        0x00080030,
        0x00080050,
        0x00080061,
        0x00080080,
        0x00080090,
        0x00081030,
        0x00100010,
        0x00100020,
        0x00100030,
        0x00100040,
        0x00101010,
        0x0020000D,
        0x00201206,
        0x00201208,
    }
)

PERIODS: dict[str, str] = {
    "all": marked("All dates"),
    "today": marked("Today"),
    "3d": marked("3 days"),
    "week": marked("Week"),
    "month": marked("Month"),
    "custom": marked("Custom"),
}
_DAYS_BACK = {"today": 0, "3d": 2, "week": 6, "month": 29}


@dataclass(frozen=True, slots=True)
class SearchForm:
    """What the person asks for; `first_day` and `last_day` count with the period 'custom' only."""

    text: str = ""
    period: str = "all"
    first_day: date | None = None
    last_day: date | None = None
    chips: tuple[str, ...] = ()
    after: str = ""

    @property
    def is_filtered(self) -> bool:
        """Whether anything narrows the list."""
        return bool(self.text or self.chips or self.period != "all")


def read_form(fields: Mapping[str, str], chips: tuple[str, ...]) -> SearchForm:
    """Read the posted fields; what is not understood narrows nothing."""
    period = fields.get("period", "all")
    first, last = _day(fields.get("first_day", "")), _day(fields.get("last_day", ""))
    if first and last and last < first:
        first, last = last, first
    return SearchForm(
        text=fields.get("text", "").strip()[:200],
        period=period if period in PERIODS else "all",
        first_day=first,
        last_day=last,
        chips=tuple(chip for chip in chips if chip in CHIPS),
        after=fields.get("after", ""),
    )


def _day(value: str) -> date | None:
    try:
        return date.fromisoformat(value)
    except ValueError:
        return None


def to_query(form: SearchForm, today: date) -> Query:
    """The study-level query of one page of the list."""
    match: dict[int, str] = {}
    days = _days(form, today)
    if days:
        match[_STUDY_DATE] = days
    modalities = [modality for chip in form.chips for modality in CHIPS[chip][1]]
    if modalities:
        match[_MODALITIES] = "\\".join(modalities)
    return Query(
        level="STUDY",
        match=match,
        include=_INCLUDE,
        limit=PAGE,
        after=form.after or None,
        text=form.text,
    )


def _days(form: SearchForm, today: date) -> str:
    """A DICOM date range (PS3.4 C.2.2.2.5), '' for every date."""
    if form.period == "custom":
        first = form.first_day.strftime("%Y%m%d") if form.first_day else ""
        last = form.last_day.strftime("%Y%m%d") if form.last_day else ""
        return f"{first}-{last}" if first or last else ""
    if form.period not in _DAYS_BACK:
        return ""
    return f"{today - timedelta(days=_DAYS_BACK[form.period]):%Y%m%d}-"
