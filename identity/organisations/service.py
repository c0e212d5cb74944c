"""Use cases of organisations. The session's scope is the caller's: see `kernel.scope`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from identity.changes.service import touch
from identity.organisations import history
from identity.organisations.domain import (
    STATES,
    Organisation,
    Tree,
    check_class,
    check_code,
    check_kind,
    check_name,
    check_uscc,
    covers,
    path_of,
    step,
)
from identity.organisations.tables import organisation
from kernel.audit.domain import AuditRecord
from kernel.audit.service import append
from kernel.db.owners import add_owners, all_owners, move_owners, set_owner_state
from kernel.errors import Conflict, Invalid, NotFound
from kernel.events.service import emit
from kernel.i18n.catalog import Word
from kernel.scope import Scope

MANAGE = "identity.organisation.manage"
CHANGED = "organisation.changed.v1"


@dataclass(frozen=True, slots=True)
class Draft:
    """What a person says about a new organisation."""

    kind: str
    code: str
    name: str
    short_name: str = ""
    uscc: str = ""
    institution_class: str = ""
    valid_from: date | None = None


async def load_tree(session: AsyncSession) -> Tree:
    """All organisations, in two queries. They are global: a scope bounds changes, not this."""
    owners = await all_owners(session)
    rows = await session.execute(select(organisation))
    return Tree(_as_organisation(row._mapping, owners) for row in rows)


def find(tree: Tree, organisation_id: int, scope: Scope) -> Organisation:
    """One organisation within `scope`; raises NotFound `organisation.not_found`."""
    found = tree.by_id.get(organisation_id)
    if found is None or not scope.covers(organisation_id):
        raise NotFound(
            "organisation.not_found", "There is no organisation {id}.", id=organisation_id
        )
    return found


async def create(
    session: AsyncSession,
    scope: Scope,
    draft: Draft,
    parent_id: int | None,
    *,
    state: str = "draft",
    effective_on: date | None = None,
) -> Organisation:
    """Add an organisation below `parent_id`; None, the top of the tree, takes a system's scope.

    Raises Invalid `organisation.*`, NotFound `organisation.not_found` for a parent out of scope,
    Conflict `organisation.exists` or `organisation.parent_state`.
    """
    tree = await load_tree(session)
    parent = _parent(tree, parent_id, scope)
    checked = check_draft(draft, parent)
    _check_free(tree, checked, parent)
    if parent is not None and parent.state == "retired":
        raise _parent_retired(parent)
    (made,) = await insert_organisations(session, [(checked, parent, state)])
    await _changed(session, scope, [made], "created", effective_on)
    return made


async def edit(
    session: AsyncSession,
    scope: Scope,
    organisation_id: int,
    changes: Mapping[str, Any],
    *,
    effective_on: date | None = None,
) -> Organisation:
    """Rename it or correct its facts: name, short_name, uscc, institution_class, valid_from.

    Raises Invalid `organisation.*`, NotFound, Conflict `organisation.exists` for another's USCC.
    """
    tree = await load_tree(session)
    old = find(tree, organisation_id, scope)
    new = replace(old, **check_facts(old.kind, changes))
    if new == old:
        return old
    taken = (one for one in tree.by_id.values() if one.uscc and one.id != old.id)
    if new.uscc in {one.uscc for one in taken}:
        raise _exists(new.uscc)
    await _write(session, new)
    change = "renamed" if new.name != old.name else "corrected"
    await _changed(session, scope, [new], change, effective_on)
    return new


async def take_step(
    session: AsyncSession,
    scope: Scope,
    organisation_id: int,
    taken: str,
    *,
    effective_on: date | None = None,
) -> Organisation:
    """Activate, suspend, resume or retire it.

    Raises Conflict `organisation.step`, `organisation.parent_state` for one that cannot be active
    below a parent that is not, `organisation.has_children` for one that cannot retire yet.
    """
    tree = await load_tree(session)
    old = find(tree, organisation_id, scope)
    after = step(old.state, taken)
    parent = tree.by_id.get(old.parent_id) if old.parent_id is not None else None
    if after == "active" and parent is not None and parent.state != "active":
        raise _parent_retired(parent)
    if after == "retired" and any(one.state != "retired" for one in tree.children(old.id)):
        raise Conflict(
            "organisation.has_children",
            "{name} still has organisations below it that are not retired.",
            name=old.name,
        )
    today = datetime.now(UTC).date()
    until = (effective_on or today) if after == "retired" else old.valid_until
    new = replace(old, state=after, valid_until=until)
    await _write(session, new)
    await set_owner_state(session, new.id, after)
    await _changed(session, scope, [new], taken, effective_on)
    return new


async def move(
    session: AsyncSession,
    scope: Scope,
    organisation_id: int,
    parent_id: int,
    *,
    effective_on: date | None = None,
) -> Organisation:
    """Put it below another parent: one row changes, the paths of its subtree follow.

    What it owns moves along without a change. Raises Invalid `organisation.parent`, NotFound,
    Conflict `organisation.exists` or `organisation.parent_state`.
    """
    tree = await load_tree(session)
    old = find(tree, organisation_id, scope)
    parent = find(tree, parent_id, scope)
    check_kind(old.kind, parent.kind)
    check_code(old.kind, old.code, parent.code)
    if parent.state == "retired":
        raise _parent_retired(parent)
    return await _place(session, scope, tree, old, parent, "moved", effective_on)


async def merge(
    session: AsyncSession,
    scope: Scope,
    organisation_id: int,
    into_id: int,
    *,
    effective_on: date | None = None,
) -> Organisation:
    """Let it go up into another one of its kind: it then stands below that one, retired.

    Whoever may see the other therefore sees what it owned. Raises Invalid `organisation.merge`,
    NotFound, Conflict `organisation.step`.
    """
    tree = await load_tree(session)
    old = find(tree, organisation_id, scope)
    into = find(tree, into_id, scope)
    if old.kind != into.kind or covers(old.path, into.path) or into.state == "retired":
        raise Invalid(
            "organisation.merge",
            "{name} cannot be merged into {into}.",
            name=old.name,
            into=into.name,
        )
    step(old.state, "retire")
    day = effective_on or datetime.now(UTC).date()
    below = [one for one in tree.subtree(old.id) if one.id == old.id or one.state != "retired"]
    for one in below:
        merged = into.id if one.id == old.id else one.merged_into_id
        await _write(session, replace(one, valid_until=day, merged_into_id=merged))
        await set_owner_state(session, one.id, "retired")
    return await _place(session, scope, tree, old, into, "merged", effective_on)


def check_active(found: Organisation) -> None:
    """Raise Conflict `organisation.not_active`: only an active one sends or gets new data."""
    if found.state != "active":
        raise Conflict(
            "organisation.not_active",
            "{name} is {state}: nothing new is taken from it.",
            name=found.name,
            state=Word(STATES[found.state]),
        )


def check_draft(draft: Draft, parent: Organisation | None) -> Draft:
    """The draft in its normal form; raises Invalid `organisation.*`."""
    check_kind(draft.kind, parent.kind if parent else None)
    parent_code = parent.code if parent and draft.kind == "county" else ""
    facts = check_facts(draft.kind, {name: getattr(draft, name) for name in _FACTS})
    return replace(draft, code=check_code(draft.kind, draft.code, parent_code), **facts)


def check_facts(kind: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts that may change, in their normal form; raises Invalid `organisation.*`."""
    unknown = set(facts) - set(_FACTS)
    if unknown:
        raise TypeError(f"not a fact of an organisation: {unknown}")
    checked = dict(facts)
    if "name" in facts:
        checked["name"] = check_name(facts["name"])
    if facts.get("short_name"):
        checked["short_name"] = check_name(facts["short_name"])
    if facts.get("uscc"):
        checked["uscc"] = check_uscc(facts["uscc"])
    if "institution_class" in facts:
        checked["institution_class"] = check_class(kind, facts["institution_class"])
    return checked


