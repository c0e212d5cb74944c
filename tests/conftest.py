"""Fixtures that every package's tests may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real test files (``dicom/``, ``manifest.csv`` …); skips where it is missing."""
    folder = Path(os.environ.get("YUNYING_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "manifest.csv").is_file():
        pytest.skip(f"real test data is not at {folder} (set YUNYING_TEST_DATA)")
    return folder
