"""The pages of the console: who sees them, what they cost, what they say."""

from __future__ import annotations

import asyncio
import html
import io
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from openpyxl import Workbook, load_workbook

from gateway.ae.service import add_ae
from identity.clients.service import NewClient, create_client
from identity.grants.domain import Subject
from identity.grants.service import NewGrant, grant, withdraw
from identity.organisations.workbook import COLUMNS
from kernel.db.database import Database
from kernel.jobs.runner import Jobs
from kernel.jobs.service import enqueue
from kernel.settings import Settings
from server.console.menu import menu
from server.worker_process import JOBS
from tests.identity.people import make_account
from tests.identity.places import SYSTEM, make
from tests.identity.site import Client
from tests.server.console_site import ConsoleSite, serve_console

PAGES = [item.href for group in menu() for item in group.items]


@pytest.fixture
async def site(settings: Settings, database: Database) -> AsyncIterator[ConsoleSite]:
    async with serve_console(settings, database) as served:
        yield served


async def links(client: Client) -> set[str]:
    """What the main menu of the start page offers."""
    page = await client.page("/")
    assert page.status == 200, page.text
    menu_part = page.text.partition('id="menu"')[2].partition("</nav>")[0]
    return set(re.findall(r'<a href="([^"]+)"', menu_part))


@pytest.mark.backend
async def test_every_place_of_the_menu_answers_its_administrator(site: ConsoleSite) -> None:
    offered: set[str] = set()
    for login in ("chief", "auditor"):
        async with site.signed_in(login) as client:
            mine = await links(client)
            for page in mine:
                answer = await client.page(page)
                assert answer.status == 200, f"{page}: {answer.text}"
        offered |= mine
    assert offered == set(PAGES)


async def test_the_menu_offers_exactly_what_answers(site: ConsoleSite) -> None:
    for login in site.people:
        async with site.signed_in(login) as client:
            offered = await links(client)
            for page in PAGES:
                status = (await client.page(page)).status
                assert (status == 200) == (page in offered), f"{login} {page}: {status}"


async def test_an_administrator_of_a_hospital_sees_neither_studies_nor_other_places(
    site: ConsoleSite,
) -> None:
    async with site.signed_in("manager") as manager:
        assert "/studies" not in await links(manager)
        page = await manager.page("/organisations")
        assert "institution H0001" in page.text and "institution H0002" not in page.text
        elsewhere = await manager.page(f"/organisations/{site.places.hospital_b1}")
        assert elsewhere.status == 404
        assert (await manager.page(f"/accounts/{site.people['chief']}")).status == 404


async def test_lists_cost_the_same_queries_however_long_they_are(site: ConsoleSite) -> None:
    async with site.signed_in("chief") as chief, site.signed_in("auditor") as auditor:
        one = f"/accounts/{site.people['doctor']}"
        pages = [*(page for page in PAGES if page not in ("/modules", "/roles")), one]
        asking = {page: auditor if page == "/audit" else chief for page in pages}
        before = {page: await cost(site, client, page) for page, client in asking.items()}
        found = await cost(site, chief, "/search", text="H0")
        await fill(site)
        for page, client in asking.items():
            assert await cost(site, client, page) == before[page], page
        assert await cost(site, chief, "/search", text="H0") == found
        assert before["/"] <= 14


async def cost(site: ConsoleSite, client: Client, page: str, **form: str) -> int:
    """Statements of one request; the least of some, since rights may be read again by one."""
    return min([await _cost(site, client, page, form) for _ in range(3)])


async def _cost(site: ConsoleSite, client: Client, page: str, form: dict[str, str]) -> int:
    with site.counted() as said:
        if form:
            answer = await client.post(page, form, Accept="text/html")
        else:
            answer = await client.page(page)
        assert answer.status == 200
    return len([one for one in said if "access_version" not in one and "PRAGMA" not in one])


async def fill(site: ConsoleSite) -> None:
    for n in range(8):
        await make_account(site.database, f"more{n}", site.places.hospital_a1)
    async with site.database.session(SYSTEM, write=True) as session:
        for n in range(8):
            one = await make(session, "institution", f"H9{n:03d}", site.places.county_b)
            await add_ae(session, f"CT{n}", "127.0.0.1", 11112, owner_id=one.id)
            await create_client(session, SYSTEM, NewClient(f"pacs {n}", organisation_id=one.id))
            await enqueue(session, "test.nothing", {}, 1)


