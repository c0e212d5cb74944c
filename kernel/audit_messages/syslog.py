"""Syslog messages (RFC 5424) on a connection: octet counting over TCP (RFC 6587) or TLS (RFC 5425).

Syslog has no answer. `Line.send` returns when the peer's system has acknowledged every byte; that
the program behind it has read them can only be hoped for while the connection lives.
"""

import asyncio
import contextlib
import fcntl
import ssl
import struct
import termios
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from kernel.errors import Invalid

PRIORITY = 10 * 8 + 5  # facility 10 (security), severity notice; RFC 5424 6.2.1
MESSAGE_ID = "IHE+RFC-3881"
CONNECT_S, CONFIRM_S = 10.0, 10.0
_PORTS = {"tls": 6514, "tcp": 601}


@dataclass(frozen=True, slots=True)
class Repository:
    """Where audit messages go: `tls://HOST:PORT` or `tcp://HOST:PORT`."""

    url: str
    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> Self:
        """Raises Invalid `audit.repository`."""
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS[parts.scheme]
        except (ValueError, KeyError):
            parts, port = urlsplit(""), 0
        if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/"):
            raise Invalid(
                "audit.repository",
                "{url} is not an audit repository: tls://HOST:PORT or tcp://HOST:PORT.",
                url=url,
            )
        return cls(url, parts.scheme, parts.hostname, port)


def frame(at: datetime, host: str, process: str, body: bytes) -> bytes:
    """One message with its length before it; the body is UTF-8 and says so (BOM)."""
    stamp = at.isoformat(timespec="milliseconds")
    head = f"<{PRIORITY}>1 {stamp} {_name(host)} yunying {_name(process)} {MESSAGE_ID} - "
    message = head.encode("ascii") + b"\xef\xbb\xbf" + body
    return str(len(message)).encode() + b" " + message


class Line:
    """An open connection to a repository."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, repository: Repository, tls: ssl.SSLContext | None) -> Self:
        """Raises OSError (TimeoutError and ssl.SSLError are such)."""
        async with asyncio.timeout(CONNECT_S):
            return cls(
                *await asyncio.open_connection(
                    repository.host,
                    repository.port,
                    ssl=tls if repository.scheme == "tls" else None,
                )
            )

    async def send(self, frames: list[bytes]) -> None:
        """Send and wait until every byte was acknowledged; OSError when that did not happen."""
        async with asyncio.timeout(CONFIRM_S):
            self._writer.write(b"".join(frames))
            await self._writer.drain()
            while self._unacknowledged():  # noqa: ASYNC110 - the system tells nobody
                await asyncio.sleep(0.005)
        self.check()

    def check(self) -> None:
        """Raise ConnectionResetError when the repository has closed the connection."""
        if self._is_over():
            raise ConnectionResetError("the repository closed the connection")

    async def close(self) -> None:
        """Close; what was sent is acknowledged already."""
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(CONNECT_S):
                await self._writer.wait_closed()

    def _unacknowledged(self) -> bool:
        if self._is_over():
            return False
        if self._writer.transport.get_write_buffer_size():
            return True
        found = self._writer.get_extra_info("socket")
        # SIOCOUTQ of tcp(7) has the number of TIOCOUTQ: bytes that the peer has not acknowledged.
        packed = fcntl.ioctl(found.fileno(), termios.TIOCOUTQ, b"\0" * 4)
        return bool(struct.unpack("i", packed)[0])

    def _is_over(self) -> bool:
        return self._reader.at_eof() or self._writer.is_closing()


def tls_context(authority: str, certificate: str, key: str) -> ssl.SSLContext:
    """TLS with the peer's certificate checked; ours is shown where one is given.

    Raises Invalid `audit.certificate`.
    """
    try:
        context = ssl.create_default_context(cafile=authority or None)
        if certificate:
            context.load_cert_chain(certificate, key or None)
    except OSError as error:
        names = ", ".join(Path(one).name for one in (authority, certificate, key) if one)
        raise Invalid(
            "audit.certificate", "The certificate files {names} cannot be used.", names=names
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _name(text: str) -> str:
    """A header field: printable ASCII without spaces, `-` for nothing (RFC 5424 6)."""
    return "".join(one if "!" <= one <= "~" else "_" for one in text)[:128] or "-"
