"""One request to a carrier."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import aiohttp
from yarl import URL

from kernel.notify.domain import unavailable

ANSWER_S = 10.0


async def ask(place: URL, headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:
    """The JSON object of the answer, whatever its status; raises Unavailable `sms.unavailable`.

    Neither address nor body stand in an error: both name the recipient.
    """
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as client,
            client.post(place, headers=headers, data=body, allow_redirects=False) as answer,
        ):
            text, status = await answer.text(), answer.status
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise unavailable(type(error).__name__) from None
    try:
        said = json.loads(text)
    except ValueError:
        raise unavailable(f"status {status}") from None
    if not isinstance(said, dict):
        raise unavailable(f"status {status}")
    return said