_FACTS = ("name", "short_name", "uscc", "institution_class", "valid_from")


async def insert_organisations(
    session: AsyncSession, wanted: Sequence[tuple[Draft, Organisation | None, str]]
) -> list[Organisation]:
    """Insert checked drafts below parents that are there, with their states; two statements."""
    places = [
        (path_of(draft.kind, draft.code, parent.path if parent else None), state)
        for draft, parent, state in wanted
    ]
    ids = await add_owners(session, places)
    made = [
        Organisation(
            id=owner_id,
            parent_id=parent.id if parent else None,
            path=path,
            state=state,
            **{name: getattr(draft, name) for name in ("kind", "code", *_FACTS)},
        )
        for owner_id, (draft, parent, state), (path, _) in zip(ids, wanted, places, strict=True)
    ]
    if made:
        await session.execute(insert(organisation), [{"id": one.id, **_row(one)} for one in made])
    return made


async def note_changes(
    session: AsyncSession,
    scope: Scope,
    changed: Sequence[Organisation],
    change: str,
    effective_on: date | None = None,
) -> None:
    """History, audit, event and the count of changes for organisations just written."""
    await _changed(session, scope, changed, change, effective_on)


async def write_facts(session: AsyncSession, new: Organisation) -> None:
    """Write the row of an organisation; path and state stay."""
    await _write(session, new)


