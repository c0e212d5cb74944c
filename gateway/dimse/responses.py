"""Responses that requests of ours wait for, by Message ID (PS3.7 9.1)."""

from __future__ import annotations

import asyncio

from gateway.dimse.command import RESPONDED_ID, STATUS, Command, number
from gateway.upper_layer.service_user import ConnectionLost


class Responses:
    """The requests of one association that have no answer yet."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[int]] = {}

    def expect(self, message_id: int) -> asyncio.Future[int]:
        """The status that will answer the request of that Message ID, or ConnectionLost."""
        waiting: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[message_id] = waiting

        def done(_: asyncio.Future[int]) -> None:
            self._waiting.pop(message_id, None)
            if not waiting.cancelled():
                waiting.exception()  # who no longer asks does not mind

        waiting.add_done_callback(done)
        return waiting

    def answered(self, response: Command) -> None:
        """A response arrived; one that nobody waits for means nothing.

        Raises:
            CommandError: Message ID or status are missing.
        """
        status = number(response, STATUS)
        waiting = self._waiting.get(number(response, RESPONDED_ID))
        if waiting is not None and not waiting.done():
            waiting.set_result(status)

    def lost(self, why: str) -> None:
        """The association is over."""
        for waiting in list(self._waiting.values()):
            if not waiting.done():
                waiting.set_exception(ConnectionLost(why))
