"""Routes of STOW-RS (PS3.18 10.5)."""

from __future__ import annotations

import json

from aiohttp import web

from archive.journal.domain import Origin
from dataset.refs import parse_uid
from dicomweb.media import DICOM_JSON, JSON, Offer, choose, parse_accept
from dicomweb.requests import accept_of
from dicomweb.services import RECEIVER, ROOT, service_url
from dicomweb.store.domain import status_of
from dicomweb.store.service import boundary_of, owner_for, store_parts
from dicomweb.store.wire import response_module
from kernel.web.guard import requires, scope_of

OFFERS = (Offer(DICOM_JSON), Offer(JSON))


def setup(app: web.Application) -> None:
    """Add the store routes."""
    app.router.add_post(f"{ROOT}/studies", store)
    app.router.add_post(f"{ROOT}/studies/{{study}}", store)


@requires("archive.study.store")
async def store(request: web.Request) -> web.Response:
    """POST /studies, /studies/{study}: store the instances of the body."""
    named = request.match_info.get("study")
    study = None if named is None else parse_uid(named)
    offer = choose(parse_accept(accept_of(request)), OFFERS)
    boundary = boundary_of(request.headers.get("Content-Type", ""))
    scope = scope_of(request)
    origin = Origin(
        owner_id=owner_for(scope),
        via="stow",
        source=scope.actor.id,
        peer=request.remote or "",
    )
    results = await store_parts(request.app[RECEIVER], origin, request.content, boundary, study)
    module = response_module(results, service_url(request), study)
    status = status_of(results)
    headers = {"Retry-After": "30"} if status == 503 else {}
    return web.Response(
        status=status,
        body=json.dumps(module, ensure_ascii=False).encode("utf-8", "replace"),
        content_type=offer.media_type,
        headers=headers,
    )
