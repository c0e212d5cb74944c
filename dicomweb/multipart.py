"""multipart/related bodies (RFC 2387, RFC 2046 5.1.1): an incremental parser and a writer.

The parser never holds more than one chunk and a delimiter's length: body bytes are handed on as
they come, whatever the size of a part.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from kernel.errors import Invalid

MAX_HEADER_BYTES = 16 * 1024
MAX_PREAMBLE_BYTES = 64 * 1024
MAX_BOUNDARY_CHARACTERS = 200  # RFC 2046 says 70; longer ones are seen and harmless


@dataclass(frozen=True, slots=True)
class PartBegin:
    """A part starts; header names in lower case."""

    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PartData:
    """The next bytes of the current part's body."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The current part is complete."""


Event = PartBegin | PartData | PartEnd


class _State(Enum):
    PREAMBLE = auto()
    DELIMITER = auto()  # just behind a delimiter: more parts, or the end
    HEADERS = auto()
    BODY = auto()
    EPILOGUE = auto()


class MultipartParser:
    """Push parser: `feed` bytes and take the events, then `finish`.

    Raises:
        Invalid: `multipart.boundary` for an unusable boundary, `multipart.malformed` where the
            body is not of the grammar, `multipart.truncated` from `finish` when the closing
            delimiter never came.
    """

    def __init__(self, boundary: str) -> None:
        if not 0 < len(boundary) <= MAX_BOUNDARY_CHARACTERS or not boundary.isascii():
            raise Invalid("multipart.boundary", "The multipart boundary is missing or not usable.")
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._buffer = b"\r\n"  # so that a delimiter at the very start is found like any other
        self._state = _State.PREAMBLE

    @property
    def ended(self) -> bool:
        """True once the closing delimiter was seen."""
        return self._state is _State.EPILOGUE

    @property
    def inside_part(self) -> bool:
        """True between a PartBegin and its PartEnd."""
        return self._state is _State.BODY

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Take the next bytes of the body; yields what they complete, in order."""
        self._buffer = self._buffer + chunk if self._buffer else chunk
        while True:
            if self._state is _State.PREAMBLE:
                advanced = self._skip_preamble()
            elif self._state is _State.DELIMITER:
                advanced = self._after_delimiter()
            elif self._state is _State.HEADERS:
                headers = self._take_headers()
                advanced = headers is not None
                if headers is not None:
                    yield PartBegin(headers)
            elif self._state is _State.BODY:
                data, advanced = self._take_body()
                if data:
                    yield PartData(data)
                if advanced:
                    yield PartEnd()
            else:
                self._buffer = b""
                return
            if not advanced:
                return

    def finish(self) -> None:
        """Say that the body ended.

        Raises:
            Invalid: `multipart.truncated`, or `multipart.malformed` when no delimiter was seen.
        """
        if self._state is _State.PREAMBLE:
            raise Invalid("multipart.malformed", "The body has no part of the announced boundary.")
        if self._state is not _State.EPILOGUE:
            raise Invalid("multipart.truncated", "The body ends before its closing boundary.")

    def _skip_preamble(self) -> bool:
        at = self._buffer.find(self._delimiter)
        if at < 0:
            if len(self._buffer) > MAX_PREAMBLE_BYTES:
                raise Invalid(
                    "multipart.malformed", "The body has no part of the announced boundary."
                )
            return False
        self._buffer = self._buffer[at + len(self._delimiter) :]
        self._state = _State.DELIMITER
        return True

    def _after_delimiter(self) -> bool:
        if self._buffer.startswith(b"--"):
            self._state = _State.EPILOGUE
            return True
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEADER_BYTES:
                raise Invalid("multipart.malformed", "A boundary line does not end.")
            return False
        if self._buffer[:end].strip(b" \t"):
            raise Invalid("multipart.malformed", "A boundary line holds more than the boundary.")
        self._buffer = self._buffer[end:]  # keeps the CRLF: an empty header block is CRLF CRLF
        self._state = _State.HEADERS
        return True

    def _take_headers(self) -> dict[str, str] | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end > MAX_HEADER_BYTES or (end < 0 and len(self._buffer) > MAX_HEADER_BYTES):
            raise Invalid("multipart.malformed", "The header of a part is too long.")
        if end < 0:
            return None
        block = self._buffer[:end]
        # The last CRLF stays: the body of an empty part is followed directly by the delimiter.
        self._buffer = self._buffer[end + 2 :]
        self._state = _State.BODY
        self._skip_crlf = True
        return _parse_headers(block)

    def _take_body(self) -> tuple[bytes, bool]:
        """The bytes that surely belong to the body, and whether the part is complete."""
        skip = 2 if self._skip_crlf else 0
        at = self._buffer.find(self._delimiter)
        if at >= 0:
            data = self._buffer[skip:at] if at else b""
            self._buffer = self._buffer[at + len(self._delimiter) :]
            self._state = _State.DELIMITER
            return data, True
        keep = len(self._delimiter) - 1
        if len(self._buffer) - skip <= keep:
            return b"", False
        data = self._buffer[skip:-keep]
        self._buffer = self._buffer[-keep:]
        self._skip_crlf = False
        return data, False

    _skip_crlf = False


def _parse_headers(block: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in block.decode("utf-8", "replace").split("\r\n"):
        if not line:
            continue
        name, colon, value = line.partition(":")
        if not colon:
            raise Invalid("multipart.malformed", "A part has a header line without a colon.")
        headers[name.strip().lower()] = value.strip()
    return headers


class MultipartWriter:
    """The pieces of a multipart/related answer; the caller sends them in order.

    `head` opens a part, `tail` ends the body. Lengths are known beforehand, so that an answer made
    of ranges of stored objects can carry a Content-Length.
    """

    def __init__(self, media_type: str) -> None:
        self.boundary = secrets.token_hex(16)
        self.content_type = f'multipart/related; type="{media_type}"; boundary={self.boundary}'

    def head(self, content_type: str, length: int | None = None, location: str = "") -> bytes:
        """The delimiter and header block of the next part."""
        lines = [f"\r\n--{self.boundary}", f"Content-Type: {content_type}"]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        if location:
            lines.append(f"Content-Location: {location}")
        return "\r\n".join([*lines, "", ""]).encode("ascii")

    def tail(self) -> bytes:
        """The closing delimiter."""
        return f"\r\n--{self.boundary}--\r\n".encode("ascii")
