"""Two machines on one database and one object store: what came to one is there on the other."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelMove,
)

from dataset.part10 import parse_head
from kernel.settings import Settings, load
from tests.archive.material import Made, make, uid
from tests.archive.test_settling import new_bucket
from tests.gateway.peer import CT, ELE, Peer
from tests.gateway.scp import storage_scp
from tests.journeys.test_spine import wait_until_settled
from tests.server.running import Running, serve, yunying
from tests.servers import S3Server

STUDY = f"/dicom-web/studies/{uid(1)}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_what_one_machine_took_the_other_gives(
    tmp_path: Path, empty_settings: Settings, s3_server: S3Server
) -> None:
    shared = {
        "YUNYING_DATABASE_URL": empty_settings.database.url,
        "YUNYING_OBJECTS_URL": f"s3://{new_bucket(s3_server)}/two",
        "YUNYING_OBJECTS_ENDPOINT": s3_server.endpoint,
        "YUNYING_OBJECTS_ACCESS_KEY": s3_server.access_key,
        "YUNYING_OBJECTS_SECRET_KEY": s3_server.secret_key,
        "YUNYING_ARCHIVE_SETTLE_QUIET_S": "0.2",
        "YUNYING_ARCHIVE_STUDY_QUIET_S": "1",
        "YUNYING_INTERNAL_SECRET_FILE": str(tmp_path / "secret"),
    }
    (tmp_path / "secret").write_text("known to both\n")
    of_a = {**shared, "YUNYING_NODE": "a"}
    patient = {**of_a, "YUNYING_ARCHIVE_SETTLE_QUIET_S": "3600"}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    listen = ("--internal", "127.0.0.1:0")
    made = [make(number=number, side=64) for number in (1, 2, 3)]
    with serve(tmp_path / "b", *listen, **shared, YUNYING_NODE="b") as b:
        with serve(tmp_path / "a", *listen, **patient) as a:
            asyncio.run(_store(a, made))
            _assert_given(b, made)  # although b settles what is quiet for 0.2 s: not what a has
            a.process.kill()
            a.process.wait()
        _assert_unavailable(b, made, shared)
        with serve(tmp_path / "a", *listen, **of_a):
            _assert_given(b, made)
            wait_until_settled(load(None, of_a, {"data": str(a.data)}), 1)
            _assert_given(b, made)
        _assert_given(b, made)


async def _store(server: Running, made: list[Made]) -> None:
    peer = await Peer.associate(server.dicom_port, (CT, ELE))
    for one in made:
        message = await peer.store(CT, one.identity.sop_instance_uid, ELE, one.data)
        assert message.status == 0x0000
    await peer.release()


def _path(one: Made) -> str:
    return f"{STUDY}/series/{one.series}/instances/{one.identity.sop_instance_uid}"


def _assert_given(server: Running, made: list[Made]) -> None:
    """QIDO-RS finds all, WADO-RS gives each byte for byte, its metadata and its pixels."""
    found = json.loads(server.get(f"{STUDY}/instances"))
    assert {one["00080018"]["Value"][0] for one in found} == {
        one.identity.sop_instance_uid for one in made
    }
    for one in made:
        part10 = server.get(_path(one), accept="application/dicom; transfer-syntax=*")
        head = parse_head(part10, final=True)
        assert head is not None
        assert part10[head.dataset_offset :] == one.data
        pixels = server.get(f"{_path(one)}/frames/1", accept="application/octet-stream")
        assert one.data.endswith(pixels)
    assert len(json.loads(server.get(f"{STUDY}/metadata"))) == len(made)


def _assert_unavailable(server: Running, made: list[Made], shared: dict[str, str]) -> None:
    """The study is known; its bytes are an outage by every door, not something that is missing."""
    assert len(json.loads(server.get(f"{STUDY}/instances"))) == len(made)
    for path in (STUDY, f"{STUDY}/metadata", _path(made[0]), f"{_path(made[0])}/frames/1"):
        request = urllib.request.Request(server.base + path, headers=server.bearer)
        with pytest.raises(urllib.error.HTTPError) as failure:
            urllib.request.urlopen(request, timeout=30)
        with failure.value as answer:
            assert answer.status == 503, path
            assert int(answer.headers["Retry-After"]) > 0
            assert json.loads(answer.read())["code"] == "node.unreachable"
    status = _moved(server, shared)
    assert status.NumberOfFailedSuboperations == len(made)
    assert status.NumberOfCompletedSuboperations == 0


def _moved(server: Running, shared: dict[str, str]) -> Dataset:
    """The last answer to a C-MOVE of the study to a node of our own."""
    with storage_scp([(CTImageStorage, [ExplicitVRLittleEndian])]) as taken:
        node = ("DEST", "127.0.0.1", str(taken.port), "--data", str(server.data))
        yunying("ae", "add", *node, **shared)
        ae = AE(ae_title="TEST")
        ae.add_requested_context(StudyRootQueryRetrieveInformationModelMove)
        association = ae.associate("127.0.0.1", server.dicom_port, ae_title="YUNYING")
        assert association.is_established
        wanted = Dataset()
        wanted.QueryRetrieveLevel, wanted.StudyInstanceUID = "STUDY", uid(1)
        model = StudyRootQueryRetrieveInformationModelMove
        *_, (status, _) = association.send_c_move(wanted, "DEST", model)
        association.release()
    assert isinstance(status, Dataset)
    return status
