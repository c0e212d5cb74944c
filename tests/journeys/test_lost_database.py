"""The database is gone: everything comes back from the packs and the journal by one command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kernel.settings import Settings
from tests.archive.material import make
from tests.journeys.test_crashes import part10
from tests.journeys.test_spine import wait_until_settled
from tests.server.running import Running, fails, serve, yunying

QUIET = {"YUNYING_ARCHIVE_SETTLE_QUIET_S": "0.5", "YUNYING_ARCHIVE_STUDY_QUIET_S": "1"}


@pytest.mark.timeout(240)
def test_a_lost_database_is_made_again_from_what_is_stored(tmp_path: Path) -> None:
    folder = tmp_path / "studies"
    _write(folder, studies=(1, 2))
    with serve(tmp_path, **QUIET) as server:
        data = ("--data", str(server.data))
        yunying("import", str(folder), *data, **QUIET)
        wait_until_settled(Settings(data=server.data), 2)
        late = tmp_path / "late"
        _write(late, studies=(3,))
        before = _studies(server)
    yunying("import", str(late), *data)  # stays in the journal
    for file in server.data.glob("index.sqlite*"):
        file.unlink()
    said = yunying("rebuild-index", *data)
    # the segments of what was settled stay for an hour: their records are met, and count once
    assert "9 instances of 2 packs and 9 records of the journal" in said
    with serve(tmp_path, **QUIET) as server:
        after = _studies(server)
        assert {uid: after[uid] for uid in before} == before
        assert len(after) == len(before) + 1
        assert "0 damaged" in yunying("scrub", *data)


@pytest.mark.timeout(240)
def test_a_scrub_names_what_is_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "studies"
    _write(folder, studies=(1,))
    with serve(tmp_path, **QUIET) as server:
        data = ("--data", str(server.data))
        yunying("import", str(folder), *data, **QUIET)
        wait_until_settled(Settings(data=server.data), 1)
        pack = next(server.data.rglob("*.dcmpack"))
        content = bytearray(pack.read_bytes())
        content[1000] ^= 1
        pack.chmod(0o600)
        pack.write_bytes(content)
        said = fails("scrub", *data)
    assert "1 damaged" in said
    assert make(1, 1, 1).identity.sop_instance_uid in said


def _write(folder: Path, studies: tuple[int, ...]) -> None:
    folder.mkdir()
    for study in studies:
        for number in (1, 2, 3):
            (folder / f"{study}-{number}").write_bytes(part10(make(study, 1, number)))


def _studies(server: Running) -> dict[str, object]:
    found = json.loads(server.get("/dicom-web/studies?includefield=all"))
    for study in found:
        study.pop("00081190")  # the address holds the port
    return {study["0020000D"]["Value"][0]: study for study in found}
