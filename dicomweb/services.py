"""What the handlers of this package find in the aiohttp application."""

from __future__ import annotations

from aiohttp import web

from archive.decisions.service import Desk
from archive.query.service import Catalog
from archive.receive.service import Receiver
from archive.retrieve.service import Reader
from dicomweb.pixels.images import Images
from dicomweb.pixels.pool import CodecPool

RECEIVER: web.AppKey[Receiver] = web.AppKey("dicomweb.receiver", Receiver)
READER: web.AppKey[Reader] = web.AppKey("dicomweb.reader", Reader)
CATALOG: web.AppKey[Catalog] = web.AppKey("dicomweb.catalog", Catalog)
DESK: web.AppKey[Desk] = web.AppKey("dicomweb.desk", Desk)
CODECS: web.AppKey[CodecPool] = web.AppKey("dicomweb.codecs", CodecPool)
IMAGES: web.AppKey[Images] = web.AppKey("dicomweb.images", Images)

ROOT = "/dicom-web"


def service_url(request: web.Request) -> str:
    """The address under which this client reaches the service, for URLs in answers."""
    return f"{request.url.origin()}{ROOT}"
