"""The main job: a hospital sends studies; they are kept, found and returned byte for byte.

Runs on SQLite with files and on PostgreSQL with a real S3 server, through the doors that people
use: the command line, DCMTK, DICOMweb; and survives a kill of everything in between.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import shutil
import subprocess
import urllib.parse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest

from dataset.part10 import parse_head
from kernel.db.database import Database
from kernel.events.service import feed
from kernel.settings import Settings, load
from server.demo.catalogue import studies
from server.demo.generate import generate
from tests.archive.test_settling import new_bucket
from tests.server.running import Running, serve, yunying
from tests.servers import S3Server
from tests.waiting import eventually

QUIET = {"YUNYING_ARCHIVE_SETTLE_QUIET_S": "1", "YUNYING_ARCHIVE_STUDY_QUIET_S": "2"}

DEMO = [
    replace(study, series=tuple(replace(one, images=min(one.images, 2)) for one in study.series))
    for study in studies()
    if study.picture != "dx_chest"
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two planes of each series of the demonstration studies, without the radiograph."""
    folder = tmp_path_factory.mktemp("studies")
    generate(folder, dt.date(2026, 11, 22), chosen=DEMO, workers=1)
    return folder


@pytest.fixture
def variables(backend: str, request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment that names the back ends."""
    if backend == "sqlite":
        return QUIET
    settings = request.getfixturevalue("empty_settings")
    s3: S3Server = request.getfixturevalue("s3_server")
    return {
        **QUIET,
        "YUNYING_DATABASE_URL": settings.database.url,
        "YUNYING_OBJECTS_URL": f"s3://{new_bucket(s3)}/spine",
        "YUNYING_OBJECTS_ENDPOINT": s3.endpoint,
        "YUNYING_OBJECTS_ACCESS_KEY": s3.access_key,
        "YUNYING_OBJECTS_SECRET_KEY": s3.secret_key,
    }


@pytest.mark.backend
@pytest.mark.timeout(300)
def test_studies_come_in_are_found_and_go_out_as_they_came(
    tmp_path: Path, demo: Path, variables: dict[str, str]
) -> None:
    sent = {ds.SOPInstanceUID: path for path, ds in _read(demo)}
    half = tmp_path / "half"
    shutil.copytree(demo / "chest-ct", half / "chest-ct")
    shutil.copytree(demo / "heart-us", half / "heart-us")
    with serve(tmp_path, **variables) as server:
        _send(server, half)
        said = yunying("import", str(demo), "--data", str(server.data), **variables)
        assert f"{len(sent)} files: {len(sent) - 5} stored, 5 duplicate" in said, said
        _assert_found(server)
        _assert_equal(server, sent)
        pids = [pid for role in ("gateway", "web", "worker") for pid in server.pids(role)]
        for pid in pids:
            os.kill(pid, 9)
        server.process.kill()
        server.process.wait()
    with serve(tmp_path, **variables) as server:
        _assert_found(server)
        _assert_equal(server, sent)
        wait_until_settled(load(None, variables, {"data": str(server.data)}), len(DEMO))
        _assert_equal(server, sent)
        _assert_got(server, sent, tmp_path)
        said = yunying("import", str(demo), "--data", str(server.data), **variables)
        assert f"{len(sent)} imported before" in said


def _read(folder: Path) -> Iterator[tuple[Path, pydicom.Dataset]]:
    for path in sorted(folder.rglob("*.dcm")):
        yield path, pydicom.dcmread(path, stop_before_pixels=True)


def _body(part10: bytes) -> bytes:
    head = parse_head(part10, final=True)
    assert head is not None
    return part10[head.dataset_offset :]


def _send(server: Running, folder: Path) -> None:
    if shutil.which("dcmsend") is None:
        pytest.skip("DCMTK is not installed")
    done = subprocess.run(
        ["dcmsend", "-aec", "YUNYING", "+sd", "+r", "127.0.0.1", str(server.dicom_port), folder],
        env={**os.environ, "TCP_NODELAY": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _assert_found(server: Running) -> None:
    """By hanzi prefix, infix, pinyin and initials, whatever the character set of the files was."""
    for asked, found in {
        "龙*": "龙^国强",
        "*国强": "龙^国强",
        "单*": "单^晓梅",
        "石^兰花": "石^兰花",
        "shan*": "单^晓梅",
        "Wu^Laoxiang": "吴^老祥",
    }.items():
        query = urllib.parse.urlencode({"PatientName": asked})
        names = [
            study["00100010"]["Value"][0].get("Ideographic")
            for study in json.loads(server.get(f"/dicom-web/studies?{query}"))
        ]
        assert names == [found], asked
    for typed, found in {"lgq": "龙^国强", "shanxiaomei": "单^晓梅", "老祥": "吴^老祥"}.items():
        page = server.post("/studies/search", urllib.parse.urlencode({"text": typed}).encode())
        assert "".join(found.split("^")) in page.decode(), typed


def _assert_equal(server: Running, sent: dict[str, Path]) -> None:
    """Every instance comes back by WADO-RS with the very data set that was sent."""
    for sop_instance_uid, path in sent.items():
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        answer = server.get(
            f"/dicom-web/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}"
            f"/instances/{sop_instance_uid}",
            accept='multipart/related; type="application/dicom"; transfer-syntax=*',
        )
        head, _, rest = answer.lstrip().partition(b"\r\n\r\n")
        boundary = head.split(b"\r\n")[0]
        part10 = rest[: rest.rindex(b"\r\n" + boundary)]
        assert _body(part10) == _body(path.read_bytes()), path.name


def _assert_got(server: Running, sent: dict[str, Path], folder: Path) -> None:
    """C-GET by DCMTK brings a study with equal elements and pixels."""
    out = folder / "got"
    out.mkdir()
    path = next(path for path in sent.values() if "chest-ct" in str(path))
    study = pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID
    subprocess.run(
        ["getscu", "-S", "-aec", "YUNYING", "-k", "QueryRetrieveLevel=STUDY",
         "-k", f"StudyInstanceUID={study}", "-od", out, "127.0.0.1", str(server.dicom_port)],
        env={**os.environ, "TCP_NODELAY": "1"},
        check=True,
        capture_output=True,
    )  # fmt: skip
    got = [pydicom.dcmread(file) for file in out.iterdir()]
    assert len(got) == 4
    for ds in got:
        assert ds == pydicom.dcmread(sent[ds.SOPInstanceUID])


def wait_until_settled(settings: Settings, studies_sent: int) -> None:
    """Until every study is at rest in packs, as the event feed tells whoever waits for it."""

    async def wait() -> None:
        database = await Database.open(settings)
        try:

            async def settled() -> bool:
                found = await feed(database, 0, 1000, ["study.settled.v1"])
                return len({event.key for event in found}) == studies_sent

            await eventually(settled, 60)
        finally:
            await database.close()

    asyncio.run(wait())
