"""Moments and sizes in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kernel.web.words import ago, day_of, greeting, size

NOW = datetime(2026, 11, 25, 4, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (timedelta(seconds=20), "刚刚"),
        (timedelta(minutes=3), "3 分钟前"),
        (timedelta(hours=5), "5 小时前"),
        (timedelta(days=2), "2 天前"),
    ],
)
def test_a_moment_is_told_by_how_long_ago_it_was(before: timedelta, words: str) -> None:
    assert ago(NOW - before, "zh-CN", NOW) == words


def test_a_moment_of_long_ago_is_told_by_its_day() -> None:
    assert ago(NOW - timedelta(days=30), "en", NOW).startswith("2026-10-2")


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (999, "999 B"), (1024, "1.0 KB"), (1_500_000, "1.4 MB"), (3 * 2**40, "3.0 TB")],
)
def test_a_size_has_at_most_three_digits(count: int, words: str) -> None:
    assert size(count) == words


def test_a_day_has_its_weekday_in_both_languages() -> None:
    assert "星期三" in day_of(NOW, "zh-CN") and "Wednesday" in day_of(NOW, "en")
    assert greeting(NOW, "en").startswith("Good ")
