"""The order the kernel sees: bytes written, synced, index written, synced, then the answer."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kernel.settings import Settings

CALLS = "openat,pwritev,pwritev2,pwrite64,fdatasync,fsync,write"


def trace(settings: Settings, log: Path) -> list[tuple[str, str]]:
    """(call, file name or text) of the calls between SEND and STORED, in order."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    command = [strace, "-f", "-y", "-e", f"trace={CALLS}", "-o", str(log), sys.executable, "-m"]
    command += ["tests.archive.one_store", str(settings.data)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    if done.returncode != 0 and b"ptrace" in done.stderr:
        pytest.skip("system calls cannot be traced here")
    assert done.stdout == b"SENDSTORED", done.stderr.decode()
    calls = []
    for line in log.read_text("utf-8", "replace").splitlines():
        found = re.match(r'\d+ +(\w+)\((?:\d+|AT_FDCWD)(?:<([^>]*)>)?(?:, "([^"]*))?', line)
        if found and "resumed" not in line:
            calls.append((found[1], found[3] if found[3] in ("SEND", "STORED") else found[2] or ""))
    texts = [text for _, text in calls]
    return calls[texts.index("SEND") + 1 : texts.index("STORED") + 1]


def test_bytes_then_sync_then_index_then_sync_then_answer(
    settings: Settings, tmp_path: Path
) -> None:
    calls = trace(settings, tmp_path / "strace.txt")

    def last(names: tuple[str, ...], ending: str) -> int:
        return max(
            n for n, (call, file) in enumerate(calls) if call in names and file.endswith(ending)
        )

    write = last(("pwritev", "pwritev2"), ".seg")
    sync = last(("fdatasync",), ".seg")
    named = last(("fsync",), "/journal")
    index_write = last(("pwrite64", "pwritev"), "-wal")
    index_sync = last(("fdatasync", "fsync"), "-wal")
    answer = last(("write",), "STORED")
    assert write < sync < index_write < index_sync < answer
    assert write < named < index_write
