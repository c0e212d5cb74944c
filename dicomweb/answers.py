"""Sending bodies made of stored ranges: one part, or multipart/related (PS3.18 8.6.1)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from aiohttp import web

from dicomweb.multipart import MultipartWriter
from kernel.errors import AppError

log = structlog.get_logger(__name__)

Chunks = Callable[[], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class Part:
    """One body: its content type, its bytes as a stream, and their number where it is known."""

    content_type: str
    chunks: Chunks
    length: int | None = None
    location: str = ""


def bytes_part(content_type: str, data: bytes, location: str = "") -> Part:
    """A part that is in memory."""

    async def chunks() -> AsyncIterator[bytes]:
        yield data

    return Part(content_type, chunks, len(data), location)


def warning(service_url: str, sentences: Sequence[str]) -> str:
    """The value of a Warning header (PS3.18 8.3.4.1.1): code 299, the service, the words."""
    text = " ".join(sentences).replace("\\", "").replace('"', "'")
    printable = "".join(c for c in text if " " <= c <= "~")
    return f'299 {service_url} "{printable[:1000]}"'


async def send_single(
    request: web.Request, part: Part, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Answer with one body, not multipart."""
    response = web.StreamResponse(headers={**(headers or {}), "Content-Type": part.content_type})
    if part.length is not None:
        response.content_length = part.length
    return await _send(request, response, part.chunks())


async def send_multipart(
    request: web.Request,
    media_type: str,
    parts: Sequence[Part],
    headers: Mapping[str, str] | None = None,
    status: int = 200,
) -> web.StreamResponse:
    """Answer with multipart/related; Content-Length is given where all lengths are known."""
    writer = MultipartWriter(media_type)
    heads = [writer.head(part.content_type, part.length, part.location) for part in parts]
    tail = writer.tail()
    response = web.StreamResponse(
        status=status, headers={**(headers or {}), "Content-Type": writer.content_type}
    )
    lengths = [part.length for part in parts if part.length is not None]
    if len(lengths) == len(parts):
        response.content_length = sum(map(len, heads)) + sum(lengths) + len(tail)

    async def body() -> AsyncIterator[bytes]:
        for head, part in zip(heads, parts, strict=True):
            # Reading comes before the head, so that a failure of the first part is still an error.
            pending = head
            async for chunk in part.chunks():
                if pending:
                    yield pending
                    pending = b""
                yield chunk
            if pending:
                yield pending
        yield tail

    return await _send(request, response, body())


async def _send(
    request: web.Request, response: web.StreamResponse, chunks: AsyncIterator[bytes]
) -> web.StreamResponse:
    """Send a stream. An error before its first byte is raised; a later one breaks the answer off,
    which the client sees as an incomplete body.
    """
    try:
        first = await anext(chunks, b"")
    except AppError:
        await _close(chunks)
        raise
    try:
        await response.prepare(request)
        if request.method != "HEAD":
            await response.write(first)
            async for chunk in chunks:
                await response.write(chunk)
        await response.write_eof()
    except AppError as error:
        log.warning("dicomweb.answer_broken_off", code=error.code)
        if request.transport is not None:
            request.transport.abort()
    finally:
        await _close(chunks)
    return response


async def _close(chunks: AsyncIterator[bytes]) -> None:
    close = getattr(chunks, "aclose", None)
    if close is not None:
        await close()
