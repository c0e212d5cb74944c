"""Pages of organisations: the tree, one of them with its history, changes, workbook in and out."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from identity.console.domain import matches, places, within
from identity.console.forms import (
    PAGE,
    account_of,
    administered,
    attachment,
    database_of,
    day,
    form_of,
    form_status,
    number,
    writing,
    wrong,
)
from identity.organisations import history
from identity.organisations.domain import (
    CLASSES,
    KINDS,
    PARENTS,
    STATES,
    STEPS,
    TRANSITIONS,
    Organisation,
    Tree,
)
from identity.organisations.service import (
    MANAGE,
    Draft,
    create,
    edit,
    find,
    load_tree,
    merge,
    move,
    take_step,
)
from identity.organisations.workbook import COLUMNS, export, template
from identity.pages.routes import IDENTITY
from identity.workbooks.service import ask_import, asked_import
from kernel.errors import AppError, Invalid
from kernel.i18n.catalog import marked
from kernel.jobs import service as jobs
from kernel.jobs.domain import JOB_STATES, Job, is_over
from kernel.scope import Scope
from kernel.web.guard import requires, scope_of
from kernel.web.pages import is_fragment, render, see_other, words_of

READ = "identity.organisation.read"
TONES = {"draft": "info", "active": "good", "suspended": "warn", "retired": "calm"}
CHANGES = {
    "created": marked("Created"),
    "imported": marked("Imported"),
    "renamed": marked("Renamed"),
    "corrected": marked("Corrected"),
    "moved": marked("Moved"),
    "merged": marked("Merged"),
    "activate": marked("Activated"),
    "suspend": marked("Suspended"),
    "resume": marked("Resumed"),
    "retire": marked("Retired"),
}
CONFIRM = {
    "activate": marked("From now on it may send and get data."),
    "suspend": marked("Nothing new is taken from it until it is resumed. What it has stays."),
    "resume": marked("From now on it may send and get data again."),
    "retire": marked("This cannot be undone. What it has stays and can be seen as before."),
}
FIELDS = {
    "organisation.kind": "kind",
    "organisation.parent": "kind",
    "organisation.code": "code",
    "organisation.code_parent": "code",
    "organisation.exists": "code",
    "organisation.name": "name",
    "organisation.class": "institution_class",
    "organisation.uscc": "uscc",
    "organisation.uscc_check": "uscc",
    "organisation.effective": "effective_on",
}


def setup(app: web.Application) -> None:
    """Add the pages."""
    one = "/organisations/{organisation:\\d+}"
    app.router.add_get("/organisations", tree_page)
    app.router.add_post("/organisations", tree_page)
    app.router.add_get("/organisations/new", new_page)
    app.router.add_post("/organisations/new", new_page)
    app.router.add_get("/organisations/import", import_page)
    app.router.add_post("/organisations/import", import_page)
    app.router.add_get("/organisations/import/{job:\\d+}", import_result)
    app.router.add_post("/organisations/import/{job:\\d+}/cancel", import_cancelled)
    app.router.add_get("/organisations/template.xlsx", template_file)
    app.router.add_get("/organisations/export.xlsx", export_file)
    app.router.add_get(one, organisation_page)
    app.router.add_get(one + "/edit", edit_page)
    app.router.add_post(one + "/edit", edit_page)
    app.router.add_get(one + "/move", move_page)
    app.router.add_post(one + "/move", move_page)
    app.router.add_post(one + "/step", step_taken)


@requires(READ)
async def tree_page(request: web.Request) -> web.Response:
    """GET /organisations: the tree; POST searches it by name, code, pinyin and initials."""
    scope, form = await administered(request), await form_of(request)
    async with database_of(request).session(scope) as session:
        tree = await load_tree(session)
    text, start = form.get("text", "")[:100], number(form.get("after", "")) or 0
    seen = within(tree, scope)
    found = [one for one in seen if text and matches(text, one.name, one.short_name, one.code)]
    context = _words() | {
        "text": text,
        "found": found[start : start + PAGE],
        "after": start + PAGE if len(found) > start + PAGE else "",
        "first": start == 0,
        "nodes": _nodes(tree, scope),
        "counts": {kind: sum(1 for one in seen if one.kind == kind) for kind in KINDS},
        "tree": tree,
    }
    template_name = "organisation_rows.html" if is_fragment(request) else "organisations.html"
    return render(request, f"console/{template_name}", context)


@requires(READ)
async def organisation_page(request: web.Request) -> web.Response:
    """GET /organisations/{organisation}: what it is, what is below it, what it was."""
    scope = await administered(request)
    async with database_of(request).session(scope) as session:
        tree = await load_tree(session)
        one = find(tree, _number(request), scope)
        versions = await history.history(session, one.id)
    steps = [(step, CONFIRM[step]) for state, step in TRANSITIONS if state == one.state]
    context = _words() | {
        "one": one,
        "above": _above(tree, one, scope),
        "children": tree.children(one.id),
        "steps": steps,
        "versions": list(reversed(versions)),
        "merged_into": tree.by_id.get(one.merged_into_id or 0),
        "may_have_below": any(one.kind in parents for parents in PARENTS.values()),
    }
    return render(request, "console/organisation.html", context)


@requires(MANAGE)
async def new_page(request: web.Request) -> web.StreamResponse:
    """GET /organisations/new: the form of a new one; POST makes it."""
    scope, form = await administered(request), await form_of(request)
    said: dict[str, Any] = {"errors": {}, "error": ""}
    if request.method == "POST":
        try:
            draft = Draft(
                form.get("kind", ""),
                form.get("code", ""),
                form.get("name", ""),
                form.get("short_name", ""),
                form.get("uscc", ""),
                form.get("institution_class", ""),
            )
            parent_id = number(form.get("parent", ""))
            async with writing(request) as session:
                made = await create(session, scope, draft, parent_id, state="active")
        except AppError as error:
            said = wrong(request, error, FIELDS)
        else:
            raise see_other(f"/organisations/{made.id}", marked("The organisation was created."))
    async with database_of(request).session(scope) as session:
        tree = await load_tree(session)
    chosen = form.get("parent", request.query.get("parent", ""))
    parent = tree.by_id.get(int(chosen)) if chosen.isascii() and chosen.isdigit() else None
    kinds = [kind for kind in KINDS if parent is None or parent.kind in PARENTS[kind]]
    context = (
        _words()
        | said
        | {
            "form": form,
            "parents": places(tree, scope, kinds=("prefecture", "county", "institution")),
            "parent": chosen,
            "kind": form.get("kind", kinds[0] if parent and kinds else "institution"),
            "choices": kinds,
        }
    )
    return render(request, "console/organisation_form.html", context, status=form_status(said))


@requires(MANAGE)
async def edit_page(request: web.Request) -> web.StreamResponse:
    """GET …/edit: rename it or correct its facts; POST does it."""
    scope, form = await administered(request), await form_of(request)
    said: dict[str, Any] = {"errors": {}, "error": ""}
    if request.method == "POST":
        names = ("name", "short_name", "uscc", "institution_class")
        try:
            changes = {name: form[name] for name in names if name in form}
            since = day(form.get("effective_on", ""))
            async with writing(request) as session:
                await edit(session, scope, _number(request), changes, effective_on=since)
        except AppError as error:
            said = wrong(request, error, FIELDS | {"organisation.exists": "uscc"})
        else:
            raise see_other(f"/organisations/{_number(request)}", marked("The change was saved."))
    async with database_of(request).session(scope) as session:
        tree = await load_tree(session)
        one = find(tree, _number(request), scope)
    context = _words() | said | {"one": one, "form": form, "above": _above(tree, one, scope)}
    return render(request, "console/organisation_edit.html", context, status=form_status(said))


@requires(MANAGE)
async def move_page(request: web.Request) -> web.StreamResponse:
    """GET …/move: put it below another one, or let it go up into one of its kind; POST does it."""
    scope, form = await administered(request), await form_of(request)
    said: dict[str, Any] = {"errors": {}, "error": ""}
    one_id = _number(request)
    if request.method == "POST":
        try:
            target = number(form.get("target", ""))
            since = day(form.get("effective_on", ""))
            act = {"move": move, "merge": merge}.get(form.get("do", ""))
            if target is None or act is None:
                raise Invalid("organisation.target", "Choose where it goes.")
            async with writing(request) as session:
                await act(session, scope, one_id, target, effective_on=since)
        except AppError as error:
            said = wrong(request, error, {"organisation.target": "target"})
        else:
            words = marked("It was merged.") if form["do"] == "merge" else marked("It was moved.")
            raise see_other(f"/organisations/{one_id}", words)
    async with database_of(request).session(scope) as session:
        tree = await load_tree(session)
        one = find(tree, one_id, scope)
    above = [kind for kind in PARENTS[one.kind] if kind]
    peers = [each for each in places(tree, scope, kinds=(one.kind,)) if each[0] != one.id]
    context = (
        _words()
        | said
        | {
            "one": one,
            "above": _above(tree, one, scope),
            "parents": [
                each for each in places(tree, scope, kinds=above) if each[0] != one.parent_id
            ],
            "peers": [(each, name) for each, name, _ in peers],
            "form": form,
        }
    )
    return render(request, "console/organisation_move.html", context, status=form_status(said))


@requires(MANAGE)
async def step_taken(request: web.Request) -> web.StreamResponse:
    """POST …/step: activate, suspend, resume or retire it."""
    scope, form = await administered(request), await form_of(request)
    async with writing(request) as session:
        await take_step(session, scope, _number(request), form.get("step", ""))
    raise see_other(f"/organisations/{_number(request)}", marked("The change was saved."))


@requires(MANAGE)
async def import_page(request: web.Request) -> web.StreamResponse:
    """GET /organisations/import: bring in a workbook; POST lets it be checked, or taken in.

    One bad row and nothing is taken: every bad cell is named with its row.
    """
    if request.method != "POST":
        return _import_page(request)
    account_of(request)
    posted = await request.post()
    sent = posted.get("workbook")
    try:
        if not isinstance(sent, web.FileField):
            raise Invalid("sheet.missing", "Choose a workbook first.")
        content, check_only = sent.file.read(), posted.get("do") != "import"
        async with writing(request) as session:
            job = await ask_import(
                session, scope_of(request), sent.filename, content, check_only=check_only
            )
    except AppError as error:
        return _import_page(request, error=words_of(request, error), status=400)
    raise see_other(f"/organisations/import/{job}")


@requires(MANAGE)
async def import_result(request: web.Request) -> web.Response:
    """GET /organisations/import/{job}: how far one's own import is, then what came of it."""
    async with database_of(request).session(scope_of(request)) as session:
        job = await asked_import(session, account_of(request), int(request.match_info["job"]))
    if is_over(job.state):
        # The pages that one goes on to know what was taken in.
        await request.config_dict[IDENTITY].guard.look()
    return _import_page(request, job=job)