async def _place(
    session: AsyncSession,
    scope: Scope,
    tree: Tree,
    old: Organisation,
    parent: Organisation,
    change: str,
    effective_on: date | None,
) -> Organisation:
    path = path_of(old.kind, old.code, parent.path)
    if path != old.path and path in tree.by_path:
        raise _exists(old.code)
    await session.execute(
        update(organisation).where(organisation.c.id == old.id).values(parent_id=parent.id)
    )
    await move_owners(session, old.path, path)
    now = await load_tree(session)
    followed = list(now.subtree(old.id))
    await _changed(session, scope, followed, change, effective_on)
    return now.by_id[old.id]


async def _write(session: AsyncSession, new: Organisation) -> None:
    try:
        async with session.begin_nested():
            await session.execute(
                update(organisation).where(organisation.c.id == new.id).values(_row(new))
            )
    except IntegrityError as error:
        raise _exists(new.uscc) from error


async def _changed(
    session: AsyncSession,
    scope: Scope,
    changed: Sequence[Organisation],
    change: str,
    effective_on: date | None,
) -> None:
    if not changed:
        return
    await history.record(session, changed, change, scope.actor, effective_on)
    first, ids = changed[0].id, [one.id for one in changed]
    detail = {"change": change, "organisations": ids}
    record = AuditRecord(
        scope.actor, MANAGE, "ok", owner_id=first, purpose=scope.purpose, detail=detail
    )
    await append(session, record)
    payload = {"organisation_ids": ids, "change": change}
    await emit(session, CHANGED, payload, owner_id=first, key=str(first))
    await touch(session, "rights")


def _parent(tree: Tree, parent_id: int | None, scope: Scope) -> Organisation | None:
    if parent_id is None:
        if scope.owners is not None:
            raise NotFound("organisation.not_found", "There is no organisation {id}.", id="/")
        return None
    return find(tree, parent_id, scope)


def _check_free(tree: Tree, draft: Draft, parent: Organisation | None) -> None:
    path = path_of(draft.kind, draft.code, parent.path if parent else None)
    if path in tree.by_path or (draft.kind != "department" and tree.by_code(draft.code)):
        raise _exists(draft.code)
    if draft.uscc and any(one.uscc == draft.uscc for one in tree.by_id.values()):
        raise _exists(draft.uscc)


def _exists(code: str) -> Conflict:
    return Conflict("organisation.exists", "There is an organisation with code {code}.", code=code)


def _parent_retired(parent: Organisation) -> Conflict:
    return Conflict(
        "organisation.parent_state",
        "{name}, to which it would belong, is {state}.",
        name=parent.name,
        state=Word(STATES[parent.state]),
    )


def _row(one: Organisation) -> dict[str, Any]:
    return {
        "parent_id": one.parent_id,
        "kind": one.kind,
        "code": one.code,
        "name": one.name,
        "short_name": one.short_name,
        "uscc": one.uscc or None,
        "institution_class": one.institution_class,
        "merged_into_id": one.merged_into_id,
        "valid_from": one.valid_from,
        "valid_until": one.valid_until,
    }


def _as_organisation(row: Mapping[Any, Any], owners: Mapping[int, Any]) -> Organisation:
    place = owners[row["id"]]
    facts = {**dict(row), "uscc": row["uscc"] or ""}
    return Organisation(**facts, path=place.path, state=place.state)
