"""Every route of the running application, asked by every kind of actor for everybody's data.

What must come back is worked out by `region` without any code of `identity`; `routes` says what
each route is. A route without a row, an answer that shows or changes what its actor must not see,
and one that keeps back what the actor may see, fail the build.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

import aiohttp
import pytest
from aiohttp import web
from sqlalchemy import text

from kernel.db.statement import Statement
from kernel.web.guard import PUBLIC, permission_of
from tests.access.region import ACTORS, STUDIES, Actor, Region, Study
from tests.access.routes import ROUTES, Row
from tests.archive.material import make, uid
from tests.dicomweb.material import dataset, file

pytestmark = pytest.mark.backend

UIDS = sorted({study.uid for study in STUDIES})
# Two patients of one owner, and two of different owners, which nobody can merge.
PAIRS = [(0, 6), (2, 7), (0, 2)]


@dataclass(slots=True)
class Answer:
    """What came back to one actor."""

    status: int
    body: bytes
    asked: str

    def shows(self, study: Study) -> bool:
        """Whether something is in it that only a study of that owner has."""
        return any(mark.encode() in self.body for mark in study.marks)


@dataclass(slots=True)
class Asker:
    """Asks as one actor, and notes what is not as it must be."""

    region: Region
    http: aiohttp.ClientSession
    actor: Actor
    problems: list[str]

    def expect(self, as_it_must_be: object, answer: Answer, words: str = "") -> None:
        """Note a problem; the matrix goes on, so that one run names all of them."""
        if not as_it_must_be:
            self.problems.append(f"{answer.asked} {words}")

    async def ask(self, name: str, row: Row, **fill: str) -> Answer:
        """Fill the route's address and body, send it."""
        method, _, path = name.partition(" ")
        fill = {**fill, **{key: _filled(value, fill) for key, value in row.fill.items()}}
        query = f"?{_filled(row.query, fill)}" if row.query else ""
        url = self.region.base + _filled(path, fill) + query
        headers = {**self.region.headers[self.actor.name], "Accept": row.accept}
        body = None if row.body is None else json.loads(_filled(json.dumps(row.body), fill))
        form = row.form and {key: _filled(value, fill) for key, value in row.form.items()}
        async with self.http.request(
            method, url, headers=headers, json=body, data=form, allow_redirects=False
        ) as response:
            content = await response.read()
        if content.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(content)) as packed:
                content = b"".join(packed.read(member) for member in packed.namelist())
        asked = f"{self.actor.name}: {method} {response.url.path} → {response.status}"
        return Answer(response.status, content, asked)


def _filled(template: str, fill: dict[str, str]) -> str:
    for name, value in fill.items():
        template = template.replace(f"{{{name}}}", value)
    return template


def below(study_uid: str, *, document: bool, other: str = "") -> dict[str, str]:
    """Study, series and instance of a study, or of `other` below it."""
    part = ".2" if document else ".1"
    series = (other or study_uid) + part
    return {"study": study_uid, "series": series, "instance": f"{series}.1"}


def refusal(actor: Actor, permission: str) -> int | None:
    """How an actor is refused who has the permission nowhere."""
    if permission == PUBLIC:
        return None
    if actor.kind == "anonymous":
        return 401
    if permission == "citizen.self":  # residents have a cookie of their own
        return 401 if actor.kind == "session" else 403
    if permission == "identity.self":
        return None if actor.kind == "session" else 403
    return None if actor.owners(permission) else 403


