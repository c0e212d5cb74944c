"""Waiting for something to become true, instead of sleeping."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

Answer = TypeVar("Answer")


async def eventually(ask: Callable[[], Awaitable[Answer]], seconds: float = 20.0) -> Answer:
    """Ask until the answer is true and give it; TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while not (answer := await ask()):  # noqa: ASYNC110 - what is asked has no event
            await asyncio.sleep(0.01)
    return answer
