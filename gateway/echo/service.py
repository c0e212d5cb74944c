"""Verification SCP (PS3.4 Annex A)."""

from __future__ import annotations

from gateway.dimse.command import Command, response
from gateway.dimse.fragment import message
from gateway.dimse.status import SUCCESS


def echo_answer(context_id: int, request: Command, max_pdu_bytes: int) -> bytes:
    """The C-ECHO-RSP as PDUs."""
    return message(context_id, response(request, SUCCESS), None, max_pdu_bytes)
