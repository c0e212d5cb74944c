"""What the archive asks of an object store.

Calls block and are made from threads. Keys hold a random part and are never used again: an object
never changes once it is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol


class StoredObject(NamedTuple):
    """An object in a listing; `size` in bytes."""

    key: str
    size: int


class ObjectWriter(Protocol):
    """An object being written; nothing is visible under its key before `commit`."""

    def write(self, part: bytes | memoryview) -> None:
        """Append `part`. Raises `Unavailable('objects.failed')`."""

    def commit(self) -> int:
        """Make the object durable and visible; return its size in bytes."""

    def abort(self) -> None:
        """Forget what was written; never raises."""


class ObjectStore(Protocol):
    """Immutable objects by key."""

    name: str

    def create(self, key: str) -> ObjectWriter:
        """Begin a new object."""

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """`length` bytes from `start`, or all the rest.

        Raises `NotFound('objects.missing')` or `Unavailable('objects.failed')`; a range that
        reaches beyond the end is `Unavailable('objects.short')`.
        """

    def size(self, key: str) -> int:
        """The size of an object in bytes; raises as `read` does."""

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""

    def keys(self, prefix: str) -> Iterator[StoredObject]:
        """The objects whose key begins with `prefix`, in any order."""
