"""The object store on a local file system, and the journal's segments seen as objects."""

from __future__ import annotations

import mmap
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from archive.journal.segment import sync_directory
from archive.store.domain import StoredObject
from kernel.errors import Invalid, NotFound, Unavailable


class LocalFiles:
    """Objects as files below `folder`: written aside, synced, then renamed into place."""

    def __init__(self, folder: Path, name: str = "files") -> None:
        self.name = name
        self._folder = folder
        self._aside = folder / ".writing"

    def create(self, key: str) -> _FileWriter:
        """See `ObjectStore.create`."""
        try:
            self._aside.mkdir(parents=True, exist_ok=True)
            return _FileWriter(self._aside / secrets.token_hex(12), self.path_of(key))
        except OSError as error:
            raise _failed(error) from error

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See `ObjectStore.read`."""
        try:
            fd = os.open(self.path_of(key), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise _missing(key) from error
        except OSError as error:
            raise _failed(error) from error
        try:
            wanted = os.fstat(fd).st_size - start if length is None else length
            return _pread(fd, wanted, start, key)
        except OSError as error:
            raise _failed(error) from error
        finally:
            os.close(fd)

    def view(self, key: str, start: int, length: int) -> memoryview:
        """`length` bytes from `start` as mapped memory: nothing is copied or held.

        Raises as `read` does. The mapping lives as long as the view.
        """
        try:
            with self.path_of(key).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < start + length:
                    raise _short(key, size, start + length)
                if not length:
                    return memoryview(b"")
                page = start - start % mmap.ALLOCATIONGRANULARITY
                mapped = mmap.mmap(
                    file.fileno(), start + length - page, access=mmap.ACCESS_READ, offset=page
                )
        except FileNotFoundError as error:
            raise _missing(key) from error
        except OSError as error:
            raise _failed(error) from error
        return memoryview(mapped)[start - page :]

    def size(self, key: str) -> int:
        """See `ObjectStore.size`."""
        try:
            return self.path_of(key).stat().st_size
        except FileNotFoundError as error:
            raise _missing(key) from error

    def delete(self, key: str) -> None:
        """See `ObjectStore.delete`."""
        path = self.path_of(key)
        try:
            path.unlink(missing_ok=True)
            sync_directory(path.parent)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _failed(error) from error

    def keys(self, prefix: str) -> Iterator[StoredObject]:
        """See `ObjectStore.keys`."""
        for folder, folders, names in os.walk(self._folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                path = Path(folder, name)
                key = path.relative_to(self._folder).as_posix()
                if key.startswith(prefix):
                    yield StoredObject(key, path.stat().st_size)

    def path_of(self, key: str) -> Path:
        """The file of an object; raises Invalid `objects.key`."""
        parts = key.split("/")
        if not key or any(part in ("", ".", "..") or part.startswith(".") for part in parts):
            raise Invalid("objects.key", "{key} is no object key", key=key)
        return self._folder.joinpath(*parts)


class _FileWriter:
    def __init__(self, aside: Path, path: Path) -> None:
        self._aside = aside
        self._path = path
        self._size = 0
        self._file = aside.open("xb", buffering=1 << 20)

    def write(self, part: bytes | memoryview) -> None:
        try:
            self._file.write(part)
        except OSError as error:
            raise _failed(error) from error
        self._size += len(part)

    def commit(self) -> int:
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            if not self._path.parent.is_dir():
                self._path.parent.mkdir(parents=True, exist_ok=True)
                for folder in list(self._path.parents)[1:3]:
                    sync_directory(folder)
            self._aside.rename(self._path)
            sync_directory(self._path.parent)
        except OSError as error:
            raise _failed(error) from error
        return self._size

    def abort(self) -> None:
        try:
            self._file.close()
            self._aside.unlink(missing_ok=True)
        except OSError:
            return  # what is left aside is swept by its age


def _pread(fd: int, length: int, start: int, key: str) -> bytes:
    """`length` bytes at `start`; a short file is an error, never a short answer."""
    data = os.pread(fd, length, start)
    if len(data) == length:
        return data
    pieces = [data]
    have = len(data)
    while data and have < length:
        data = os.pread(fd, length - have, start + have)
        pieces.append(data)
        have += len(data)
    if have < length:
        raise _short(key, start + have, start + length)
    return b"".join(pieces)


def _short(key: str, end: int, wanted: int) -> Unavailable:
    return Unavailable(
        "objects.short",
        "object {key} ends at byte {end}, {wanted} were asked for",
        key=key,
        end=end,
        wanted=wanted,
    )


def _missing(key: str) -> NotFound:
    return NotFound("objects.missing", "object {key} is not in its store", key=key)


def _failed(error: OSError) -> Unavailable:
    return Unavailable("objects.failed", "the object store failed: {why}", why=str(error))
