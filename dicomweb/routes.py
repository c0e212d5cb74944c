"""DICOMweb at /dicom-web, decisions at /api: all routes of this package, and what they need."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web

from archive.decisions.service import Desk
from archive.query.service import Catalog
from archive.receive.service import Receiver
from archive.retrieve.service import Reader
from dicomweb.decide import routes as decide
from dicomweb.pixels.images import Images
from dicomweb.pixels.pool import CodecPool, Limits
from dicomweb.render import routes as render
from dicomweb.retrieve import routes as retrieve
from dicomweb.search import routes as search
from dicomweb.services import CATALOG, CODECS, DESK, IMAGES, READER, RECEIVER
from dicomweb.store import routes as store


def setup(
    app: web.Application,
    *,
    receiver: Receiver,
    reader: Reader,
    catalog: Catalog,
    desk: Desk,
    limits: Limits | None = None,
) -> None:
    """Add QIDO-RS, WADO-RS, STOW-RS, rendered resources and decisions to an application.

    The codec workers live as long as the application runs.
    """
    app[RECEIVER] = receiver
    app[READER] = reader
    app[CATALOG] = catalog
    app[DESK] = desk
    app[IMAGES] = Images(reader)

    async def codecs(running: web.Application) -> AsyncIterator[None]:
        async with CodecPool(limits) as pool:
            running[CODECS] = pool
            yield

    app.cleanup_ctx.append(codecs)
    search.setup(app)
    retrieve.setup(app)
    store.setup(app)
    render.setup(app)
    decide.setup(app)
