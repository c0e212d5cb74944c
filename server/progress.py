"""Progress of a long command: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

LINE_EVERY_S = 5.0


class Shown:
    """The progress of a long command: a bar on a terminal, else a line now and then."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._bar: Any = None
        self._said_at = time.monotonic()

    def show(self, done: int, total: int, _note: str) -> None:
        """`done` of `total` are done."""
        if sys.stdout.isatty():
            if self._bar is None:
                self._bar = click.progressbar(length=total, label=self._label)
                self._bar.__enter__()
            self._bar.update(done - self._bar.pos)
        elif time.monotonic() - self._said_at > LINE_EVERY_S:
            self._said_at = time.monotonic()
            click.echo(f"{self._label}: {done} of {total}")

    def end(self) -> None:
        """Leave the line of the bar."""
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None
