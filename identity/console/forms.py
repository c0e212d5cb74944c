"""What the pages of this folder share: scope, transaction, forms and their errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from identity.grants.domain import Subject
from identity.pages.routes import IDENTITY
from kernel.db.database import Database
from kernel.errors import AppError, Denied, Invalid
from kernel.scope import Scope
from kernel.web.guard import scope_of
from kernel.web.pages import words_of

TEMPLATES = Path(__file__).parent / "templates"
PAGE = 50
_TYPES = {
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "csv": "text/csv",
}
Form = Mapping[str, str]


def database_of(request: web.Request) -> Database:
    """The database of the running server."""
    return request.config_dict[IDENTITY].database


async def administered(request: web.Request) -> Scope:
    """What who asks administers: everything, without bounds, for a role at the top of the tree."""
    return await request.config_dict[IDENTITY].guard.whole(scope_of(request))


@asynccontextmanager
async def writing(request: web.Request) -> AsyncIterator[AsyncSession]:
    """A transaction within the scope of who asks; this process knows the change at its end.

    Else the page that a form leads to might not be the person's yet.
    """
    async with database_of(request).session(await administered(request), write=True) as session:
        yield session
    await request.config_dict[IDENTITY].guard.look()


async def form_of(request: web.Request) -> dict[str, str]:
    """The posted texts without outer space; nothing for a GET."""
    if request.method != "POST":
        return {}
    posted = await request.post()
    return {name: one.strip() for name, one in posted.items() if isinstance(one, str)}


def subject_of(scope: Scope) -> Subject:
    """Who asks, as one who holds roles. Raises Denied for what is neither person nor program."""
    if scope.actor.kind not in ("session", "client"):
        raise Denied("access.denied", "You may not do this.")
    kind = "account" if scope.actor.kind == "session" else "client"
    return Subject(kind, int(scope.actor.id))


def account_of(request: web.Request) -> int:
    """The account of who asks. Raises Denied for a program: this is for people."""
    subject = subject_of(scope_of(request))
    if subject.kind != "account":
        raise Denied("access.denied", "You may not do this.")
    return subject.id


def wrong(request: web.Request, error: AppError, fields: Mapping[str, str]) -> dict[str, Any]:
    """An error for a form: beside the field that its code belongs to, else above all of them."""
    words = words_of(request, error)
    name = fields.get(error.code)
    said = {"errors": {name: words}, "error": ""} if name else {"errors": {}, "error": words}
    return said | {"status": 403 if isinstance(error, Denied) else 400}


def form_status(said: Mapping[str, Any]) -> int:
    """The status of a page with a form: of what is wrong with it, else 200."""
    return int(said.get("status", 200))


def attachment(content: bytes, name: str) -> web.Response:
    """A file to keep, by the ending of its name."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return web.Response(body=content, content_type=_TYPES[name.rpartition(".")[2]], headers=headers)


def number(text: str) -> int | None:
    """A number of ours, or None for nothing chosen; raises Invalid `form.number`."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise Invalid("form.number", "“{value}” is not a number of ours.", value=text)
    return int(text)


def day(text: str) -> date | None:
    """A day as a date field sends it, or None; raises Invalid `form.day`."""
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise Invalid("form.day", "“{value}” is not a day.", value=text) from error


def start_of(when: date | None, *, end: bool = False) -> float | None:
    """The moment a day begins here, or ends; in seconds since 1970."""
    if when is None:
        return None
    moment = datetime.combine(when, time.max if end else time.min)
    return moment.astimezone().timestamp()
