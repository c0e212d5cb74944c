"""Sensitive kinds of data, who sees them, and what is masked for others."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from dataset.mask import mask_name, mask_number
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
