"""Routes of QIDO-RS (PS3.18 Table 10.6.1-1)."""

from __future__ import annotations

import json

from aiohttp import web

from dataset.refs import parse_uid
from dicomweb.answers import warning
from dicomweb.media import DICOM_JSON, JSON, Offer, choose, parse_accept
from dicomweb.requests import accept_of
from dicomweb.search.domain import Level, parse_search
from dicomweb.search.service import search
from dicomweb.services import CATALOG, ROOT, service_url
from kernel.web.guard import requires, scope_of

OFFERS = (Offer(DICOM_JSON), Offer(JSON))


def setup(app: web.Application) -> None:
    """Add the search routes."""
    study, series = f"{ROOT}/studies/{{study}}", f"{ROOT}/studies/{{study}}/series/{{series}}"
    app.router.add_get(f"{ROOT}/studies", search_studies)
    app.router.add_get(f"{ROOT}/series", search_series)
    app.router.add_get(f"{study}/series", search_series)
    app.router.add_get(f"{ROOT}/instances", search_instances)
    app.router.add_get(f"{study}/instances", search_instances)
    app.router.add_get(f"{series}/instances", search_instances)


@requires("archive.study.search")
async def search_studies(request: web.Request) -> web.Response:
    """GET /studies"""
    return await _search(request, "STUDY")


@requires("archive.study.search")
async def search_series(request: web.Request) -> web.Response:
    """GET /series, /studies/{study}/series"""
    return await _search(request, "SERIES")


@requires("archive.study.search")
async def search_instances(request: web.Request) -> web.Response:
    """GET /instances, /studies/{study}/instances, /studies/{study}/series/{series}/instances"""
    return await _search(request, "IMAGE")


async def _search(request: web.Request, level: Level) -> web.Response:
    offer = choose(parse_accept(accept_of(request)), OFFERS)
    study, series = request.match_info.get("study"), request.match_info.get("series")
    parsed = parse_search(
        level,
        request.query.items(),
        study=None if study is None else parse_uid(study),
        series=None if series is None else parse_uid(series),
    )
    url = service_url(request)
    answer = await search(request.app[CATALOG], scope_of(request), parsed, url)
    headers = {"Cache-Control": "no-store", "Vary": "Accept"}
    if answer.warnings:
        headers["Warning"] = warning(f"{url}:", answer.warnings)
    body = json.dumps(answer.datasets, ensure_ascii=False, separators=(",", ":"))
    # PS3.18 2026a 10.6.3.1 (CP-2473): a search without results is 200 with an empty list.
    return web.Response(
        body=body.encode("utf-8", "replace"), content_type=offer.media_type, headers=headers
    )
