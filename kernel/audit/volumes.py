"""Sealed files: what leaves the audit table goes into one first, and the chain goes on.

A file is gzip of JSON lines: a head line, then a line for each entry with its row. It can be
checked without the database. Files lie in the folder `ledger` of the data folder.
"""

import asyncio
import gzip
import hashlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from kernel.audit.sealed import STREAM, compare, pair
from kernel.db.database import Database
from kernel.errors import Conflict
from kernel.ledger.domain import (
    START,
    Entry,
    Fields,
    Finding,
    Head,
    broken_links,
    digest_of,
)
from kernel.ledger.service import Stream, Volume, pages, volumes

FORMAT = "yunying audit volume 1"
_BLOCK = 1 << 20


async def write_volume(database: Database, stream: Stream, last_seq: int) -> Volume:
    """Write the entries after the base up to `last_seq` with their rows into a new file.

    Raises Conflict `audit.damaged` where a row or link is not as it was sealed: nothing that
    could not be proven later leaves the table.
    """
    folder = database.settings.data / "ledger"
    first, head = stream.base.seq + 1, stream.base
    lines = [head_line(stream.base)]
    async for page in pages(database, stream, stream.base.seq, last_seq):
        paired = await pair(database, page)
        wrong = [compare(entry, row) for entry, row in paired.pairs]
        if any(wrong) or paired.extra or broken_links(stream.name, head, page):
            raise _damaged()
        lines += [to_line(entry, row.fields) for entry, row in paired.pairs if row is not None]
        head = Head(page[-1].seq, page[-1].hash)
    if head.seq != last_seq:
        raise _damaged()
    name = f"{STREAM}-{first:012d}-{last_seq:012d}.jsonl.gz"
    sha256 = await asyncio.to_thread(_write, folder, name, b"".join(lines))
    return Volume(first, last_seq, head.hash, name, sha256)


def to_line(entry: Entry, fields: Fields | None) -> bytes:
    """An entry as a line; without a row (`fields` None) it only carries the chain on."""
    body: dict[str, Any] = {
        "seq": entry.seq,
        "ref": entry.ref,
        "sealed_at": entry.sealed_at,
        "digest": entry.digest.hex(),
        "marks": entry.marks.hex(),
        "hash": entry.hash.hex(),
    }
    if fields is not None:
        body["row"] = dict(fields)
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def head_line(before: Head) -> bytes:
    """The first line of a file whose entries follow `before`."""
    head = {"format": FORMAT, "stream": STREAM, "after": before.seq, "hash": before.hash.hex()}
    return json.dumps(head).encode() + b"\n"


async def check_volumes(
    database: Database, stream: Stream, heads: list[Head]
) -> AsyncIterator[Finding]:
    """What is wrong with the files that hold everything up to the stream's base."""
    before = START
    known = await volumes(database, stream)
    for volume in known:
        if volume.first_seq != before.seq + 1:
            yield Finding("volume_missing", before.seq + 1, last=volume.first_seq - 1)
        file = database.settings.data / "ledger" / volume.file
        kept = [one for one in heads if volume.first_seq <= one.seq <= volume.last_seq]
        good = await asyncio.to_thread(_is_good, file, volume, kept)
        if not good:
            yield Finding("volume_missing", volume.first_seq, volume.file, last=volume.last_seq)
        before = Head(volume.last_seq, volume.last_hash)
    if before.seq != stream.base.seq:
        yield Finding("volume_missing", before.seq + 1, last=stream.base.seq)
    elif before.hash != stream.base.hash:
        yield Finding("rewritten", 1, last=stream.base.seq)


def read_lines(lines: Iterator[bytes]) -> Iterator[Finding | Head]:
    """Check the lines of a file: findings as they come, at the end the head that it leads to.

    Raises ValueError or KeyError for what is not such a file.
    """
    top = json.loads(next(lines, b"{}"))
    if top.get("format") != FORMAT:
        raise ValueError("not a file of audit lines")
    head = Head(top["after"], bytes.fromhex(top["hash"]))
    for line in lines:
        body = json.loads(line)
        entry = Entry(
            body["seq"],
            body["ref"],
            bytes.fromhex(body["digest"]),
            bytes.fromhex(body["marks"]),
            body["sealed_at"],
            bytes.fromhex(body["hash"]),
        )
        yield from broken_links(top["stream"], head, [entry])
        if "row" in body and digest_of(body["row"]) != entry.digest:
            yield Finding("row_changed", entry.seq, entry.ref, body["row"].get("at"))
        head = Head(entry.seq, entry.hash)
    yield head


def _is_good(file: Path, volume: Volume, kept: list[Head]) -> bool:
    """Whether the file is there and as it was written, and its heads are those that were kept."""
    if not file.is_file() or _sha256(file) != volume.sha256:
        return False
    hashes = {one.seq: one.hash for one in kept} | {volume.last_seq: volume.last_hash}
    with gzip.open(file, "rb") as opened:
        next(opened)
        for line in opened:
            body = json.loads(line)
            if hashes.pop(body["seq"], None) not in (None, bytes.fromhex(body["hash"])):
                return False
    return not hashes


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _write(folder: Path, name: str, data: bytes) -> str:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    packed = gzip.compress(data, mtime=0)
    fresh = folder / f"{name}.new"
    with fresh.open("wb") as opened:
        opened.write(packed)
        opened.flush()
        os.fsync(opened.fileno())
    fresh.replace(folder / name)
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(directory)
    os.close(directory)
    return hashlib.sha256(packed).hexdigest()


def _damaged() -> Conflict:
    return Conflict(
        "audit.damaged_chain",
        "The audit is not as it was sealed: run yunying audit verify. Nothing was moved.",
    )
