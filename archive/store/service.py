"""The stores of this node by name, and new keys in the one that settled data goes to."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from archive.journal.node import journal_folder, node_id
from archive.store.domain import ObjectStore
from archive.store.files import LocalFiles
from kernel.settings import Settings

JOURNAL = "journal"


@dataclass(frozen=True, slots=True)
class Stores:
    """`journal` holds the segments of `node`, which is this one; `objects` takes settled data and
    is everybody's. Both are found by name."""

    journal: LocalFiles
    objects: ObjectStore
    node: str = ""

    def named(self, name: str) -> ObjectStore:
        """The store that a `pack_copy` row names."""
        return self.journal if name == JOURNAL else self.objects


def open_stores(settings: Settings) -> Stores:
    """The stores that `settings` name."""
    journal = LocalFiles(journal_folder(settings), JOURNAL)
    if settings.objects.url:
        from archive.store.s3 import S3Store  # noqa: PLC0415 - boto3 costs each start a second

        return Stores(journal, S3Store(settings.objects), node_id(settings))
    return Stores(journal, LocalFiles(settings.data / "objects"), node_id(settings))


def new_key(kind: str, suffix: str) -> str:
    """A key that was never used: ``packs/3f/3f9c….dcmpack``."""
    name = secrets.token_hex(16)
    return f"{kind}/{name[:2]}/{name}{suffix}"
