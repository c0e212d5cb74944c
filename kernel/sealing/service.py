"""The sealer of this installation."""

from __future__ import annotations

from kernel.sealing.domain import Sealer
from kernel.sealing.secret_file import make_secret
from kernel.settings import Settings


def open_sealer(settings: Settings) -> Sealer:
    """A sealer under `seal.secret`, else under `seal.secret` in the data folder (made if missing).

    Reads a file: call it while starting.
    """
    if settings.seal.secret:
        return Sealer(settings.seal.secret)
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Sealer(make_secret(settings.data / "seal.secret"))
