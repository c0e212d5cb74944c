"""A received instance with other values, as the index is to see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from archive.index.arrival import Arrival
from archive.index.values import REQUEST_ATTRIBUTES, VR, charsets_of, in_utf8
from dataset.encode import text_of

Attributes = Mapping[str, Mapping[str, Any]]
"""By tag (GGGGEEEE), in DICOM JSON; without a value the attribute is empty."""

NOTHING: Attributes = MappingProxyType({})
CHARSET = 0x00080005


def corrected(arrival: Arrival, changes: Attributes) -> Arrival:
    """`arrival` with the values of `changes`; the same object where none is of the index.

    Its text is UTF-8 then, so that old and new values stand in one character set.
    """
    wanted = {int(tag, 16): attribute for tag, attribute in changes.items()}
    wanted = {tag: one for tag, one in wanted.items() if tag in VR and tag != REQUEST_ATTRIBUTES}
    if not wanted:
        return arrival
    charsets = charsets_of(arrival.values)
    values = in_utf8(arrival.values, charsets)
    values |= {tag: text_of(attribute).encode() for tag, attribute in wanted.items()}
    values[CHARSET] = b"ISO_IR 192"
    made = replace(
        arrival, values=values, requests=[in_utf8(item, charsets) for item in arrival.requests]
    )
    if hasattr(arrival, "segment"):
        made.segment = arrival.segment
    return made