def routes_of(app: web.Application) -> Iterator[tuple[str, str]]:
    """`METHOD path` and permission of every route."""
    for route in app.router.routes():
        if route.method != "HEAD" and route.resource is not None:
            permission = permission_of(route.handler)
            assert permission is not None
            yield f"{route.method} {route.resource.canonical}", permission


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that keeps no cookies of its own and takes bytes as they are."""
    jar = aiohttp.DummyCookieJar()
    headers = {"Accept-Encoding": "identity"}
    async with aiohttp.ClientSession(cookie_jar=jar, headers=headers) as session:
        yield session


async def test_every_route_shows_and_changes_what_the_actor_may_see(
    region: Region, http: aiohttp.ClientSession
) -> None:
    permissions = dict(routes_of(region.app))
    assert set(permissions) == set(ROUTES), "each route needs its row in tests/access/routes.py"
    checks = {
        "list": _check_list,
        "search": _check_search,
        "study": _check_study,
        "change": _check_study,
        "patient": _check_patients,
        "store": _check_store,
        "find": _check_find,
        "things": _check_things,
        "thing": _check_thing,
    }
    problems: list[str] = []
    for name, row in ROUTES.items():
        check = checks.get(row.kind, _check_plain)
        for actor in ACTORS:
            asker = Asker(region, http, actor, problems)
            async for answer in check(asker, name, row, permissions[name]):
                _check_leak(asker, answer)
    assert not problems, "\n".join(problems)
    await _check_changes(region)


def _check_leak(asker: Asker, answer: Answer) -> None:
    seen = asker.actor.sees("archive.study.read") | asker.actor.sees("archive.study.search")
    for study in STUDIES:
        asker.expect(study in seen or not answer.shows(study), answer, f"shows {study}")


async def _check_plain(asker: Asker, name: str, row: Row, permission: str) -> AsyncIterator[Answer]:
    answer = await asker.ask(name, row)
    refused = refusal(asker.actor, permission)
    asker.expect(answer.status in ({refused} if refused else row.ok), answer)
    asker.expect(not any(answer.shows(study) for study in STUDIES), answer, "shows a study")
    yield answer


async def _check_list(asker: Asker, name: str, row: Row, permission: str) -> AsyncIterator[Answer]:
    answer = await asker.ask(name, row)
    refused = refusal(asker.actor, permission)
    asker.expect(answer.status in ({refused} if refused else row.ok), answer)
    if answer.status == 200:
        seen = asker.actor.sees(permission)
        shown = {one for one in STUDIES if answer.shows(one)}
        asker.expect(shown == seen, answer, f"shows {shown} instead of {seen}")
        if row.accept != "*/*":
            found = json.loads(answer.body)
            per_study = {"studies": 1, "series": 2, "instances": 2}[name.rpartition("/")[2]]
            asker.expect(len(found) == per_study * len(seen), answer, f"has {len(found)} answers")
    yield answer


async def _check_study(asker: Asker, name: str, row: Row, permission: str) -> AsyncIterator[Answer]:
    refused = refusal(asker.actor, permission)
    mine = {study.uid for study in asker.actor.sees(permission)}
    for study_uid in UIDS:
        answer = await asker.ask(name, row, **below(study_uid, document=row.document))
        expected = row.ok if study_uid in mine else {row.missing}
        asker.expect(answer.status in ({refused} if refused else expected), answer)
        yield answer
        if "{series}" not in name or study_uid not in mine:
            continue
        for other in sorted({*UIDS} - mine):
            crossed = below(study_uid, document=row.document, other=other)
            answer = await asker.ask(name, row, **crossed)
            asker.expect(answer.status == (refused or 404), answer, f"crossed with {other}")
            yield answer


async def _check_search(
    asker: Asker, name: str, row: Row, permission: str
) -> AsyncIterator[Answer]:
    refused = refusal(asker.actor, permission)
    mine = {study.uid for study in asker.actor.sees(permission)}
    for study_uid in UIDS:
        for other in UIDS if "{series}" in name else ("",):
            answer = await asker.ask(name, row, **below(study_uid, document=False, other=other))
            asker.expect(answer.status == (refused or 200), answer)
            found = answer.status == 200 and json.loads(answer.body)
            there = study_uid in mine and other in ("", study_uid)
            asker.expect(bool(found) == (there and not refused), answer, f"{other} {found}")
            yield answer


async def _check_patients(
    asker: Asker, name: str, row: Row, permission: str
) -> AsyncIterator[Answer]:
    refused = refusal(asker.actor, permission)
    seen = asker.actor.sees(permission)
    for one, other in PAIRS:
        source, target = STUDIES[one], STUDIES[other]
        fill = {"patient": source.marks[0], "into": target.marks[0]}
        answer = await asker.ask(name, row, **fill)
        together = source.owner == target.owner and {source, target} <= seen
        # One's own patient may be merged already, whatever was asked for beside it.
        expected = row.ok if together else {404, 409} if source in seen else {404}
        asker.expect(answer.status in ({refused} if refused else expected), answer)
        # The refusal names the patient that was asked for, nothing else of it.
        asked = {source.marks[0].encode(), target.marks[0].encode()}
        for mark in () if together else asked:
            answer.body = answer.body.replace(mark, b"")
        yield answer


async def _check_store(asker: Asker, name: str, row: Row, permission: str) -> AsyncIterator[Answer]:
    actor, region = asker.actor, asker.region
    number = 100 + list(ROUTES).index(name) * 20 + ACTORS.index(actor)
    refused = refusal(actor, permission)
    path = name.partition(" ")[2].replace("{study}", dataset(number).StudyInstanceUID)
    part = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + file(dataset(number)) + b"\r\n--b--"
    kind = 'multipart/related; type="application/dicom"; boundary=b'
    headers = {**region.headers[actor.name], "Content-Type": kind, "Accept": "*/*"}
    async with asker.http.post(region.base + path, data=part, headers=headers) as response:
        answer = Answer(response.status, await response.read(), "")
    answer.asked = f"{actor.name}: {name} → {answer.status}"
    asker.expect(answer.status == (refused or 200), answer)
    stored = Statement(text("SELECT owner_id FROM study WHERE study_instance_uid = :uid"))
    study_uid = dataset(number).StudyInstanceUID
    owners = {row[0] for row in await region.database.fetch(stored, {"uid": study_uid})}
    named = {region.owner_of(one) for one in owners}
    asker.expect(named == (set() if refused else {actor.home}), answer, f"stored for {named}")
    yield answer


async def _check_find(asker: Asker, name: str, row: Row, permission: str) -> AsyncIterator[Answer]:
    refused = refusal(asker.actor, permission)
    seen = asker.actor.sees("archive.study.search")
    for study in STUDIES:
        patient_id, person, *_ = study.marks
        answer = await asker.ask(name, replace(row, form={"text": patient_id}))
        asker.expect(answer.status == (refused or 200), answer)
        there = person.encode() in answer.body
        asker.expect(there == (study in seen and not refused), answer, f"{study} {there}")
        # The page repeats what was searched for.
        answer.body = answer.body.replace(patient_id.encode(), b"")
        yield answer


async def _check_things(
    asker: Asker, name: str, row: Row, permission: str
) -> AsyncIterator[Answer]:
    answer = await asker.ask(name, row)
    refused = refusal(asker.actor, permission)
    asker.expect(answer.status in ({refused} if refused else row.ok), answer)
    if not refused:
        mine = asker.actor.owners(permission)
        things = asker.region.things[row.of]
        shown = {owner for owner, one in things.items() if one.mark.encode() in answer.body}
        asker.expect(shown == things.keys() & mine, answer, f"shows those of {shown}")
    yield answer


async def _check_thing(asker: Asker, name: str, row: Row, permission: str) -> AsyncIterator[Answer]:
    refused = refusal(asker.actor, permission)
    mine = asker.actor.owners(permission)
    for owner, one in asker.region.things[row.of].items():
        answer = await asker.ask(name, row, **{row.of: one.id})
        expected = row.ok if owner in mine else {row.missing}
        asker.expect(answer.status in ({refused} if refused else expected), answer, owner)
        if owner not in mine:
            asker.expect(one.mark.encode() not in answer.body, answer, f"shows that of {owner}")
        yield answer


async def _check_changes(region: Region) -> None:
    """Nobody changed anything of an owner beyond the own scope, and something was changed."""
    made = Statement(text("SELECT DISTINCT actor, owner_id, kind FROM decision"))
    names = Statement(text("SELECT id, login FROM account"))
    logins = {str(row[0]): row[1] for row in await region.database.fetch(names, {})}
    actors = {actor.name: actor for actor in ACTORS}
    changed = set()
    for account_id, owner_id, kind in await region.database.fetch(made, {}):
        actor, owner = actors[logins[account_id]], region.owner_of(owner_id)
        group = "patient" if kind in ("merge", "unmerge") else "study"
        needed = {
            "correct": "correct",
            "choose": "correct",
            "hold": "hold",
            "release": "hold",
            "classify": "classify",
        }
        last = "merge" if group == "patient" else needed.get(kind, "delete")
        assert owner in actor.owners(f"archive.{group}.{last}"), (actor.name, owner, kind)
        changed.add((actor.name, owner))
    assert {("hospital_a1", "hospital_a1"), ("prefecture", "hospital_b1")} <= changed
    left = Statement(text("SELECT count(*) FROM study WHERE owner_id = 1"))
    assert (await region.database.fetch(left, {})) == [(1,)]


async def test_an_oracle_of_row_sets_is_what_the_tree_says() -> None:
    """The oracle itself, written out once by hand."""
    seen = {
        actor.name: {(one.number, one.owner) for one in actor.sees("archive.study.read")}
        for actor in ACTORS
    }
    assert seen["hospital_a1"] == {(1, "hospital_a1"), (4, "department"), (7, "hospital_a1")}
    assert seen["county_b"] == {(3, "hospital_b1"), (7, "hospital_b1")}
    assert seen["capability"] == {(1, "hospital_a1")}
    assert seen["anonymous"] == seen["citizen"] == set()
    assert len(seen["prefecture"]) == len(STUDIES) - 1
    assert make(1).study == uid(1) == STUDIES[0].uid