@pytest.mark.backend
async def test_a_role_beyond_ones_own_place_is_refused_in_words(site: ConsoleSite) -> None:
    doctor, places = site.people["doctor"], site.places
    async with site.signed_in("county") as county:
        form = {"role": "radiologist", "place": str(places.county_b)}
        refused = await county.post(f"/accounts/{doctor}/grants", form, Accept="text/html")
        assert refused.status == 403
        assert "You may not grant roles at this organisation." in refused.text
        form["place"] = str(places.hospital_a2)
        given = await county.post(f"/accounts/{doctor}/grants", form, Accept="text/html")
        assert given.status == 303
        assert "The role was granted." in (await county.page(f"/accounts/{doctor}")).text
        assert "The role was granted." not in (await county.page(f"/accounts/{doctor}")).text


async def test_an_organisation_is_created_renamed_and_retired_with_its_history(
    site: ConsoleSite,
) -> None:
    async with site.signed_in("county") as county:
        form = {"parent": str(site.places.county_a), "kind": "institution", "code": "x"}
        wrong = await county.post("/organisations/new", form | {"name": "新院"}, Accept="text/html")
        assert wrong.status == 400 and 'aria-invalid="true"' in wrong.text
        form |= {"code": "H0777", "name": "新院"}
        made = await county.post("/organisations/new", form, Accept="text/html")
        place = made.headers["Location"]
        await county.post(f"{place}/edit", {"name": "新医院"}, Accept="text/html")
        await county.post(f"{place}/step", {"step": "retire"}, Accept="text/html")
        page = (await county.page(place)).text
        assert "Renamed" in page and "Retired" in page and "新医院" in page


async def test_a_node_is_registered_tested_changed_and_forgotten(site: ConsoleSite) -> None:
    owner = str(site.places.hospital_a1)
    async with site.signed_in("manager") as manager:
        form = {"title": "CT 1", "host": "127.0.0.1", "port": "1", "owner": owner}
        form |= {"same_uid": "first"}
        elsewhere = form | {"owner": str(site.places.hospital_b1)}
        assert (await manager.post("/aes/new", elsewhere, Accept="text/html")).status == 400
        assert (await manager.post("/aes/new", form, Accept="text/html")).status == 303
        said = await manager.post("/aes/echo", {"title": "CT 1"}, Accept="text/html")
        assert "no answer" in said.text and "cannot be reached" in said.text
        changed = form | {"port": "104", "state": "suspended"}
        assert (await manager.post("/aes/edit", changed, Accept="text/html")).status == 303
        page = (await manager.page("/aes")).text
        assert "127.0.0.1:104" in page and "Suspended" in page
        assert (await manager.post("/aes/remove", {"title": "CT 1"})).status == 303
        assert "CT 1" not in (await manager.page("/aes")).text


async def test_what_one_may_not_see_is_not_found_either(site: ConsoleSite) -> None:
    async with site.signed_in("manager") as manager:
        found = await manager.post("/search", {"text": "H0"}, Accept="text/html")
        assert "institution H0001" in found.text and "institution H0101" not in found.text
    async with site.signed_in("doctor") as doctor:
        found = await doctor.post("/search", {"text": "H0001"}, Accept="text/html")
        assert "institution H0001" not in found.text


async def test_a_page_is_found_by_the_initials_of_its_name(site: ConsoleSite) -> None:
    async with site.signed_in("chief") as chief:
        found = await chief.post("/search", {"text": "zzjg"}, Accept="text/html")
        assert 'href="/organisations"' in found.text.partition('id="rows"')[2]


async def test_a_job_shows_its_progress_and_can_be_stopped(site: ConsoleSite) -> None:
    async with site.database.session(SYSTEM, write=True) as session:
        job = await enqueue(session, "test.nothing", {}, 1)
    async with site.signed_in("chief") as chief:
        assert "every 1s" in (await chief.page(f"/jobs/{job}")).text
        assert (await chief.post(f"/jobs/{job}/cancel", {})).status == 303
        assert "every 1s" not in (await chief.page(f"/jobs/{job}")).text


