"""Headless Chromium for tests of pages; `CHROMIUM` names another program than the one in PATH."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

SIZES = {"desk": (1440, 900), "phone": (390, 844)}
_FLAGS = [
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
]


def launch() -> dict[str, Any]:
    """What playwright's `launch` is to be told; skips where there is no Chromium."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if program is None:
        pytest.skip("Chromium is not installed (set CHROMIUM)")
    return {"executable_path": program, "args": _FLAGS}


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser for a test that does not run on a loop; others take the fixture `browser`."""
    options = launch()
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(**options)
