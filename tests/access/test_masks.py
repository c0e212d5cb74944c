"""Who may not see a sensitive kind of data, or no names at all, gets everything but whose it is."""

from __future__ import annotations

import asyncio
import gzip
import json
from functools import partial

import aiohttp
import pytest

from identity.clients.service import NewClient, create_client
from identity.grants.domain import Subject
from identity.grants.service import NewGrant, grant
from tests.access.region import STUDIES, Region
from tests.access.test_nodes import Peer, ask
from tests.identity.places import SYSTEM

pytestmark = pytest.mark.backend

STUDY = STUDIES[0]
ROOT = "/dicom-web/studies/"
SERIES = f"{ROOT}{STUDY.uid}/series/{STUDY.uid}.1"
INSTANCE = f"{SERIES}/instances/{STUDY.uid}.1.1"
PAGE = f"/studies/{STUDY.uid}"
MASKED = [
    ("/studies", "*/*"),
    (f"/dicom-web/studies?includefield=all&StudyInstanceUID={STUDY.uid}", "application/dicom+json"),
    (f"{ROOT}{STUDY.uid}/series?includefield=all", "application/dicom+json"),
    (f"{ROOT}{STUDY.uid}/instances?includefield=all", "application/dicom+json"),
    (f"{ROOT}{STUDY.uid}/metadata", "application/dicom+json"),
    (f"{SERIES}/metadata", "application/dicom+json"),
    (f"{INSTANCE}/metadata", "application/dicom+json"),
    (PAGE, "*/*"),
    (f"{PAGE}/series/{STUDY.uid}.1/instances/{STUDY.uid}.1.1/elements", "*/*"),
    (f"{PAGE}/series/{STUDY.uid}.1/instances/{STUDY.uid}.1.1/report", "*/*"),
]
SHOWN = [f"{INSTANCE}/rendered", f"{INSTANCE}/frames/1", f"{ROOT}{STUDY.uid}/thumbnail"]
REFUSED = [
    f"{ROOT}{STUDY.uid}",
    SERIES,
    INSTANCE,
    f"{ROOT}{STUDY.uid}/series/{STUDY.uid}.2/instances/{STUDY.uid}.2.1/bulkdata/00420011",
    f"{PAGE}/download",
    f"{PAGE}/series/{STUDY.uid}.1/instances/{STUDY.uid}.1.1/download",
    f"{PAGE}/series/{STUDY.uid}.2/instances/{STUDY.uid}.2.1/document",
    f"/api/studies/{STUDY.uid}/decisions",
]
# Patient ID, name and accession number; the description names nobody.
NAMES = STUDY.marks[:3]


async def get(region: Region, actor: str, path: str, accept: str = "*/*") -> tuple[int, str, str]:
    """Status, text and ETag of an answer."""
    headers = {**region.headers[actor], "Accept": accept, "Accept-Encoding": "gzip"}
    jar = aiohttp.DummyCookieJar()
    async with (
        aiohttp.ClientSession(cookie_jar=jar, auto_decompress=False) as http,
        http.get(region.base + path, headers=headers) as answer,
    ):
        body = await answer.read()
        if answer.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        return answer.status, body.decode("utf-8", "replace"), answer.headers.get("ETag", "")


async def classify(region: Region, *kinds: str) -> None:
    """Say as the hospital's administrator which kinds its study is of."""
    url = f"{region.base}/api/studies/{STUDY.uid}/classify"
    body = {"reason": "test", "kinds": list(kinds)}
    async with (
        aiohttp.ClientSession() as http,
        http.post(url, json=body, headers=region.headers["hospital_a1"]) as answer,
    ):
        assert answer.status == 200, await answer.text()


async def check_hidden(region: Region, actor: str) -> None:
    for path, accept in MASKED:
        status, text, _ = await get(region, actor, path, accept)
        assert status == 200, path
        assert not any(name in text for name in NAMES), path
        assert STUDY.uid in text or "/elements" in path or "/report" in path, path
    for path in SHOWN:
        assert (await get(region, actor, path))[0] == 200, path
    for path in REFUSED:
        status, text, _ = await get(region, actor, path)
        assert (status, json.loads(text)["code"]) == (403, "study.masked"), path
        assert not any(name in text for name in NAMES), path


async def test_a_sensitive_study_names_nobody_to_who_may_not_see_such_data(
    region: Region,
) -> None:
    before = await get(region, "county_a", f"{SERIES}/metadata", "application/dicom+json")
    assert STUDY.marks[0] in before[1]
    await classify(region, "hiv", "vip")
    await check_hidden(region, "county_a")
    masked = await get(region, "county_a", f"{SERIES}/metadata", "application/dicom+json")
    assert masked[2] != before[2]
    for path, accept in MASKED[1:7]:
        assert STUDY.marks[0] in (await get(region, "hospital_a1", path, accept))[1], path
    assert (await get(region, "hospital_a1", INSTANCE))[0] == 200
    # Other studies of the same scope are shown as before.
    assert STUDIES[6].marks[0] in (await get(region, "county_a", "/studies"))[1]
    await classify(region)
    assert STUDY.marks[0] in (await get(region, "county_a", "/studies"))[1]
    assert (await get(region, "county_a", INSTANCE))[0] == 200


async def test_who_may_see_no_names_sees_none_at_all(region: Region) -> None:
    async with region.database.session(SYSTEM, write=True) as session:
        made, token = await create_client(
            session, SYSTEM, NewClient("affairs", None, region.places.hospital_a1)
        )
        new = NewGrant(Subject("client", made.id), "medical_affairs", region.places.hospital_a1)
        await grant(session, None, new)
    region.headers["affairs"] = {"Authorization": f"Bearer {token}"}
    for path in ("/studies", "/dicom-web/studies?includefield=all"):
        status, text, _ = await get(region, "affairs", path)
        assert status == 200
        for study in STUDIES:
            assert not any(name in text for name in study.marks[:3]), path
    found = json.loads((await get(region, "affairs", "/dicom-web/studies"))[1])
    assert {one["00100010"]["Value"][0]["Alphabetic"] for one in found} == {"N***^***"}


async def test_nodes_of_others_neither_name_nor_fetch_a_sensitive_study(region: Region) -> None:
    await classify(region, "mental_health")

    def own(peer: Peer) -> None:
        assert peer.found(StudyInstanceUID=STUDY.uid) == [STUDY.marks[0]]
        assert peer.fetched(STUDY) == {STUDY.marks[0]}

    def other(peer: Peer) -> None:
        assert peer.found(StudyInstanceUID=STUDY.uid) == ["PID*******LA11"]
        assert peer.fetched(STUDY) == set()

    await asyncio.to_thread(partial(ask, region, "AE_A1", own))
    await asyncio.to_thread(partial(ask, region, "AE_COUNTY", other))


async def test_who_may_not_classify_is_refused(region: Region) -> None:
    url = f"{region.base}/api/studies/{STUDY.uid}/classify"
    async with aiohttp.ClientSession() as http:
        for actor, kinds, code in (
            ("county_a", ["vip"], "access.denied"),
            ("hospital_a1", ["secret"], "decision.sensitivity"),
        ):
            body = {"reason": "test", "kinds": kinds}
            async with http.post(url, json=body, headers=region.headers[actor]) as answer:
                assert (await answer.json())["code"] == code