async def test_a_token_is_shown_once_and_opens_what_its_role_opens(site: ConsoleSite) -> None:
    async with site.signed_in("manager") as manager:
        form = {"name": "前置机", "role": "sender", "place": str(site.places.hospital_a1)}
        made = await manager.post("/clients/new", form, Accept="text/html")
        token = re.search(r"yyt_[\w-]+", made.text)
        assert token is not None
        page = await manager.page("/clients")
        assert "前置机" in page.text and token[0] not in page.text


async def test_only_a_role_at_the_top_administers_what_stands_at_the_top(
    site: ConsoleSite,
) -> None:
    stranger = await make_account(site.database, "nowhere")
    form = {"parent": "", "kind": "prefecture", "code": "5227", "name": "黔南州"}
    async with site.signed_in("county") as county:
        assert (await county.post("/organisations/new", form, Accept="text/html")).status == 400
        assert (await county.page(f"/accounts/{stranger.id}")).status == 404
    async with site.signed_in("chief") as chief:
        assert (await chief.post("/organisations/new", form, Accept="text/html")).status == 303
        assert (await chief.page(f"/accounts/{stranger.id}")).status == 200


async def test_nobody_resets_the_password_of_who_may_do_more(site: ConsoleSite) -> None:
    guest = await make_account(site.database, "guest", site.places.hospital_a1)
    async with site.database.session(SYSTEM, write=True) as session:
        subject = Subject("account", guest.id)
        await grant(session, None, NewGrant(subject, "radiologist", site.places.hospital_a1))
        more = await grant(session, None, NewGrant(subject, "radiologist", site.places.county_a))
    async with site.signed_in("manager") as manager:
        refused = await manager.post(f"/accounts/{guest.id}/reset", {}, Accept="text/html")
        assert refused.status == 403 and "roles that you may not give" in refused.text
        async with site.database.session(SYSTEM, write=True) as session:
            await withdraw(session, None, more.id)
        given = await manager.post(f"/accounts/{guest.id}/reset", {}, Accept="text/html")
        assert given.status == 200


@pytest.mark.backend
async def test_a_workbook_is_taken_in_behind_the_scenes_and_bad_cells_are_named(
    site: ConsoleSite,
) -> None:
    async with site.signed_in("county") as county, working(site):
        wrong = await bring(county, b"no workbook")
        assert "not a workbook" in wrong
        bad = await bring(county, workbook(("institution", "H0800", "522632", "elsewhere")))
        assert "1 cells are wrong" in bad
        assert "You do not manage the organisation above." in bad
        good = workbook(("institution", "H0800", "522601", "新卫生院"))
        assert "1 new, 0 corrected" in await bring(county, good, do="check")
        assert "新卫生院" not in (await county.page("/organisations")).text
        place = await brought(county, good)
        assert "were taken in: 1 new" in await over(county, place)
        assert "新卫生院" in (await county.page("/organisations")).text
    async with site.signed_in("chief") as chief:
        assert (await chief.page(place)).status == 404


def workbook(*rows: tuple[str, str, str, str]) -> bytes:
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.append([COLUMNS[one] for one in ("kind", "code", "parent", "name")])
    for row in rows:
        sheet.append(list(row))
    written = io.BytesIO()
    book.save(written)
    return written.getvalue()


async def brought(client: Client, content: bytes, do: str = "import") -> str:
    """Where the result of an import appears."""
    form = aiohttp.FormData({"do": do})
    form.add_field("workbook", content, filename="places.xlsx")
    url, headers = f"{client.base}/organisations/import", {"Sec-Fetch-Site": "same-origin"}
    async with client.session.post(
        url, data=form, headers=headers, allow_redirects=False
    ) as answer:
        assert answer.status == 303, await answer.text()
        return answer.headers["Location"]


async def bring(client: Client, content: bytes, do: str = "import") -> str:
    return await over(client, await brought(client, content, do))


async def over(client: Client, place: str) -> str:
    """The page of a job when it is over; it says itself when to ask again."""
    async with asyncio.timeout(20):
        while "every 1s" in (text := (await client.page(place)).text):
            continue
    return text


