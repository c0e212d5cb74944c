"""The rebuild's notes, in a temporary SQLite file: what packs and segments hold, and in which order
to feed it.

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
    id INTEGER PRIMARY KEY, source INTEGER, owner_id INTEGER, kind TEXT, uid TEXT,
    received_ms INTEGER, rank INTEGER, same TEXT, created_ms INTEGER, deleted INTEGER, fields TEXT
);
CREATE TABLE held (
    owner_id INTEGER, uid TEXT, received_ms INTEGER, length INTEGER,
    PRIMARY KEY (owner_id, uid, received_ms, length)
) WITHOUT ROWID;
CREATE TABLE metadata (
    key TEXT, owner_id INTEGER, study TEXT, series TEXT, created_ms INTEGER, size INTEGER,
    sha256 BLOB, uids TEXT
);
"""

# Of an instance there is one, of a version one for each time it was received, of a quarantined
# file one for each content. A journal record that lies in a pack too was settled. One that a
# decision covers is fed all the same where an earlier instance of its UID is there: then it is a
# version of that, and goes when that goes.
_CHOOSE = """
CREATE INDEX entry_uid ON entry (kind, owner_id, uid);
CREATE TABLE best AS SELECT * FROM (
    SELECT id, owner_id, kind, uid, received_ms, rank, row_number() OVER (
        PARTITION BY owner_id, kind, uid, same ORDER BY created_ms DESC, id
    ) AS place FROM entry WHERE kind NOT IN ('record', 'refused')
) WHERE place = 1;
CREATE INDEX best_uid ON best (kind, owner_id, uid);
CREATE TABLE feed AS
SELECT b.id, max(b.received_ms, coalesce(i.received_ms, 0)) AS at, b.kind = 'version' AS later,
       b.rank
FROM best b LEFT JOIN best i
    ON b.kind = 'version' AND i.kind = 'instance' AND i.owner_id = b.owner_id AND i.uid = b.uid
UNION ALL
SELECT r.id, max(r.received_ms, coalesce(i.received_ms, 0)), i.id IS NOT NULL, r.rank
FROM entry r LEFT JOIN best i
    ON r.kind = 'record' AND i.kind = 'instance' AND i.owner_id = r.owner_id AND i.uid = r.uid
WHERE r.kind IN ('record', 'refused') AND NOT EXISTS (
    SELECT 1 FROM held h WHERE h.owner_id = r.owner_id AND h.uid = r.uid
        AND h.received_ms = r.received_ms AND h.length = json_extract(r.fields, '$.length')
) AND (r.deleted = 0 OR i.received_ms <= r.received_ms OR EXISTS (
    SELECT 1 FROM entry o WHERE o.kind = 'record' AND o.owner_id = r.owner_id AND o.uid = r.uid
        AND o.deleted = 0 AND o.received_ms <= r.received_ms
));
"""
_FEED = """
SELECT e.source, e.owner_id, e.fields FROM feed f JOIN entry e ON e.id = f.id
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

    def add_pack(
        self, checked: CheckedPack, wanted: Iterable[ManifestEntry], intact: Iterable[ManifestEntry]
    ) -> None:
        """Note a pack: those of its files that are to be indexed, and all that are intact."""
        manifest = checked.manifest
        row = (checked.key, manifest.owner_id, manifest.created_ms, checked.size, checked.sha256)
        pack_id = self._db.execute(
            "INSERT INTO pack (key, owner_id, created_ms, size, sha256) VALUES (?, ?, ?, ?, ?)", row
        ).lastrowid
        for entry in wanted:
            same = _same(entry)
            self._add(pack_id or 0, manifest.owner_id, entry.kind, entry, same, manifest.created_ms)
        self._db.executemany(
            "INSERT OR IGNORE INTO held VALUES (?, ?, ?, ?)",
            [
                (manifest.owner_id, entry.sop_instance_uid, entry.received_ms, entry.length)
                for entry in intact
            ],
        )

    def add_record(
        self, source: int, owner_id: int, entry: ManifestEntry, *, deleted: bool
    ) -> None:
        """Note a journal record; `source`, below zero, numbers its segment.

        One with a reason was refused by the index and belongs into quarantine.
        """
        kind = "refused" if entry.reason else "record"
        self._add(source, owner_id, kind, entry, "", 0, deleted=deleted)

    def _add(
        self,
        source: int,
        owner_id: int,
        kind: str,
        entry: ManifestEntry,
        same: str,
        created_ms: int,
        *,
        deleted: bool = False,
    ) -> None:
        row = (
            source,
            owner_id,
            kind,
            entry.sop_instance_uid,
            entry.received_ms,
            entry.order,
            same,
            created_ms,
            int(deleted),
            json.dumps(asdict(entry), ensure_ascii=False),
        )
        self._db.execute(
            "INSERT INTO entry (source, owner_id, kind, uid, received_ms, rank, same, created_ms,"
            " deleted, fields) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
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
        """What is to be indexed, in the order of receiving: pack or segment, owner and entry."""
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
