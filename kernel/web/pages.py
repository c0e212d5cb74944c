"""Pages: Jinja2 templates inside the common layout, in the reader's language."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from kernel.errors import Unavailable
from kernel.i18n.catalog import translate
from kernel.web.assets import Assets
from kernel.web.language import language_of
from kernel.web.log import request_id_of

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class NavigationItem:
    """A place in the main menu; `label` is a msgid, `icon` a name in icons.svg."""

    href: str
    label: str
    icon: str


@dataclass(frozen=True, slots=True)
class Person:
    """Who is signed in: the name to show, the token that forms send along, a template's name.

    The template is a menu in the top bar; whoever knows accounts brings it.
    """

    name: str
    csrf: str
    menu: str


PERSON: web.RequestKey[Person] = web.RequestKey("kernel.person", Person)
NAVIGATION: web.AppKey[list[NavigationItem]] = web.AppKey("kernel.navigation", list)
ENVIRONMENT: web.AppKey[Environment] = web.AppKey("kernel.templates", Environment)
ASSETS: web.AppKey[Assets | None] = web.AppKey("kernel.assets")


def setup_pages(app: web.Application) -> None:
    """Prepare the templates; pages answer 503 where the front end was not built."""
    app[ENVIRONMENT] = Environment(
        loader=FileSystemLoader([TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    app[NAVIGATION] = []
    try:
        app[ASSETS] = Assets.load()
    except Unavailable:
        app[ASSETS] = None


def add_templates(app: web.Application, folder: Path) -> None:
    """Find templates in a package's own folder too: `render(request, "browse/studies.html")`."""
    loader = app[ENVIRONMENT].loader
    if isinstance(loader, FileSystemLoader) and str(folder) not in loader.searchpath:
        loader.searchpath.append(str(folder))


def render(
    request: web.Request, template: str, context: Mapping[str, Any], *, status: int = 200
) -> web.Response:
    """A page. Templates also see language, navigation, the person and the assets, as named below.

    Raises Unavailable `web.not_built` where the front end was not built.
    """
    lang, config = language_of(request), request.config_dict
    assets = config[ASSETS]
    if assets is None:
        raise Unavailable("web.not_built", "The pages were not built yet: run make setup.")
    text = (
        config[ENVIRONMENT]
        .get_template(template)
        .render(
            {
                "lang": lang,
                "_": _translator(lang),
                "request": request,
                "request_id": request_id_of(request),
                "navigation": config[NAVIGATION],
                "person": request.get(PERSON),
                "asset_tags": assets.tags,
                "asset_url": assets.url,
                **context,
            }
        )
    )
    return web.Response(
        text=text,
        status=status,
        content_type="text/html",
        headers={
            "Cache-Control": "no-store",
            "Content-Language": lang,
            "Vary": "Accept-Language, Cookie",
        },
    )


def _translator(lang: str) -> Callable[..., str]:
    def gettext(msgid: str, **fields: Any) -> str:
        text = translate(msgid, lang, **fields)
        return Markup(text) if isinstance(msgid, Markup) else text  # noqa: S704 - marked already

    return gettext