@asynccontextmanager
async def working(site: ConsoleSite) -> AsyncIterator[None]:
    """The worker's jobs."""
    task = asyncio.create_task(Jobs(site.database, JOBS).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.backend
async def test_a_role_of_ones_own_is_made_changed_held_and_removed(site: ConsoleSite) -> None:
    form = {"title": "乡镇医生", "code": "town_doctor", "do": "archive.study.read"}
    doctor = site.people["doctor"]
    async with site.signed_in("county") as county:
        refused = await county.post("/roles/new", form, Accept="text/html")
        assert refused.status == 403 and "Only who grants roles everywhere" in refused.text
    async with site.signed_in("chief") as chief:
        joined = {**form, "do": "system.audit.read", "pass": "identity.account.manage"}
        assert (await chief.post("/roles/new", {**form, "code": "X"})).status == 400
        assert (await chief.post("/roles/new", {**form, "do": ""})).status == 400
        assert (await chief.post("/roles/auditor/remove", {})).status == 403
        assert (await chief.post("/roles/new", form)).status == 303
        assert "乡镇医生" in (await chief.page("/roles")).text
        held = {"role": "town_doctor", "place": str(site.places.hospital_a1)}
        assert (await chief.post(f"/accounts/{doctor}/grants", held)).status == 303
        kept = await chief.post("/roles/town_doctor/remove", {})
        assert kept.status == 409 and kept.code == "role.held"
        edit = "/roles/town_doctor/edit"
        # The doctor opens data in an emergency already: reviewing that excludes it.
        excluded = {"title": "x", "do": "identity.break_glass.review"}
        said = await chief.post(edit, excluded, Accept="text/html")
        assert said.status == 400 and "exclude each other" in said.text
        changed = {"title": "镇医生", "do": "archive.study.search"}
        assert (await chief.post(edit, changed)).status == 303
        page = await chief.page(edit)
        assert (
            'value="archive.study.search" aria-label="Search studies: May do" checked' in page.text
        )
        # An administrator does not audit by a role of another name.
        assert (await chief.post("/roles/new", joined | {"code": "odd"})).status == 303
        odd = {"role": "odd", "place": str(site.places.county_a)}
        county_admin = site.people["county"]
        given = await chief.post(f"/accounts/{county_admin}/grants", odd, Accept="text/html")
        assert given.status == 400 and "Who administers does not audit" in given.text


async def test_the_access_review_names_who_has_which_rights_where(site: ConsoleSite) -> None:
    async with site.signed_in("county") as county:
        table = (await county.page("/access/review.csv")).text
        assert "doctor" in table and "Radiologist" in table and "Open and download" in table
        assert "affairs" not in table and "chief" not in table
        async with county.session.get(f"{county.base}/access/review.xlsx") as answer:
            sheet = load_workbook(io.BytesIO(await answer.read())).worksheets[0]
    rows = [[cell.value for cell in row] for row in sheet.rows]
    assert rows[0][:2] == ["Who", "Login name"]
    assert {row[1] for row in rows[1:]} == {"county", "manager", "doctor"}


async def test_long_lists_are_continued_by_their_key(site: ConsoleSite) -> None:
    owner = site.places.hospital_a1
    async with site.database.session(SYSTEM, write=True) as session:
        for n in range(60):
            await add_ae(session, f"N{n:02d}", "127.0.0.1", 104, owner_id=owner)
            await create_client(session, SYSTEM, NewClient(f"program {n:02d}", None, owner))
            await make(session, "department", f"D{n + 10}", owner, f"ward {n:02d}")
    async with site.signed_in("manager") as manager:
        for page, word, text in (
            ("/aes", "N{:02d}", ""),
            ("/clients", "program {:02d}", ""),
            ("/organisations", "ward {:02d}", "ward"),
        ):
            first = await manager.post(page, {"text": text}, Accept="text/html")
            key = re.search(r"hx-vals='{\"after\": \"?([^\"}]+)", first.text)
            assert key is not None, page
            form = {"text": text, "after": html.unescape(key[1])}
            rest = await manager.post(page, form, Accept="text/html", **{"HX-Request": "true"})
            shown = [word.format(n) for n in range(60)]
            assert all((one in first.text) != (one in rest.text) for one in shown), page
            assert shown[0] in first.text and shown[-1] in rest.text
        found = await manager.post("/aes", {"text": "n07"}, Accept="text/html")
        assert "N07" in found.text and "N08" not in found.text
