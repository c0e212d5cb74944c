"""Which language an answer is in: `?lang=`, else the cookie, else Accept-Language, else a setting.

An address with `?lang=` sets the cookie, so a link in the page changes the language for good.
"""

from aiohttp import web

from kernel.i18n.catalog import LANGUAGES
from kernel.settings import Settings
from kernel.web.handler import Handler

COOKIE = "lang"
_YEAR_S = 365 * 24 * 3600

SETTINGS: web.AppKey[Settings] = web.AppKey("kernel.settings", Settings)
_LANGUAGE: web.RequestKey[str] = web.RequestKey("kernel.language", str)


def language_of(request: web.Request) -> str:
    """`zh-CN` or `en`."""
    known = request.get(_LANGUAGE)
    if known is None:
        known = request[_LANGUAGE] = choose(
            request.query.get("lang", ""),
            request.cookies.get(COOKIE, ""),
            request.headers.get("Accept-Language", ""),
            request.config_dict[SETTINGS].http.language,
        )
    return known


def choose(query: str, cookie: str, accept: str, default: str) -> str:
    """The language for these wishes, strongest first."""
    for wish in (query, cookie):
        if wish in LANGUAGES:
            return wish
    ranked = sorted(
        (one for one in map(_range, accept.split(",")) if one[1] > 0),
        key=lambda one: -one[1],
    )
    for tag, _ in ranked:
        for language in LANGUAGES:
            if tag.split("-")[0] == language.split("-")[0].lower():
                return language
    return default


@web.middleware
async def keep_language(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Remember a language that was chosen by `?lang=`."""
    response = await handler(request)
    if request.query.get("lang") in LANGUAGES and not response.prepared:
        response.set_cookie(
            COOKIE, language_of(request), max_age=_YEAR_S, samesite="Lax", httponly=True
        )
    return response


def _range(part: str) -> tuple[str, float]:
    tag, _, parameter = part.strip().lower().partition(";")
    weight = parameter.strip().removeprefix("q=")
    try:
        return tag.strip(), float(weight) if parameter else 1.0
    except ValueError:
        return tag.strip(), 0.0
