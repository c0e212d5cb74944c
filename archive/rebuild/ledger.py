"""The rebuild's notes, in a temporary SQLite file: what every pack holds, and in which order to
feed it.

An archive has more instances than fit into memory, and a pack that was merged or settled anew
stands beside the ones it replaced: of each instance the newest pack's copy counts.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from archive.scrub.check import CheckedMetadata, CheckedPack
from archive.settle.pack import ManifestEntry

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE listed (key TEXT PRIMARY KEY, size INTEGER) WITHOUT ROWID;
CREATE TABLE pack (
    id INTEGER PRIMARY KEY, key TEXT, owner_id INTEGER, created_ms INTEGER, size INTEGER,
    sha256 BLOB
);
CREATE TABLE entry (
    id INTEGER PRIMARY KEY, pack_id INTEGER, owner_id INTEGER, kind TEXT, uid TEXT,
    received_ms INTEGER, rank INTEGER, same TEXT, created_ms INTEGER, fields TEXT
);
CREATE TABLE metadata (
    key TEXT, owner_id INTEGER, study TEXT, series TEXT, created_ms INTEGER, size INTEGER,
    sha256 BLOB, uids TEXT
);
"""

# Of an instance there is one, of a version one for each time it was received, of a quarantined
# file one for each content.
_CHOOSE = """
CREATE TABLE feed AS
WITH best AS (
    SELECT id, pack_id, owner_id, kind, uid, received_ms, rank, row_number() OVER (
        PARTITION BY owner_id, kind, uid, same ORDER BY created_ms DESC, id
    ) AS place FROM entry
)
SELECT b.id, max(b.received_ms, coalesce(i.received_ms, 0)) AS at, b.kind = 'version' AS later,
       b.rank
FROM best b LEFT JOIN best i
    ON b.kind = 'version' AND i.kind = 'instance' AND i.place = 1
    AND i.owner_id = b.owner_id AND i.uid = b.uid
WHERE b.place = 1;
"""
_FEED = """
SELECT e.pack_id, e.owner_id, e.fields FROM feed f JOIN entry e ON e.id = f.id
ORDER BY f.at, f.later, f.rank, f.id
"""


class PackNote(NamedTuple):
    """A pack that the index does not know; `id` numbers it in the ledger."""

    id: int
    key: str
    owner_id: int
    created_ms: int
    size: int
    sha256: bytes


class MetadataNote(NamedTuple):
    """A metadata object that the index does not know."""

    key: str
    owner_id: int
    study_instance_uid: str
    series_instance_uid: str
    created_ms: int
    size: int
    sha256: bytes
    uids: frozenset[str]


class Ledger:
    """One rebuild's notes; `close` removes the file. Calls block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink(missing_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Forget everything."""
        self._db.close()
        self._path.unlink(missing_ok=True)

    def list_objects(self, objects: Iterable[tuple[str, int]]) -> None:
        """Note which objects are in the store."""
        self._db.executemany("INSERT OR IGNORE INTO listed VALUES (?, ?)", objects)

    def is_listed(self, key: str) -> bool:
        """Whether an object was in the store when it was listed."""
        found = self._db.execute("SELECT 1 FROM listed WHERE key = ?", (key,)).fetchone()
        return found is not None

    def listed(self, prefix: str) -> list[str]:
        """The keys below `prefix`, in order."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        rows = self._db.execute(
            "SELECT key FROM listed WHERE key >= ? AND key < ? ORDER BY key", (prefix, end)
        )
        return [row[0] for row in rows]

    def add_pack(self, checked: CheckedPack, entries: Iterable[ManifestEntry]) -> None:
        """Note a pack and those of its entries that are to be indexed."""
        manifest = checked.manifest
        row = (checked.key, manifest.owner_id, manifest.created_ms, checked.size, checked.sha256)
        pack_id = self._db.execute(
            "INSERT INTO pack (key, owner_id, created_ms, size, sha256) VALUES (?, ?, ?, ?, ?)", row
        ).lastrowid
        self._db.executemany(
            "INSERT INTO entry (pack_id, owner_id, kind, uid, received_ms, rank, same, created_ms,"
            " fields) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    pack_id,
                    manifest.owner_id,
                    entry.kind,
                    entry.sop_instance_uid,
                    entry.received_ms,
                    entry.order,
                    _same(entry),
                    manifest.created_ms,
                    json.dumps(asdict(entry), ensure_ascii=False),
                )
                for entry in entries
            ],
        )

    def choose(self) -> int:
        """Choose of every file the copy that counts; returns how many there are."""
        self._db.executescript(_CHOOSE)
        return int(self._db.execute("SELECT count(*) FROM feed").fetchone()[0])

    def packs(self) -> list[PackNote]:
        """The packs noted."""
        rows = self._db.execute("SELECT id, key, owner_id, created_ms, size, sha256 FROM pack")
        return [PackNote(*row) for row in rows]

    def feed(self, limit: int) -> Iterator[list[tuple[int, int, ManifestEntry]]]:
        """What is to be indexed, in the order of receiving: pack, owner and entry."""
        cursor = self._db.execute(_FEED)
        while rows := cursor.fetchmany(limit):
            yield [(row[0], row[1], ManifestEntry(**json.loads(row[2]))) for row in rows]

    def add_metadata(self, checked: CheckedMetadata) -> None:
        """Note a metadata object."""
        head = checked.head
        row = (
            checked.key,
            head.owner_id,
            head.study_instance_uid,
            head.series_instance_uid,
            head.created_ms,
            checked.size,
            checked.sha256,
            json.dumps(checked.uids),
        )
        self._db.execute("INSERT INTO metadata VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def metadata(self) -> Iterator[MetadataNote]:
        """The metadata objects noted, the newest of each series first."""
        for row in self._db.execute(
            "SELECT * FROM metadata ORDER BY owner_id, study, series, created_ms DESC, key"
        ):
            *fields, uids = row
            yield MetadataNote._make([*fields, frozenset(json.loads(uids))])


def _same(entry: ManifestEntry) -> str:
    if entry.kind == "instance":
        return ""
    if entry.kind == "version":
        return f"{entry.received_ms} {entry.length} {entry.sha256}"
    return entry.sha256
