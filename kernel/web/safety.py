"""What keeps other sites out: security headers, and on loopback the check of Host and Origin.

A page of another site must not reach a server on loopback through the visitor's browser: not by
its own name (DNS rebinding, seen in Host) and not by a request across origins (seen in Origin).
"""

import ipaddress

from aiohttp import web
from yarl import URL

from kernel.errors import Denied, Invalid
from kernel.settings import split_address
from kernel.web.handler import Handler
from kernel.web.language import SETTINGS
from kernel.web.log import request_id_of

CSP = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'self';"
    " form-action 'self'; frame-ancestors 'self'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Signal before an answer's headers go out; a header that a handler set stays."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "Yunying"
    response.headers["X-Request-ID"] = request_id_of(request)
    if request.secure:
        response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")


@web.middleware
async def check_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse foreign names (421) and foreign origins (403).

    Names are checked on loopback only; origins there for every request, elsewhere for those that
    change something or open a WebSocket.
    """
    settings = request.config_dict[SETTINGS]
    loopback = is_loopback(settings.http.bind)
    if loopback and _host_name(request) not in _LOOPBACK_NAMES.union(settings.http.hosts):
        raise Invalid("web.host", "This server is not known under the name in the address.")
    origin = request.headers.get("Origin")
    # A WebSocket begins as a GET, and browsers let any site begin one (RFC 6455 10.2).
    changing = request.method not in _SAFE_METHODS or "Upgrade" in request.headers
    checked = loopback or changing
    if origin is not None and checked and not _same(origin, request.host):
        raise Denied("web.origin", "The request comes from a page of another site.")
    return await handler(request)


def is_loopback(bind: str) -> bool:
    """Whether an address `HOST:PORT` can be reached from this machine only."""
    host, _ = split_address(bind)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host_name(request: web.Request) -> str:
    try:
        return URL(f"http://{request.host}").host or ""
    except ValueError:
        return ""


def _same(origin: str, host: str) -> bool:
    try:
        asked = URL(f"{URL(origin).scheme}://{host}").origin()
        return URL(origin).origin() == asked
    except ValueError:
        return False
