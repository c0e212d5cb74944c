"""Rows for spreadsheets: CSV in UTF-8 that Excel opens as such and takes no formula from."""

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

# The mark by which spreadsheets know UTF-8.
BEGIN = b"\xef\xbb\xbf"


def csv_line(values: Iterable[Any]) -> bytes:
    """One row as CSV; lists and mappings as JSON."""
    text = io.StringIO()
    csv.writer(text).writerow([_harmless(one) for one in values])
    return text.getvalue().encode()


def _harmless(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula gets a mark before it."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t"):
        return "'" + value
    return "" if value is None else json.dumps(value) if isinstance(value, dict | list) else value
