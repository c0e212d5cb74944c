"""Sensitive kinds of data, and masks for what names a person."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from kernel.i18n.catalog import marked

Sensitivity = Literal["vip", "mental_health", "hiv"]

# A kind of data, and the permission without which it is masked.
SENSITIVITIES: Mapping[str, str] = {
    "vip": marked("Protected person"),
    "mental_health": marked("Mental health"),
    "hiv": marked("HIV and AIDS"),
}
UNMASKED = "archive.identifiers.read"
# For these purposes nobody needs to know who it is.
ANONYMOUS_PURPOSES = frozenset({"teaching", "research", "quality", "statistics"})
STAR = "*"


def permission_for(sensitivity: str) -> str:
    """The permission to see data of a sensitive kind."""
    return f"archive.sensitive.{sensitivity}"


@dataclass(frozen=True, slots=True)
class Mask:
    """What is hidden from an asker; `hidden` are the sensitive kinds that it is for."""

    names: bool = False
    id_numbers: bool = False
    phones: bool = False
    hidden: frozenset[str] = frozenset()

    def name(self, value: str) -> str:
        """A person's name, as it is or masked."""
        return mask_name(value) if self.names else value

    def id_number(self, value: str) -> str:
        """An ID number, as it is or masked."""
        return mask_number(value) if self.id_numbers else value

    def phone(self, value: str) -> str:
        """A phone number, as it is or masked."""
        return mask_number(value) if self.phones else value

    @property
    def is_open(self) -> bool:
        """Whether nothing is hidden."""
        return not (self.names or self.id_numbers or self.phones)


OPEN = Mask()
CLOSED = Mask(names=True, id_numbers=True, phones=True)


def mask_for(permissions: Collection[str], sensitivity: Collection[str], purpose: str) -> Mask:
    """The mask for who has `permissions` for the data, which are of sensitive kinds."""
    hidden = frozenset(one for one in sensitivity if permission_for(one) not in permissions)
    if hidden or UNMASKED not in permissions or purpose in ANONYMOUS_PURPOSES:
        return Mask(names=True, id_numbers=True, phones=True, hidden=hidden)
    return OPEN


def mask_name(value: str) -> str:
    """A name of which the first letter stays: 王小明 → 王**, Wang^Xiaoming → W***^***.

    Groups of a DICOM name (PS3.5 6.2.1.2) are masked one by one; the phonetic one is left out.
    """
    groups = value.split("=")[:2]
    return "=".join(_mask_group(group) for group in groups)


def _mask_group(group: str) -> str:
    family, *rest = group.split("^")
    masked = [_mask_part(family, 1), *(_mask_part(part, 0) for part in rest)]
    return "^".join(masked)


def _mask_part(part: str, kept: int) -> str:
    if not part:
        return ""
    stars = STAR * 3 if part.isascii() else STAR * max(len(part) - kept, 1)
    return part[:kept] + stars


def mask_number(value: str) -> str:
    """A number of which the first three and the last four letters stay: 138****5678."""
    if len(value) < 10:
        return STAR * len(value)
    return value[:3] + STAR * (len(value) - 7) + value[-4:]