@requires(MANAGE)
async def import_cancelled(request: web.Request) -> web.StreamResponse:
    """POST /organisations/import/{job}/cancel: stop one's own import."""
    number_of_job = int(request.match_info["job"])
    async with writing(request) as session:
        job = await asked_import(session, account_of(request), number_of_job)
        await jobs.cancel(session, Scope.system("own import"), job.id)
    raise see_other(f"/organisations/import/{job.id}")


def _import_page(
    request: web.Request, *, job: Job | None = None, error: str = "", status: int = 200
) -> web.Response:
    context = {
        "job": job,
        "job_words": JOB_STATES,
        "over": job is not None and is_over(job.state),
        "error": error,
        "columns": COLUMNS,
    }
    name = "import_result" if job is not None and is_fragment(request) else "organisation_import"
    return render(request, f"console/{name}.html", context, status=status)


@requires(READ)
async def template_file(request: web.Request) -> web.Response:
    """GET /organisations/template.xlsx: a workbook to fill in."""
    return attachment(template(), "organisations-template.xlsx")


@requires(READ)
async def export_file(request: web.Request) -> web.Response:
    """GET /organisations/export.xlsx: what the person sees, as an import takes it back."""
    scope = await administered(request)
    async with database_of(request).session(scope) as session:
        tree = await load_tree(session)
    return attachment(export(within(tree, scope), tree), "organisations.xlsx")


