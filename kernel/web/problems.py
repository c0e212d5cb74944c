"""Errors as answers: problem documents (RFC 9457), or a page for people.

`code` is stable and for programs; `title` and `detail` are words in the asker's language.
"""

import asyncio
import json
from collections.abc import Mapping

import structlog
from aiohttp import web

from kernel.errors import AppError, Conflict, Denied, Invalid, NotFound, Unavailable
from kernel.i18n.catalog import marked, translate
from kernel.web.guard import note_broken
from kernel.web.handler import Handler
from kernel.web.language import language_of
from kernel.web.log import request_id_of
from kernel.web.pages import render

log = structlog.get_logger(__name__)

# RFC 9110 section 15 beside each.
STATUS_OF_KIND: Mapping[type[AppError], int] = {
    NotFound: 404,  # 15.5.5
    Denied: 403,  # 15.5.4
    Conflict: 409,  # 15.5.10
    Invalid: 400,  # 15.5.1
    Unavailable: 503,  # 15.6.4
    AppError: 500,  # 15.6.1
}
STATUS_OF_CODE: Mapping[str, int] = {
    "access.unknown": 401,  # 15.5.2: who asks is not known
    "access.citizen": 401,
    "media.not_acceptable": 406,  # 15.5.7
    "media.unsupported": 415,  # 15.5.16
    "web.method": 405,  # 15.5.6
    "web.too_large": 413,  # 15.5.14
    "web.host": 421,  # 15.5.20
    "storage.full": 507,  # RFC 4918 11.5
    # What cannot be displayed has no representation that could be accepted.
    "pixels.attributes": 406,
    "pixels.corrupt": 406,
    "pixels.memory": 406,
    "pixels.none": 406,
    "pixels.syntax": 406,
    "pixels.time": 406,
    "pixels.too_large": 406,
    "pixels.truncated": 406,
    "pixels.unclear": 406,
}
TITLES: Mapping[int, str] = {
    400: marked("The request cannot be understood"),
    401: marked("Please sign in"),
    403: marked("Not allowed"),
    404: marked("Not found"),
    405: marked("Method not allowed"),
    406: marked("Not available in this format"),
    409: marked("It contradicts what is already here"),
    413: marked("Too large"),
    415: marked("This kind of content is not understood"),
    421: marked("Wrong address"),
    500: marked("An internal error"),
    503: marked("Not available at the moment"),
    507: marked("The storage is full"),
}
RETRY_AFTER_S = 5

# What aiohttp itself answers, in our codes.
_HTTP_CODES: Mapping[int, tuple[str, str]] = {
    404: ("web.not_found", marked("There is nothing at this address.")),
    405: ("web.method", marked("This address does not understand the method {method}.")),
    413: ("web.too_large", marked("The request is larger than the server accepts.")),
}


def status_of(error: AppError) -> int:
    """The HTTP status of an error."""
    by_code = STATUS_OF_CODE.get(error.code)
    if by_code is not None:
        return by_code
    return next(STATUS_OF_KIND[kind] for kind in type(error).__mro__ if kind in STATUS_OF_KIND)


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn errors into answers; one after the first byte breaks the connection off instead."""
    try:
        return await handler(request)
    except (ConnectionError, asyncio.CancelledError):  # the asker went away
        note_broken(request, "web.gone")
        raise
    except AppError as error:
        if begun(request):
            note_broken(request, error.code)
            raise
        return problem(request, error)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _of_http(request, error)
    except Exception:
        log.exception("web.failed", method=request.method)
        if begun(request):
            note_broken(request, "web.internal")
            raise
        return problem(request, AppError("web.internal", _INTERNAL))


_INTERNAL = marked("Something went wrong. It was logged under the number of this request.")


def problem(request: web.Request, error: AppError) -> web.Response:
    """The answer for an error: a page where the asker prefers HTML, else a problem document."""
    status, lang = status_of(error), language_of(request)
    body = {
        "type": f"urn:yunying:problem:{error.code}",
        "title": translate(TITLES.get(status, TITLES[500]), lang),
        "status": status,
        "detail": translate(error.message, lang, **error.fields),
        "code": error.code,
        "request_id": request_id_of(request),
    }
    if prefers_html(request.headers.get("Accept", "")):
        try:
            response = render(request, "error.html", {"problem": body}, status=status)
        except Unavailable:  # the pages were not built
            response = _document(body, status)
    else:
        response = _document(body, status)
    response.headers["Content-Language"] = lang
    if status == 401:  # RFC 9110 11.6.1
        response.headers["WWW-Authenticate"] = 'Bearer realm="yunying"'
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def begun(request: web.Request) -> bool:
    """Whether bytes of an answer have been sent."""
    return request.writer.output_size > 0


def prefers_html(accept: str) -> bool:
    """Whether `text/html` is named and at least as welcome as any JSON (RFC 9110 12.5.1)."""
    html, other = 0.0, 0.0
    for part in accept.split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((_quality(one) for one in parameters if one.startswith("q=")), 1.0)
        if media in ("text/html", "application/xhtml+xml"):
            html = max(html, quality)
        elif media.endswith("json"):
            other = max(other, quality)
    return html > 0 and html >= other


def _quality(parameter: str) -> float:
    try:
        return float(parameter[2:])
    except ValueError:
        return 0.0


def _document(body: Mapping[str, object], status: int) -> web.Response:
    text = json.dumps(body, ensure_ascii=False)
    return web.Response(
        text=text,
        status=status,
        content_type="application/problem+json",
        headers={"Cache-Control": "no-store"},
    )


def _of_http(request: web.Request, error: web.HTTPException) -> web.Response:
    code, message = _HTTP_CODES.get(error.status, ("web.refused", error.reason))
    response = problem(request, _Http(code, message, method=request.method))
    response.set_status(error.status)
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


class _Http(AppError):
    pass
