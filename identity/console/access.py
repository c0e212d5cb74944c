"""Pages about access: who sees what and why, emergency access and its reviews."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from identity.access.domain import Access, explain
from identity.accounts.service import names_of
from identity.break_glass.domain import REVIEW as REVIEW_PERMISSION
from identity.break_glass.domain import USE, VERDICTS
from identity.break_glass.service import (
    Emergency,
    open_glass,
    open_now,
    opened_by,
    review,
    waiting_reviews,
)
from identity.clients.service import client_names
from identity.console.domain import FindStudies, FoundStudy, places
from identity.console.forms import (
    account_of,
    administered,
    attachment,
    database_of,
    form_of,
    form_status,
    number,
    writing,
    wrong,
)
from identity.entitlements.service import entitlements
from identity.entitlements.sheet import as_csv, as_xlsx
from identity.grants.service import load_catalogue, load_rights
from identity.organisations.service import load_tree
from kernel.errors import AppError, Invalid, NotFound
from kernel.i18n.catalog import marked
from kernel.scope import Scope
from kernel.web.guard import PERMISSIONS, requires, scope_of
from kernel.web.language import language_of
from kernel.web.pages import render, see_other

EXPLAIN = "identity.access.explain"
# What one asks about; the other permissions are not about data of patients.
ASKED = (
    "archive.study.search",
    "archive.study.read",
    "archive.study.original",
    "archive.study.store",
    "archive.study.correct",
    "archive.study.delete",
)
LASTS = (15, 30, 60, 120, 240)


# The composition knows where studies are; this room does not.
FIND_STUDIES: web.AppKey[FindStudies] = web.AppKey("identity.console.find_studies")


def setup(app: web.Application, find_studies: FindStudies) -> None:
    """Add the pages; `find_studies` gives the studies of a Study Instance UID, of every owner."""
    app[FIND_STUDIES] = find_studies
    app.router.add_get("/access", access_page)
    app.router.add_post("/access", access_page)
    app.router.add_get("/access/review.{format:xlsx|csv}", review_file)
    app.router.add_get("/break-glass", break_glass_page)
    app.router.add_post("/break-glass", break_glass_page)
    app.router.add_get("/reviews", reviews_page)
    app.router.add_post("/reviews/{review:\\d+}", reviewed)


@requires(EXPLAIN)
async def access_page(request: web.Request) -> web.Response:
    """GET /access: who may do what with the data of an institution; POST answers, with reasons."""
    scope, form = scope_of(request), await form_of(request)
    context: dict[str, Any] = {
        "errors": {},
        "error": "",
        "form": form,
        "answers": [],
        "asked": [(one, PERMISSIONS[one]) for one in ASKED],
    }
    async with database_of(request).session(scope) as session:
        tree = await load_tree(session)
        context["places"] = places(tree, scope, kinds=("institution",), retired=True)
        try:
            if request.method == "POST":
                owners = await _asked_owners(request, scope, form)
                rights = await load_rights(session)
                access = Access(rights, await open_now(session))
                action = form.get("action", "") if form.get("action") in ASKED else ASKED[1]
                reasons = [
                    (owner, explain(access, action, owner.owner_id, time.time()))
                    for owner in owners
                ]
                ids = {one.subject.id for _, some in reasons for one in some}
                context["answers"] = reasons
                context["people"] = await names_of(session, ids)
                context["clients"] = await client_names(session, ids)
                context["roles"] = rights.catalogue.roles
        except AppError as error:
            context |= wrong(request, error, {"access.study": "study", "study.not_found": "study"})
    context["tree"] = tree
    context["place_of"] = {one.path: one.name for one in tree.by_id.values()}
    context["until"] = lambda at: datetime.fromtimestamp(at, UTC)
    status = form_status(context)
    return render(request, "console/access.html", context, status=status)


@requires(EXPLAIN)
async def review_file(request: web.Request) -> web.Response:
    """GET /access/review.{format}: who has which rights where, as a workbook or CSV."""
    scope, lang = await administered(request), language_of(request)
    async with database_of(request).session(scope) as session:
        tree, rows = await load_tree(session), await entitlements(session, scope)
        catalogue = await load_catalogue(session)
    form = request.match_info["format"]
    content = (as_xlsx if form == "xlsx" else as_csv)(rows, tree, catalogue, lang)
    name = f"access-review-{datetime.now(UTC).astimezone():%Y-%m-%d}.{form}"
    return attachment(content, name)


@requires(USE)
async def break_glass_page(request: web.Request) -> web.StreamResponse:
    """GET /break-glass: open an institution's data in an emergency; POST opens them."""
    form, account_id = await form_of(request), account_of(request)
    said: dict[str, Any] = {"errors": {}, "error": ""}
    if request.method == "POST":
        try:
            place, study = await _emergency_place(request, form)
            emergency = Emergency(
                place,
                form.get("reason", ""),
                study,
                60.0 * (number(form.get("minutes", "")) or LASTS[1]),
            )
            async with writing(request) as session:
                await open_glass(session, account_id, emergency, peer=request.remote or "")
        except AppError as error:
            fields = {"break_glass.reason": "reason", "break_glass.place": "place"}
            said = wrong(request, error, fields | {"study.not_found": "study"})
        else:
            words = marked("The data are open. A review waits.")
            raise see_other(f"/studies/{study}" if study else "/studies", words)
    async with database_of(request).session(scope_of(request)) as session:
        tree = await load_tree(session)
        mine = await opened_by(session, account_id)
    context = said | {
        "form": form,
        "study": form.get("study", request.query.get("study", "")),
        "places": places(tree, Scope.system("emergency"), kinds=("institution",), retired=True),
        "mine": mine,
        "tree": tree,
        "lasts": LASTS,
        "verdicts": VERDICTS,
        "now": datetime.now(UTC),
    }
    status = form_status(said)
    return render(request, "console/break_glass.html", context, status=status)


