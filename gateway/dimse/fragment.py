"""Messages cut into P-DATA-TF PDUs (PS3.8 9.3.5 and Annex E)."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from gateway.upper_layer.incoming import COMMAND, LAST
from gateway.upper_layer.pdu import P_DATA_TF

PDU_AND_PDV = Struct(">BBIIBB")
LARGEST_PDU = 256 * 1024


def fragment_bytes(max_pdu_bytes: int) -> int:
    """Even number of bytes of one PDV for a peer that takes ``max_pdu_bytes`` (0 = no limit)."""
    limit = min(max_pdu_bytes or LARGEST_PDU, LARGEST_PDU)
    return max(2, (limit - 6) & ~1)


def header(context_id: int, flags: int, length: int) -> bytes:
    """PDU and PDV header in front of ``length`` bytes of one fragment."""
    return PDU_AND_PDV.pack(P_DATA_TF, 0, length + 6, length + 2, context_id, flags)


def pieces(context_id: int, kind: int, payload: bytes, size: int) -> Iterator[bytes]:
    """``payload`` as PDUs of one PDV with ``size`` bytes at most; at least one PDU."""
    last = max(0, len(payload) - 1) // size * size
    for start in range(0, last + 1, size):
        piece = payload[start : start + size]
        yield header(context_id, kind | (LAST if start == last else 0), len(piece)) + piece


def message(context_id: int, command: bytes, data: bytes | None, max_pdu_bytes: int) -> bytes:
    """A whole message as the bytes of its PDUs; command and data never share a PDU.

    PS3.8 lets them share one, but some peers read only the first PDV of a PDU.
    """
    size = fragment_bytes(max_pdu_bytes)
    if data is None and len(command) <= size:
        return header(context_id, COMMAND | LAST, len(command)) + command
    parts = list(pieces(context_id, COMMAND, command, size))
    if data is not None:
        parts += pieces(context_id, 0, data, size)
    return b"".join(parts)
