"""Pages of accounts: the list, a new one, one of them with its roles and sessions."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from identity.accounts.domain import STATES, STEPS, TRANSITIONS, generate_password
from identity.accounts.passwords import Hashing
from identity.accounts.service import (
    MANAGE,
    NewAccount,
    create_account,
    edit_account,
    get_account,
    list_accounts,
    reset_password,
    take_step,
)
from identity.console.domain import places
from identity.console.forms import (
    PAGE,
    administered,
    database_of,
    day,
    form_of,
    form_status,
    number,
    start_of,
    subject_of,
    writing,
    wrong,
)
from identity.grants.domain import Subject, check_takeover
from identity.grants.service import NewGrant, grant, load_rights, withdraw
from identity.organisations.service import load_tree
from identity.pages.devices import device_name
from identity.pages.routes import IDENTITY
from identity.presence.service import list_live
from identity.sessions.service import end_session, end_sessions, live_sessions
from kernel.errors import AppError
from kernel.i18n.catalog import marked
from kernel.web.guard import requires, scope_of
from kernel.web.pages import is_fragment, render, see_other

GRANT = "identity.role.grant"
TONES = {"active": "good", "suspended": "warn", "left": "calm"}
FIELDS = {
    "account.login": "login",
    "account.exists": "login",
    "account.name": "display_name",
    "account.networks": "networks",
    "organisation.not_found": "organisation_id",
    "form.day": "licence_until",
}
CONFIRM = {
    "suspend": marked("The person is signed out everywhere and cannot sign in until resumed."),
    "resume": marked("The person can sign in again."),
    "leave": marked("This cannot be undone. The person is signed out and never signs in again."),
}
_TEXTS = ("display_name", "title", "licence_number", "practice_scope", "phone", "networks")
_HASHING: web.AppKey[Hashing] = web.AppKey("identity.console.hashing", Hashing)


def setup(app: web.Application) -> None:
    """Add the pages."""
    app[_HASHING] = Hashing()
    one = "/accounts/{account:\\d+}"
    app.router.add_get("/accounts", accounts_page)
    app.router.add_post("/accounts", accounts_page)
    app.router.add_get("/accounts/new", new_page)
    app.router.add_post("/accounts/new", new_page)
    app.router.add_get(one, account_page)
    app.router.add_get(one + "/edit", edit_page)
    app.router.add_post(one + "/edit", edit_page)
    app.router.add_post(one + "/step", step_taken)
    app.router.add_post(one + "/reset", password_reset)
    app.router.add_post(one + "/sign-out", signed_out)
    app.router.add_post(one + "/grants", grant_given)
    app.router.add_post("/grants/{grant:\\d+}/withdraw", grant_withdrawn)
    app.router.add_get("/sessions", sessions_page)
    app.router.add_post("/sessions", sessions_page)
    app.router.add_post("/sessions/{session:\\d+}/end", session_ended)


@requires(MANAGE)
async def accounts_page(request: web.Request) -> web.Response:
    """GET /accounts: people by login name; POST searches them and continues the list."""
    scope, form = await administered(request), await form_of(request)
    text, after = form.get("text", "")[:100], form.get("after", "")
    async with database_of(request).session(scope) as session:
        tree = await load_tree(session)
        found = await list_accounts(session, scope, text=text, after=after, limit=PAGE + 1)
    context = {
        "accounts": found[:PAGE],
        "after": found[PAGE - 1].login if len(found) > PAGE else "",
        "first": not after,
        "text": text,
        "tree": tree,
        "state_words": STATES,
        "tones": TONES,
    }
    template = "account_rows.html" if is_fragment(request) else "accounts.html"
    return render(request, f"console/{template}", context)


@requires(MANAGE)
async def new_page(request: web.Request) -> web.StreamResponse:
    """GET /accounts/new: the form of a new account; POST makes it and shows its password once."""
    scope, form = await administered(request), await form_of(request)
    said: dict[str, Any] = {"errors": {}, "error": ""}
    if request.method == "POST":
        password = generate_password(request.app[IDENTITY].sign_in.policy)
        try:
            facts = _facts(form)
            new = NewAccount(
                form.get("login", ""),
                facts.pop("display_name", ""),
                number(form.get("organisation_id", "")),
                facts=facts,
            )
            hashed = await request.app[_HASHING].hash(password)
            async with writing(request) as session:
                made = await create_account(session, scope, new, hashed)
        except AppError as error:
            said = wrong(request, error, FIELDS)
        else:
            context = {"account": made, "password": password, "fresh": True}
            return render(request, "console/account_password.html", context)
    async with database_of(request).session(scope) as session:
        tree = await load_tree(session)
    context = said | {"form": form, "places": places(tree, scope), "account": None}
    return render(request, "console/account_form.html", context, status=form_status(said))


@requires(MANAGE)
async def account_page(request: web.Request) -> web.Response:
    """GET /accounts/{account}: staff data, roles, and where the person is signed in."""
    return await _account_page(request, {"errors": {}, "error": ""}, {})


@requires(MANAGE)
async def edit_page(request: web.Request) -> web.StreamResponse:
    """GET …/edit: correct staff data and the place of work; POST does it."""
    scope, form = await administered(request), await form_of(request)
    account_id = _number(request)
    said: dict[str, Any] = {"errors": {}, "error": ""}
    if request.method == "POST":
        try:
            changes = {**_facts(form), "organisation_id": number(form.get("organisation_id", ""))}
            async with writing(request) as session:
                await edit_account(session, scope, account_id, changes)
        except AppError as error:
            said = wrong(request, error, FIELDS)
        else:
            raise see_other(f"/accounts/{account_id}", marked("The change was saved."))
    async with database_of(request).session(scope) as session:
        account = await get_account(session, scope, account_id)
        tree = await load_tree(session)
    context = said | {"form": form, "places": places(tree, scope), "account": account}
    return render(request, "console/account_form.html", context, status=form_status(said))


@requires(MANAGE)
async def step_taken(request: web.Request) -> web.StreamResponse:
    """POST …/step: suspend, resume or let leave."""
    scope, form = await administered(request), await form_of(request)
    async with writing(request) as session:
        await take_step(session, scope, _number(request), form.get("step", ""))
    raise see_other(f"/accounts/{_number(request)}", marked("The change was saved."))


@requires(MANAGE)
async def password_reset(request: web.Request) -> web.Response:
    """POST …/reset: a generated password, shown once, to be changed at the next sign-in."""
    scope, policy = await administered(request), request.app[IDENTITY].sign_in.policy
    password = generate_password(policy)
    hashed = await request.app[_HASHING].hash(password)
    account_id = _number(request)
    async with writing(request) as session:
        await get_account(session, scope, account_id)  # elsewhere nobody is told of roles
        rights, by = await load_rights(session), subject_of(scope_of(request))
        check_takeover(rights, by, Subject("account", account_id), time.time())
        account = await reset_password(session, scope, account_id, hashed, policy)
        await end_sessions(session, account.id, "password reset")
    context = {"account": account, "password": password, "fresh": False}
    return render(request, "console/account_password.html", context)


@requires(MANAGE)
async def signed_out(request: web.Request) -> web.StreamResponse:
    """POST …/sign-out: end every session of the person."""
    scope = await administered(request)
    async with writing(request) as session:
        account = await get_account(session, scope, _number(request))
        await end_sessions(session, account.id, "ended by an administrator")
    raise see_other(f"/accounts/{account.id}", marked("The person was signed out everywhere."))


@requires(GRANT)
async def grant_given(request: web.Request) -> web.StreamResponse:
    """POST …/grants: give the person a role at a place for a time; a refusal says why."""
    form, account_id = await form_of(request), _number(request)
    by = subject_of(scope_of(request))
    try:
        new = NewGrant(
            Subject("account", account_id),
            form.get("role", ""),
            number(form.get("place", "")),
            form.get("reason", ""),
            start_of(day(form.get("valid_from", ""))),
            start_of(day(form.get("valid_until", "")), end=True),
        )
        async with writing(request) as session:
            await grant(session, by, new)
    except AppError as error:
        return await _account_page(request, wrong(request, error, {}), form)
    raise see_other(f"/accounts/{account_id}", marked("The role was granted."))


@requires(GRANT)
async def grant_withdrawn(request: web.Request) -> web.StreamResponse:
    """POST /grants/{grant}/withdraw: end a grant now."""
    by = subject_of(scope_of(request))
    async with writing(request) as session:
        ended = await withdraw(session, by, int(request.match_info["grant"]))
    place = f"/accounts/{ended.subject.id}" if ended.subject.kind == "account" else "/clients"
    raise see_other(place, marked("The role was withdrawn."))


@requires(MANAGE)
async def sessions_page(request: web.Request) -> web.Response:
    """GET /sessions: who is signed in where; POST searches it and continues the list."""
    scope, form = await administered(request), await form_of(request)
    before, text = number(form.get("after", "")), form.get("text", "")[:100]
    async with database_of(request).session(scope) as session:
        found = await list_live(session, scope, text=text, before=before, limit=PAGE + 1)
        tree = await load_tree(session)
    context = {
        "sessions": [(one, device_name(one.session.agent)) for one in found[:PAGE]],
        "after": found[PAGE - 1].session.id if len(found) > PAGE else "",
        "first": before is None,
        "text": text,
        "tree": tree,
    }
    template = "session_rows.html" if is_fragment(request) else "sessions.html"
    return render(request, f"console/{template}", context)


@requires(MANAGE)
async def session_ended(request: web.Request) -> web.StreamResponse:
    """POST /sessions/{session}/end: sign a person out on one device."""
    scope, form = await administered(request), await form_of(request)
    async with writing(request) as session:
        account = await get_account(session, scope, number(form.get("account", "")) or 0)
        ended = int(request.match_info["session"])
        await end_session(session, account.id, ended, "ended by an administrator")
    back = form.get("back", "") == "account"
    raise see_other(
        f"/accounts/{account.id}" if back else "/sessions", marked("The session was ended.")
    )


async def _account_page(
    request: web.Request, said: dict[str, Any], form: dict[str, str]
) -> web.Response:
    scope, account_id = await administered(request), _number(request)
    now = time.time()
    async with database_of(request).session(scope) as session:
        account = await get_account(session, scope, account_id)
        tree = await load_tree(session)
        rights = await load_rights(session)
        live = await live_sessions(session, account_id)
    mine = rights.grants.get(Subject("account", account_id), [])
    context = said | {
        "account": account,
        "tree": tree,
        "grants": [(one, rights.catalogue.roles.get(one.role), one.in_force(now)) for one in mine],
        "roles": sorted(rights.catalogue.roles.values(), key=lambda one: one.code),
        "places": places(tree, scope),
        "sessions": [(one, device_name(one.agent)) for one in live],
        "steps": [(step, CONFIRM[step]) for state, step in TRANSITIONS if state == account.state],
        "state_words": STATES,
        "step_words": STEPS,
        "tones": TONES,
        "form": form,
        "until": lambda at: datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d"),
    }
    return render(request, "console/account.html", context, status=form_status(said))


def _facts(form: dict[str, str]) -> dict[str, Any]:
    facts: dict[str, Any] = {name: form[name] for name in _TEXTS if name in form}
    return facts | {"licence_until": day(form.get("licence_until", ""))}


def _number(request: web.Request) -> int:
    return int(request.match_info["account"])