@requires(REVIEW_PERMISSION)
async def reviews_page(request: web.Request) -> web.Response:
    """GET /reviews: emergency accesses that wait for a review."""
    return await _reviews(request, "")


@requires(REVIEW_PERMISSION)
async def reviewed(request: web.Request) -> web.StreamResponse:
    """POST /reviews/{review}: say whether it was justified."""
    form, account_id = await form_of(request), account_of(request)
    try:
        async with writing(request) as session:
            await review(
                session,
                account_id,
                int(request.match_info["review"]),
                form.get("verdict", ""),
                form.get("comment", ""),
            )
    except (Invalid, NotFound) as error:
        return await _reviews(request, wrong(request, error, {})["error"])
    raise see_other("/reviews", marked("The review was written down."))


async def _reviews(request: web.Request, error: str) -> web.Response:
    scope = scope_of(request)
    async with database_of(request).session(scope) as session:
        waiting = await waiting_reviews(session, scope)
        tree = await load_tree(session)
        people = await names_of(session, {one.account_id for one in waiting})
    context = {
        "waiting": waiting,
        "tree": tree,
        "people": people,
        "error": error,
        "now": datetime.now(UTC),
    }
    return render(request, "console/reviews.html", context, status=400 if error else 200)


async def _asked_owners(
    request: web.Request, scope: Scope, form: dict[str, str]
) -> Sequence[FoundStudy]:
    """The owners whose data are asked about: of a study, or of the chosen institution."""
    if form.get("study"):
        found = await request.app[FIND_STUDIES](form["study"])
        seen = [one for one in found if scope.covers(one.owner_id)]
        if not seen:
            raise NotFound("study.not_found", "there is no such study")
        return seen
    place = number(form.get("place", ""))
    if place is None or not scope.covers(place):
        raise Invalid("access.study", "Give the UID of a study, or choose an institution.")
    return [FoundStudy(place, "")]


async def _emergency_place(request: web.Request, form: dict[str, str]) -> tuple[int, str]:
    study, place = form.get("study", ""), number(form.get("place", ""))
    if not study and place is not None:
        return place, ""
    found = await request.app[FIND_STUDIES](study) if study else []
    if len(found) > 1 and place in {one.owner_id for one in found}:
        return place or 0, study
    if not found:
        raise NotFound("study.not_found", "there is no such study")
    return found[0].owner_id, study
