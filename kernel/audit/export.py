"""Audit rows as a file: JSON lines with the proof of the chain, or CSV for a spreadsheet."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from kernel.audit.sealed import SEALED, STREAM, pair
from kernel.audit.search import Place, Question, find, sees_all
from kernel.audit.volumes import head_line, to_line
from kernel.db.database import Database
from kernel.ledger.domain import Head
from kernel.ledger.service import find_stream, pages
from kernel.scope import Scope
from kernel.sheets import BEGIN, csv_line

CSV_COLUMNS = ("seq", *SEALED)


async def proven_lines(
    database: Database, scope: Scope, question: Question
) -> AsyncIterator[bytes]:
    """The sealed rows that answer the question, as JSON lines that prove themselves.

    The file begins with the hash before the first line. Between rows of the answer stand the bare
    links of the others, so that the chain can be followed; nothing of those rows can be read.
    """
    async with database.session(scope) as session:
        every = await sees_all(session, scope)
    owners = None if every else scope.owners
    stream = await find_stream(database, STREAM)
    if stream is None:
        return
    last = stream.base
    begun = False
    waiting: list[bytes] = []
    async for page in pages(database, stream, stream.base.seq, stream.head.seq):
        for entry, row in (await pair(database, page)).pairs:
            fields = row.fields if row is not None else None
            wanted = fields is not None and _answers(fields, question, owners)
            if wanted and not begun:
                begun = True
                yield head_line(last)
            if begun:
                waiting.append(to_line(entry, fields if wanted else None))
            if wanted:
                yield b"".join(waiting)
                waiting.clear()
            last = Head(entry.seq, entry.hash)


async def csv_lines(database: Database, scope: Scope, question: Question) -> AsyncIterator[bytes]:
    """The rows that answer the question as CSV (UTF-8 with a mark for spreadsheets)."""
    yield BEGIN + csv_line(CSV_COLUMNS)
    after: Place | None = None
    while True:
        async with database.session(scope) as session:
            page = await find(session, scope, question, after=after, limit=200)
        for row in page.rows:
            values = {name: row[name] for name in CSV_COLUMNS}
            values["at"] = row["at"].astimezone(UTC).isoformat(timespec="milliseconds")
            yield csv_line(values[name] for name in CSV_COLUMNS)
        if page.after is None:
            return
        after = page.after


def _answers(fields: Any, question: Question, owners: frozenset[int] | None) -> bool:
    at = datetime.fromtimestamp(float(fields["at"]), UTC)
    return (
        (owners is None or fields["owner_id"] in owners)
        and (question.since is None or at >= question.since)
        and (question.until is None or at < question.until)
        and question.actor_kind in ("", fields["actor_kind"])
        and question.actor_id in ("", fields["actor_id"])
        and (not question.actions or any(_is(fields["action"], one) for one in question.actions))
        and (not question.outcomes or fields["outcome"] in question.outcomes)
        and question.study_instance_uid in ("", fields["study_instance_uid"])
        and (not question.peer or str(fields["peer"]).partition(":")[0] == question.peer)
    )


def _is(action: str, wanted: str) -> bool:
    return action.startswith(wanted) if wanted.endswith(".") else action == wanted
