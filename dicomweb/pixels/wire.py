"""Messages between the server and a codec worker: a JSON head and a payload, both counted.

JSON and raw bytes rather than pickle: a worker that was taken over by a hostile file can hand
back nothing but numbers and bytes.
"""

from __future__ import annotations

import json
import struct
from typing import Any

LENGTHS = struct.Struct("<IQ")  # head bytes, payload bytes
MAX_HEAD_BYTES = 4 << 20  # five look-up tables of 64 K entries fit


def pack(head: dict[str, Any], payload_bytes: int) -> bytes:
    """The bytes that precede a payload of the given length."""
    text = json.dumps(head, separators=(",", ":")).encode()
    return LENGTHS.pack(len(text), payload_bytes) + text


def unpack_head(text: bytes) -> dict[str, Any]:
    """The head of a message."""
    head = json.loads(text)
    if not isinstance(head, dict):
        raise TypeError("a message head is a JSON object")
    return head
