"""A number for each request, and one log line without query string when it is over."""

import time
import uuid

import structlog
from aiohttp import web
from structlog.contextvars import bound_contextvars

from kernel.web.handler import Handler

log = structlog.get_logger("kernel.web.access")

_REQUEST_ID: web.RequestKey[str] = web.RequestKey("kernel.request_id", str)

# Parts of a path that open something by themselves; they are not written down.
SECRET_PARTS = frozenset({"token", "code"})


def request_id_of(request: web.Request) -> str:
    """The number under which this request is logged."""
    known: str = request.get(_REQUEST_ID, "")
    return known


@web.middleware
async def log_access(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Number the request, bind the number to all its log lines, and log how it ended."""
    request[_REQUEST_ID] = uuid.uuid4().hex[:16]
    began = time.perf_counter()
    status = 499  # the client went away
    with bound_contextvars(request_id=request[_REQUEST_ID]):
        try:
            response = await handler(request)
            status = response.status
        except web.HTTPException as error:
            status = error.status
            raise
        except Exception:
            status = 500
            raise
        else:
            return response
        finally:
            log.info(
                "http.request",
                method=request.method,
                path=shown_path(request),
                status=status,
                duration_ms=round((time.perf_counter() - began) * 1000, 2),
            )


def shown_path(request: web.Request) -> str:
    """The path for the log; empty where no route matched, since anything may stand there."""
    resource = request.match_info.route.resource
    if resource is None:
        return ""
    if SECRET_PARTS.isdisjoint(request.match_info):
        return request.path
    return resource.canonical
