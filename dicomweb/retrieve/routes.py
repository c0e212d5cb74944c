"""Routes of WADO-RS: whole studies, series and instances (PS3.18 Table 10.4.1-1)."""

from __future__ import annotations

from aiohttp import web

from archive.retrieve.domain import check_named
from dataset.refs import InstanceRef
from dicomweb.answers import send_multipart, send_single
from dicomweb.media import DICOM, parse_accept
from dicomweb.requests import accept_of, etag_matches, ref_of, wants_original
from dicomweb.retrieve.bulkdata import retrieve_bulkdata
from dicomweb.retrieve.frames import retrieve_frames
from dicomweb.retrieve.instances import instance_part, plan
from dicomweb.retrieve.metadata import retrieve_metadata
from dicomweb.services import READER, ROOT
from kernel.web.guard import requires, scope_of


def setup(app: web.Application) -> None:
    """Add the retrieve routes."""
    study = f"{ROOT}/studies/{{study}}"
    series = f"{study}/series/{{series}}"
    instance = f"{series}/instances/{{instance}}"
    for resource in (study, series, instance):
        app.router.add_get(resource, retrieve)
        app.router.add_get(f"{resource}/metadata", retrieve_metadata)
    app.router.add_get(f"{instance}/frames/{{frames}}", retrieve_frames)
    app.router.add_get(f"{instance}/bulkdata/{{path:.+}}", retrieve_bulkdata)


@requires("archive.study.read")
async def retrieve(request: web.Request) -> web.StreamResponse:
    """GET /studies/{study}[/series/{series}[/instances/{instance}]]: the DICOM files.

    `view=original` gives what is stored, without corrections.
    """
    ranges = parse_accept(accept_of(request))
    ref = ref_of(request)
    single = isinstance(ref, InstanceRef)
    original = await wants_original(request)
    found = await request.app[READER].find(scope_of(request), ref)
    instances = found[:1] if single else found
    check_named(instances)
    if original:
        instances = [instance.as_received for instance in instances]
    planned = plan(ranges, instances, single=single)
    headers = {"Vary": "Accept"}
    if single:
        instance, offer = planned[0]
        view = "-original" if original else ""
        headers["ETag"] = f'"i{instance.etag}-{offer.transfer_syntax}{view}"'
        headers["Cache-Control"] = "private, no-cache"
        if etag_matches(request, headers["ETag"]):
            return web.Response(status=304, headers=headers)
    parts = [instance_part(request.app, instance, offer) for instance, offer in planned]
    if not planned[0][1].multipart:
        return await send_single(request, parts[0], headers)
    return await send_multipart(request, DICOM, parts, headers)
