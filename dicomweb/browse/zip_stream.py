"""A ZIP file written while it is sent: stored, not compressed, of any size (ZIP64)."""

import zipfile
from collections.abc import AsyncIterator, Iterable
from datetime import datetime


class _Outlet:
    """A file that can only be written to; what was written is taken away by `take`."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes, /) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is open."""

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


async def zip_stream(
    members: Iterable[tuple[str, AsyncIterator[bytes]]], when: datetime
) -> AsyncIterator[bytes]:
    """The bytes of a ZIP file with `members` (name, content), each dated `when`."""
    outlet = _Outlet()
    with zipfile.ZipFile(outlet, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name, when.timetuple()[:6])
            with archive.open(info, "w", force_zip64=True) as member:
                async for chunk in content:
                    member.write(chunk)
                    yield outlet.take()
            yield outlet.take()
    yield outlet.take()
