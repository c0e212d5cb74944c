"""Moments and sizes as people say them."""

from __future__ import annotations

from datetime import UTC, datetime

from kernel.i18n.catalog import marked, translate

_UNITS = ("B", "KB", "MB", "GB", "TB", "PB")
_GREETINGS = (
    (5, marked("Good evening")),
    (11, marked("Good morning")),
    (13, marked("Good day")),
    (18, marked("Good afternoon")),
    (24, marked("Good evening")),
)
_WEEKDAYS = (
    marked("Monday"),
    marked("Tuesday"),
    marked("Wednesday"),
    marked("Thursday"),
    marked("Friday"),
    marked("Saturday"),
    marked("Sunday"),
)


def moment(at: datetime | None) -> str:
    """Day and minute in this machine's time zone; a dash for None."""
    return "—" if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M")


def ago(at: datetime, lang: str, now: datetime | None = None) -> str:
    """How long ago, up to a week; then the day."""
    seconds = int(((now or datetime.now(UTC)) - at).total_seconds())
    if seconds < 60:
        return translate("just now", lang)
    if seconds < 3600:
        return translate("{n} min ago", lang, n=seconds // 60)
    if seconds < 86400:
        return translate("{n} h ago", lang, n=seconds // 3600)
    if seconds < 7 * 86400:
        return translate("{n} d ago", lang, n=seconds // 86400)
    return at.astimezone().strftime("%Y-%m-%d")


def size(n: float) -> str:
    """Bytes with at most three digits: 1.2 GB."""
    unit = 0
    while n >= 1000 and unit < len(_UNITS) - 1:
        n, unit = n / 1024, unit + 1
    return f"{n:.0f} {_UNITS[unit]}" if n >= 100 or unit == 0 else f"{n:.1f} {_UNITS[unit]}"


def greeting(now: datetime, lang: str) -> str:
    """What one says at this hour."""
    hour = now.astimezone().hour
    return translate(next(words for until, words in _GREETINGS if hour < until), lang)


def day_of(now: datetime, lang: str) -> str:
    """The day with its weekday."""
    local = now.astimezone()
    weekday = translate(_WEEKDAYS[local.weekday()], lang)
    if lang == "zh-CN":
        return f"{local.year}年{local.month}月{local.day}日 {weekday}"
    return f"{weekday}, {local:%Y-%m-%d}"