def _number(request: web.Request) -> int:
    return int(request.match_info["organisation"])


def _words() -> dict[str, Any]:
    return {
        "kind_words": KINDS,
        "state_words": STATES,
        "step_words": STEPS,
        "class_words": CLASSES,
        "change_words": CHANGES,
        "tones": TONES,
    }


def _above(tree: Tree, one: Organisation, scope: Scope) -> list[tuple[str, str]]:
    """The pages above: (address, name); without an address where the person may not look."""
    chain = []
    parent_id = one.parent_id
    while parent_id is not None:
        parent = tree.by_id[parent_id]
        seen = scope.covers(parent.id)
        chain.append((f"/organisations/{parent.id}" if seen else "", parent.name))
        parent_id = parent.parent_id
    return [*reversed(chain)]


def _nodes(tree: Tree, scope: Scope) -> list[dict[str, Any]]:
    """The tree of what the scope covers; what stands below none of it is a root."""

    def node(one: Organisation, depth: int) -> dict[str, Any]:
        children = [node(each, depth + 1) for each in tree.children(one.id)]
        return {
            "href": f"/organisations/{one.id}",
            "name": one.name,
            "note": len(children) or one.code,
            "state": "" if one.state == "active" else STATES[one.state],
            "tone": TONES[one.state],
            "here": False,
            "open": depth == 0,
            "children": children,
        }

    seen = within(tree, scope)
    ids = {one.id for one in seen}
    return [node(one, 0) for one in seen if one.parent_id not in ids]
