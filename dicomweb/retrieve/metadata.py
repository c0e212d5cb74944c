"""GET …/metadata: DICOM JSON of a study, a series or an instance (PS3.18 10.4.1.1.2, Annex F).

A settled series goes out as the gzip bytes that lie in the store, to a client that takes gzip.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from typing import Any

from aiohttp import web

from archive.retrieve.domain import SeriesMetadata
from dataset.refs import InstanceRef, SeriesRef, StudyRef
from dicomweb.media import DICOM_JSON, JSON, Offer, choose, parse_accept
from dicomweb.requests import accept_of, accepts_gzip, etag_matches, ref_of, wants_original
from dicomweb.services import READER
from kernel.scope import Scope
from kernel.web.guard import requires, scope_of

OFFERS = (Offer(DICOM_JSON), Offer(JSON))


@requires("archive.study.read")
async def retrieve_metadata(request: web.Request) -> web.StreamResponse:
    """GET /studies/{study}[/series/{series}[/instances/{instance}]]/metadata

    `view=original` is of what is stored, without corrections.
    """
    offer = choose(parse_accept(accept_of(request)), OFFERS)
    original = await wants_original(request)
    ref, scope, reader = ref_of(request), scope_of(request), request.app[READER]
    if isinstance(ref, InstanceRef):
        return await _instance(request, scope, ref, offer, original=original)
    if isinstance(ref, SeriesRef):
        metadata = await reader.series_metadata(scope, ref, original=original)
        return await _series(request, metadata, offer)
    return await _study(request, scope, ref, offer, original=original)


async def _instance(
    request: web.Request, scope: Scope, ref: InstanceRef, offer: Offer, *, original: bool
) -> web.StreamResponse:
    reader = request.app[READER]
    (instance, *_) = await reader.find(scope, ref)
    view = "-original" if original else ""
    headers = _headers(f"m{instance.etag}{view}", offer)
    if etag_matches(request, headers["ETag"]):
        return web.Response(status=304, headers=headers)
    dataset = await reader.instance_metadata(scope, ref, original=original)
    return web.Response(body=encode([dataset]), headers=headers)


async def _series(
    request: web.Request, metadata: SeriesMetadata, offer: Offer
) -> web.StreamResponse:
    packed = metadata.gzip if accepts_gzip(request) else None
    etag = f"{metadata.etag}-gzip" if packed is not None else metadata.etag
    headers = _headers(etag, offer)
    if etag_matches(request, headers["ETag"]):
        return web.Response(status=304, headers=headers)
    if packed is not None:
        headers["Content-Encoding"] = "gzip"
        return web.Response(body=packed, headers=headers)
    return web.Response(body=await asyncio.to_thread(plain_array, metadata), headers=headers)


async def _study(
    request: web.Request, scope: Scope, ref: StudyRef, offer: Offer, *, original: bool
) -> web.StreamResponse:
    """The series' arrays, one after the other, as one array."""
    reader = request.app[READER]
    instances = await reader.find(scope, ref)
    uids = dict.fromkeys(instance.series_instance_uid for instance in instances)
    every = [
        await reader.series_metadata(scope, SeriesRef(ref, uid), original=original) for uid in uids
    ]
    digest = hashlib.sha256("|".join(one.etag for one in every).encode()).hexdigest()[:32]
    headers = _headers(digest, offer)
    if etag_matches(request, headers["ETag"]):
        return web.Response(status=304, headers=headers)
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    if request.method != "HEAD":
        opening = b"["
        for metadata in every:
            body = (await asyncio.to_thread(plain_array, metadata)).strip()[1:-1]
            if body.strip():
                await response.write(opening + body)
                opening = b","
        await response.write(b"]" if opening == b"," else b"[]")
    await response.write_eof()
    return response


def plain_array(metadata: SeriesMetadata) -> bytes:
    """The JSON array of a series, decompressed or made."""
    if metadata.gzip is not None:
        return gzip.decompress(metadata.gzip)
    return encode(metadata.datasets())


def encode(datasets: list[dict[str, Any]]) -> bytes:
    """DICOM JSON as UTF-8; a lone surrogate, which UTF-8 cannot hold, becomes a question mark."""
    text = json.dumps(datasets, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def _headers(etag: str, offer: Offer) -> dict[str, str]:
    return {
        "Content-Type": offer.media_type,
        "ETag": f'"{etag}"',
        "Cache-Control": "private, no-cache",
        "Vary": "Accept, Accept-Encoding",
    }
