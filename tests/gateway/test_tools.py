"""DCMTK's tools and pynetdicom against the server, as hospitals have them."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from dataset.part10 import file_head
from tests.archive.material import make, uid
from tests.gateway.conftest import Gateway
from tests.gateway.scp import storage_scp

TOOLS = ("echoscu", "storescu", "dcmsend", "findscu", "movescu", "getscu", "storescp")
pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, TOOLS)), reason="DCMTK's tools are not installed"
)


def path_of(tool: str) -> str:
    """DCMTK's tool, not pynetdicom's of the same name."""
    folders = [f for f in os.environ["PATH"].split(os.pathsep) if ".venv" not in f]
    return str(shutil.which(tool, path=os.pathsep.join(folders)))


async def run(tool: str, *args: str | Path) -> tuple[int, str]:
    """Run a tool of DCMTK: exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        path_of(tool),
        *map(str, args),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "TCP_NODELAY": "1"},
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode("utf-8", "replace")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Six CT files of one study."""
    folder = tmp_path / "files"
    folder.mkdir()
    written = []
    for series in (1, 2):
        for number in (1, 2, 3):
            made = make(1, series, number, side=64 * number)
            path = folder / f"{series}-{number}.dcm"
            one = made.identity
            head = file_head(one.sop_class_uid, one.sop_instance_uid, one.transfer_syntax_uid)
            path.write_bytes(head + made.data)
            written.append(path)
    return written


def assert_same(got: Path, files: list[Path]) -> None:
    """All files arrived with equal elements."""
    wanted = {one.SOPInstanceUID: one for one in map(pydicom.dcmread, files)}
    found = {one.SOPInstanceUID: one for one in map(pydicom.dcmread, sorted(got.iterdir()))}
    assert found.keys() == wanted.keys()
    for name, ds in wanted.items():
        assert found[name] == ds


def at(gateway: Gateway) -> list[str]:
    return ["-aec", "YUNYING", "127.0.0.1", str(gateway.port)]


async def test_dcmtk_sends_finds_gets_and_moves(
    gateway: Gateway, files: list[Path], tmp_path: Path, unused_tcp_port: int
) -> None:
    assert (await run("echoscu", *at(gateway)))[0] == 0
    code, said = await run("storescu", "-v", *at(gateway), *files[:3])
    assert code == 0, said
    code, said = await run("dcmsend", "-v", *at(gateway), *files[3:])
    assert code == 0, said

    keys = ["-k", "QueryRetrieveLevel=SERIES", "-k", f"StudyInstanceUID={uid(1)}"]
    code, said = await run(
        "findscu", "-S", *at(gateway), *keys, "-k", "SeriesInstanceUID", "-k", "Modality"
    )
    assert code == 0, said
    assert uid(1, 1) in said
    assert uid(1, 2) in said

    got = tmp_path / "got"
    got.mkdir()
    study = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={uid(1)}"]
    code, said = await run("getscu", "-v", "-S", "-od", got, "-aet", "WARD", *at(gateway), *study)
    assert code == 0, said
    assert_same(got, files)

    moved = tmp_path / "moved"
    moved.mkdir()
    await gateway.add_ae("MOVESCU", unused_tcp_port)
    code, said = await run(
        "movescu", "-v", "-S", "--port", str(unused_tcp_port), "-od", moved, *at(gateway), *study
    )
    assert code == 0, said
    assert_same(moved, files)


async def test_dcmtk_storescp_takes_a_move(
    gateway: Gateway, files: list[Path], tmp_path: Path, unused_tcp_port: int
) -> None:
    assert (await run("storescu", *at(gateway), *files))[0] == 0
    moved = tmp_path / "moved"
    moved.mkdir()
    scp = await asyncio.create_subprocess_exec(
        path_of("storescp"), "-od", str(moved), str(unused_tcp_port)
    )
    try:
        async with asyncio.timeout(10):
            while (await run("echoscu", "127.0.0.1", str(unused_tcp_port)))[0]:
                pass
        await gateway.add_ae("STORESCP", unused_tcp_port)
        study = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={uid(1)}"]
        code, said = await run("movescu", "-v", "-S", "-aem", "STORESCP", *at(gateway), *study)
        assert code == 0, said
    finally:
        scp.terminate()
        await scp.wait()
    assert_same(moved, files)


async def test_dcmtk_is_told_why_it_is_refused(gateway: Gateway, files: list[Path]) -> None:
    where = ["-aec", "WRONG", "127.0.0.1", str(gateway.port)]
    code, said = await run("storescu", "-v", *where, files[0])
    assert code != 0
    assert "Called AE Title Not Recognized" in said


def work_of_pynetdicom(port: int, destination: str) -> tuple[list[int], list[Dataset], set[str]]:
    """Echo, store, find, move and get from a thread; statuses, answers, and what was got."""
    made = make(3, 1, 1, side=600)
    ds = pydicom.dcmread(pydicom.filebase.DicomBytesIO(made.data), force=True)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    got: set[str] = set()

    def handle_store(event: evt.Event) -> int:
        got.add(str(event.request.AffectedSOPInstanceUID))
        return 0

    ae = AE("PYNETDICOM")
    ae.add_requested_context(Verification)
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    ae.add_requested_context(PatientRootQueryRetrieveInformationModelFind)
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelMove)
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid = CTImageStorage
    role.scu_role = role.scp_role = True
    assoc = ae.associate(
        "127.0.0.1",
        port,
        ae_title="YUNYING",
        ext_neg=[role],
        evt_handlers=[(evt.EVT_C_STORE, handle_store)],
    )
    assert assoc.is_established
    statuses = [assoc.send_c_echo().Status, assoc.send_c_store(ds).Status]
    keys = Dataset()
    keys.QueryRetrieveLevel = "STUDY"
    keys.PatientID = "P00003"
    keys.StudyInstanceUID = ""
    answers = []
    for status, answer in assoc.send_c_find(keys, PatientRootQueryRetrieveInformationModelFind):
        statuses.append(status.Status)
        if answer is not None:
            answers.append(answer)
    keys.StudyInstanceUID = uid(3)
    for status, _ in assoc.send_c_move(
        keys, destination, StudyRootQueryRetrieveInformationModelMove
    ):
        statuses.append(status.Status)
    for status, _ in assoc.send_c_get(keys, StudyRootQueryRetrieveInformationModelGet):
        statuses.append(status.Status)
    assoc.release()
    return statuses, answers, got


async def test_pynetdicom_does_all_services_on_one_association(gateway: Gateway) -> None:
    with storage_scp([(CTImageStorage, [ExplicitVRLittleEndian])]) as dest:
        await gateway.add_ae("DEST", dest.port)
        statuses, answers, got = await asyncio.to_thread(work_of_pynetdicom, gateway.port, "DEST")
    assert statuses == [0, 0, 0xFF00, 0, 0xFF00, 0, 0xFF00, 0]
    assert [str(one.StudyInstanceUID) for one in answers] == [uid(3)]
    assert got == set(dest.data) == {uid(3, 1, 1)}
