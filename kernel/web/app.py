"""The web application that packages add their routes to."""

import mimetypes
from pathlib import Path

from aiohttp import web

from kernel.errors import NotFound
from kernel.i18n.catalog import LANGUAGES, translations
from kernel.settings import Settings
from kernel.web.assets import STATIC
from kernel.web.guard import PUBLIC, note_access, requires
from kernel.web.language import SETTINGS, keep_language
from kernel.web.log import log_access
from kernel.web.pages import setup_pages
from kernel.web.problems import answer_errors
from kernel.web.safety import add_headers, check_origin

_HASHED = "public, max-age=31536000, immutable"
_PLAIN = "public, max-age=300"


def make_app(settings: Settings) -> web.Application:
    """An application with errors, logs, headers, pages and /static; the caller sets the rest.

    `app[GUARD]` is needed before the first guarded request; `app[AUDIT]` makes each access leave a
    line. Serve it with `web.AppRunner(app, access_log=None)`: the access log is here.
    """
    for language in LANGUAGES:
        translations(language)
    mimetypes.add_type("text/javascript", ".js")
    mimetypes.add_type("application/wasm", ".wasm")
    app = web.Application(
        middlewares=[log_access, answer_errors, check_origin, keep_language],
        client_max_size=settings.http.max_body_bytes,
    )
    app[SETTINGS] = settings
    setup_pages(app)
    app.on_response_prepare.append(note_access)
    app.on_response_prepare.append(add_headers)
    app.router.add_get("/static/{path:.+}", static_file)
    return app


@requires(PUBLIC)
async def static_file(request: web.Request) -> web.StreamResponse:
    """GET /static/…: a built or plain file; names with a hash may be kept for ever."""
    path = request.match_info["path"]
    file = (STATIC / path).resolve()
    if not file.is_relative_to(STATIC) or not file.is_file() or _hidden(path):
        raise NotFound("web.not_found", "There is nothing at this address.")
    caching = _HASHED if path.startswith("dist/assets/") else _PLAIN
    return web.FileResponse(file, headers={"Cache-Control": caching})


def _hidden(path: str) -> bool:
    return any(part.startswith(".") for part in Path(path).parts)
