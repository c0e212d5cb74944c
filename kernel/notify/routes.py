"""The outbox as a page, and where carriers say what became of messages."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from kernel.errors import Invalid, NotFound
from kernel.notify import aliyun, tencent
from kernel.notify.domain import PURPOSES, STATES, Report
from kernel.notify.service import Outbox
from kernel.web.guard import PUBLIC, requires
from kernel.web.language import SETTINGS
from kernel.web.pages import add_templates, render

TEMPLATES = Path(__file__).parent / "templates"
OUTBOX: web.AppKey[Outbox] = web.AppKey("kernel.notify.outbox", Outbox)
PAGE = 50
TONES = {"delivered": "good", "failed": "bad", "undelivered": "bad", "expired": "warn"}

_READERS: Mapping[str, tuple[Callable[[Any], list[Report]], Mapping[str, Any]]] = {
    aliyun.NAME: (aliyun.read_reports, aliyun.ACCEPTED),
    tencent.NAME: (tencent.read_reports, tencent.ACCEPTED),
}


def setup(app: web.Application, outbox: Outbox) -> None:
    """Add the routes."""
    app[OUTBOX] = outbox
    add_templates(app, TEMPLATES)
    app.router.add_get("/messages", messages_page)
    app.router.add_post("/messages", messages_page)
    app.router.add_post("/sms/reports/{provider}/{token}", hear_reports)


@requires("system.messages.read")
async def messages_page(request: web.Request) -> web.Response:
    """GET /messages: the short messages, newest first; POST continues the list."""
    form = await request.post() if request.method == "POST" else {}
    after = str(form.get("after", ""))
    before = int(after) if after.isascii() and after.isdigit() and len(after) < 19 else None
    outbox = request.app[OUTBOX]
    found = await outbox.listed(before=before, limit=PAGE)
    context = {
        "messages": found,
        "after": str(found[-1].id) if len(found) == PAGE else "",
        "states": STATES,
        "purposes": PURPOSES,
        "tones": TONES,
        "carrier": outbox.sender.name if outbox.sender else "",
        "shows_texts": outbox.show_texts,
    }
    template = "notify/message_rows.html" if before is not None else "notify/messages.html"
    return render(request, template, context)


@requires(PUBLIC)
async def hear_reports(request: web.Request) -> web.Response:
    """POST /sms/reports/PROVIDER/KEY: a carrier pushes delivery reports.

    The key in the address (`sms.report_key`) is how it shows who it is; it reaches no log.
    """
    key, name = request.config_dict[SETTINGS].sms.report_key, request.match_info["provider"]
    shown = request.match_info["token"].encode()
    if not key or name not in _READERS or not hmac.compare_digest(shown, key.encode()):
        raise NotFound("web.not_found", "There is nothing at this address.")
    read, accepted = _READERS[name]
    try:
        reports = read(json.loads(await request.text()))
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid("sms.report", "These are not delivery reports.") from error
    await request.app[OUTBOX].hear(name, reports)
    return web.json_response(accepted, headers={"Cache-Control": "no-store"})
