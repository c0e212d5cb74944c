"""What every handler reads from a request."""

from __future__ import annotations

from aiohttp import web

from dataset.refs import InstanceRef, SeriesRef, StudyRef
from kernel.errors import Invalid
from kernel.web.guard import require_also


async def wants_original(request: web.Request) -> bool:
    """Whether the stored bytes are asked for, without corrections: `view=original`.

    Raises `Invalid('view.unknown')` for another view, and Denied `access.*` for those who may not
    see it.
    """
    view = request.query.get("view", "")
    if view not in ("", "original"):
        raise Invalid("view.unknown", "There is no view “{view}”.", view=view[:32])
    if view:
        await require_also(request, "archive.study.original")
    return bool(view)


def accept_of(request: web.Request) -> str:
    """What is acceptable: the `accept` query parameter, else the header (PS3.18 8.3.3.1)."""
    asked = request.query.get("accept")
    return asked if asked is not None else ",".join(request.headers.getall("Accept", []))


def accepts_gzip(request: web.Request) -> bool:
    """Whether the client takes gzip as content coding (RFC 9110 12.5.3)."""
    for element in ",".join(request.headers.getall("Accept-Encoding", [])).split(","):
        coding, _, parameter = element.partition(";")
        if coding.strip().lower() in ("gzip", "x-gzip", "*"):
            quality = parameter.partition("=")[2].strip()
            return quality.rstrip("0") not in ("0.", "") if quality else True
    return False


def ref_of(request: web.Request) -> StudyRef | SeriesRef | InstanceRef:
    """The study, series or instance of the path.

    Raises:
        Invalid: `uid.invalid`.
    """
    path = request.match_info
    if "instance" in path:
        return instance_of(request)
    if "series" in path:
        return SeriesRef.parse(path["study"], path["series"])
    return StudyRef.parse(path["study"])


def instance_of(request: web.Request) -> InstanceRef:
    """The instance of the path; raises `Invalid('uid.invalid')`."""
    path = request.match_info
    return InstanceRef.parse(path["study"], path["series"], path["instance"])


def etag_matches(request: web.Request, etag: str) -> bool:
    """Whether the client already has what the quoted entity tag names (RFC 9110 13.1.2)."""
    return any(tag.value in ("*", etag.strip('"')) for tag in request.if_none_match or ())
