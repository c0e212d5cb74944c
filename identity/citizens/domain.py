"""How often codes are sent, and how often they may be tried."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from kernel.errors import Denied, Invalid
from kernel.settings import CitizenSettings

CODE_S = 300.0
PAUSE_S = 60.0
ATTEMPTS = 5
LOCKED_S = 900.0


@dataclass(frozen=True, slots=True)
class Counts:
    """Codes asked for before: for the number, from the address, by everybody."""

    number_pause: int
    number_hour: int
    number_day: int
    address_hour: int
    address_day: int
    overall_minute: int


def new_code() -> str:
    """Six digits."""
    return f"{secrets.randbelow(1_000_000):06d}"


def check_code_form(text: str) -> str:
    """Six digits of what was typed; raises Invalid `citizen.code`."""
    plain = "".join(text.split())
    if len(plain) != 6 or not plain.isascii() or not plain.isdigit():
        raise Invalid("citizen.code", "The code has six digits.")
    return plain


def check_counts(counts: Counts, limits: CitizenSettings) -> None:
    """Raise Denied `citizen.wait` or `citizen.limit` where one more code would be too many.

    The words do not say whether a number is known, and the same limits hold for all.
    """
    if counts.number_pause:
        raise Denied("citizen.wait", "A code was sent a moment ago. Wait a minute for another one.")
    number = counts.number_hour >= limits.number_hour or counts.number_day >= limits.number_day
    address = counts.address_hour >= limits.address_hour or counts.address_day >= limits.address_day
    if number or address or counts.overall_minute >= limits.overall_minute:
        raise Denied("citizen.limit", "Too many codes were asked for. Try again later.")
