"""Pages: Jinja2 templates inside the common layout, in the reader's language."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from kernel.errors import AppError, Unavailable
from kernel.i18n.catalog import translate
from kernel.scope import Scope
from kernel.web.assets import Assets
from kernel.web.language import language_of
from kernel.web.log import request_id_of
from kernel.web.words import ago, moment, size

TEMPLATES = Path(__file__).parent / "templates"
# What the next page says once about what was just done: a msgid, never a person's data.
_SAID = "yunying_said"


@dataclass(frozen=True, slots=True)
class NavigationItem:
    """A place in the main menu; `label` is a msgid, `icon` a name in icons.svg.

    It is shown to who has `permission`, in the order of the list.
    """

    href: str
    label: str
    icon: str
    permission: str


@dataclass(frozen=True, slots=True)
class NavigationGroup:
    """Places that belong together; `label` is a msgid, '' for those above all groups."""

    label: str
    items: Sequence[NavigationItem]


@dataclass(frozen=True, slots=True)
class Person:
    """Who is signed in: the name to show, the token that forms send along, a template's name.

    The template is a menu in the top bar; whoever knows accounts brings it. `scope_for` says what
    a permission covers for this person: None is nothing.
    """

    name: str
    csrf: str
    menu: str
    scope_for: Callable[[str], Scope | None]

    def may(self, permission: str) -> bool:
        """Whether the person has a permission anywhere."""
        return self.scope_for(permission) is not None


PERSON: web.RequestKey[Person] = web.RequestKey("kernel.person", Person)
NAVIGATION: web.AppKey[list[NavigationGroup]] = web.AppKey("kernel.navigation", list)
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
    said = "" if is_fragment(request) else unquote(request.cookies.get(_SAID, ""))
    text = (
        config[ENVIRONMENT]
        .get_template(template)
        .render(
            {
                "lang": lang,
                "_": _translator(lang),
                "request": request,
                "request_id": request_id_of(request),
                "navigation": navigation_for(request),
                "person": request.get(PERSON),
                "may": may(request),
                "ago": lambda at: ago(at, lang),
                "moment": moment,
                "size": size,
                "said": translate(said, lang) if said else "",
                "asset_tags": assets.tags,
                "asset_url": assets.url,
                **context,
            }
        )
    )
    response = web.Response(
        text=text,
        status=status,
        content_type="text/html",
        headers={
            "Cache-Control": "no-store",
            "Content-Language": lang,
            "Vary": "Accept-Language, Cookie",
        },
    )
    if said:
        response.del_cookie(_SAID, path="/")
    return response


def may(request: web.Request) -> Callable[[str], bool]:
    """Whether who asks has a permission; a program, which sees no page, is told no."""
    person = request.get(PERSON)
    return person.may if person is not None else lambda _: False


def navigation_for(request: web.Request) -> list[NavigationGroup]:
    """The menu of who asks: what they may open, groups without anything left out."""
    allowed = may(request)
    groups = (
        NavigationGroup(group.label, [item for item in group.items if allowed(item.permission)])
        for group in request.config_dict[NAVIGATION]
    )
    return [group for group in groups if group.items]


def is_fragment(request: web.Request) -> bool:
    """Whether htmx asks for a piece of a page that is open already."""
    return "HX-Request" in request.headers


def see_other(place: str, said: str = "") -> web.HTTPSeeOther:
    """What leads on after a form (303), to be raised; the next page says `said`, a msgid."""
    response = web.HTTPSeeOther(place)
    if said:
        response.set_cookie(_SAID, quote(said), max_age=60, path="/", httponly=True, samesite="Lax")
    return response


def words_of(request: web.Request, error: AppError) -> str:
    """An error in the reader's words."""
    return translate(error.message, language_of(request), **error.fields)


def _translator(lang: str) -> Callable[..., str]:
    def gettext(msgid: str, **fields: Any) -> str:
        text = translate(msgid, lang, **fields)
        return Markup(text) if isinstance(msgid, Markup) else text  # noqa: S704 - marked already

    return gettext
