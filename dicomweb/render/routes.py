"""Routes of rendered resources and thumbnails (PS3.18 Tables 10.4.1-3, 10.4.1-4)."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web

from archive.retrieve.domain import StoredInstance
from dataset.refs import InstanceRef
from dicomweb.answers import Part, send_multipart, warning
from dicomweb.media import choose, parse_accept
from dicomweb.pixels.frame import CannotDisplay
from dicomweb.pixels.images import Image
from dicomweb.render.domain import RenderRequest, parse_render, render_offers
from dicomweb.render.service import render_frame, representative
from dicomweb.requests import accept_of, etag_matches, instance_of, ref_of
from dicomweb.retrieve.domain import parse_frames
from dicomweb.services import CODECS, IMAGES, READER, ROOT, service_url
from kernel.i18n.catalog import marked
from kernel.web.guard import requires, scope_of


def setup(app: web.Application) -> None:
    """Add the routes of rendered resources."""
    study = f"{ROOT}/studies/{{study}}"
    series = f"{study}/series/{{series}}"
    instance = f"{series}/instances/{{instance}}"
    frames = f"{instance}/frames/{{frames}}"
    for resource in (instance, frames):
        app.router.add_get(f"{resource}/rendered", rendered)
    for resource in (study, series, instance, frames):
        app.router.add_get(f"{resource}/thumbnail", thumbnail)


@requires("archive.study.read", fold=True)
async def rendered(request: web.Request) -> web.StreamResponse:
    """GET …/instances/{instance}[/frames/{frames}]/rendered

    An instance with several frames is shown by its first one.
    """
    wanted = parse_render(request.query)
    numbers = parse_frames(request.match_info.get("frames", "1"))
    offer = choose(parse_accept(accept_of(request)), render_offers(single=len(numbers) == 1))
    (instance, *_) = await request.app[READER].find(scope_of(request), instance_of(request))
    headers = _headers(request, instance, wanted, offer.media_type)
    if etag_matches(request, headers["ETag"]):
        return web.Response(status=304, headers=headers)
    image = await request.app[IMAGES].describe(instance)
    if offer.multipart:
        parts = [_part(request, image, number, wanted, offer.media_type) for number in numbers]
        return await send_multipart(request, offer.media_type, parts, headers)
    return await _picture(request, image, numbers[0], wanted, offer.media_type, headers)


@requires("archive.study.read", fold=True)
async def thumbnail(request: web.Request) -> web.StreamResponse:
    """GET …/thumbnail of a study, series, instance or frame: one small picture."""
    wanted = parse_render(request.query, thumbnail=True)
    numbers = parse_frames(request.match_info.get("frames", "1"))
    offer = choose(parse_accept(accept_of(request)), render_offers(single=True)[:2])
    ref = ref_of(request)
    found = await request.app[READER].find(scope_of(request), ref)
    candidates = found[:1] if isinstance(ref, InstanceRef) else representative(found)
    headers = _headers(request, candidates[0], wanted, offer.media_type)
    if etag_matches(request, headers["ETag"]):
        return web.Response(status=304, headers=headers)
    reason: CannotDisplay | None = None
    for instance in candidates:
        try:
            image = await request.app[IMAGES].describe(instance)
            number = numbers[0] if "frames" in request.match_info else len(image.frames) // 2 + 1
            return await _picture(request, image, number, wanted, offer.media_type, headers)
        except CannotDisplay as error:
            reason = reason or error
    raise reason or CannotDisplay("pixels.none", marked("There is no image here."))


async def _picture(
    request: web.Request,
    image: Image,
    number: int,
    wanted: RenderRequest,
    media_type: str,
    headers: dict[str, str],
) -> web.Response:
    app = request.app
    data = await render_frame(app[IMAGES], app[CODECS], image, number, wanted, media_type)
    return web.Response(body=data, headers={**headers, "Content-Type": media_type})


def _part(
    request: web.Request, image: Image, number: int, wanted: RenderRequest, media_type: str
) -> Part:
    async def chunks() -> AsyncIterator[bytes]:
        app = request.app
        yield await render_frame(app[IMAGES], app[CODECS], image, number, wanted, media_type)

    return Part(media_type, chunks)


def _headers(
    request: web.Request, instance: StoredInstance, wanted: RenderRequest, media_type: str
) -> dict[str, str]:
    """The tag names the stored bytes; the query string is part of the address already."""
    headers = {
        "ETag": f'"r{instance.etag}-{media_type[6:]}"',
        "Cache-Control": "private, no-cache",
        "Vary": "Accept",
    }
    if wanted.ignored:
        names = ", ".join(wanted.ignored)
        sentence = f"These parameters are not supported and were ignored: {names}."
        headers["Warning"] = warning(f"{service_url(request)}:", [sentence])
    return headers
