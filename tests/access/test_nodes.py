"""A DICOM node belongs to an organisation and sees what lies at its place and below, no more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.uid import CTImageStorage, EncapsulatedPDFStorage, ExplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)
from sqlalchemy import text

from gateway.ae.service import add_ae
from identity.organisations.service import move
from kernel.db.statement import Statement
from tests.access.region import NODES, STUDIES, Region, Study, line
from tests.archive.material import make, uid
from tests.gateway.scp import storage_scp
from tests.identity.places import SYSTEM
from tests.waiting import eventually

pytestmark = pytest.mark.backend

ELE = [str(ExplicitVRLittleEndian)]
STORED = [(CTImageStorage, ELE), (EncapsulatedPDFStorage, ELE)]
STUDY_ROOT = StudyRootQueryRetrieveInformationModelFind


def seen_by(title: str) -> list[Study]:
    """The oracle: the studies of the node's organisation and of those below it."""
    place = NODES.get(title, "local")
    return sorted((one for one in STUDIES if place in line(one.owner)), key=lambda one: one.number)


def connect(region: Region, title: str) -> Association:
    ae = AE(title)
    ae.add_requested_context(STUDY_ROOT)
    ae.add_requested_context(PatientRootQueryRetrieveInformationModelFind)
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelMove)
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
    roles = []
    for sop_class, syntaxes in STORED:
        ae.add_requested_context(sop_class, syntaxes)
        roles.append(build_role(sop_class, scu_role=True, scp_role=True))
    got: list[str] = []

    def keep(event: evt.Event) -> int:
        got.append(str(event.dataset.PatientID))
        return 0

    handlers = [(evt.EVT_C_STORE, keep)]
    assoc = ae.associate(
        "127.0.0.1", region.dicom.port, ae_title="YUNYING", ext_neg=roles, evt_handlers=handlers
    )
    assert assoc.is_established
    assoc.got = got
    return assoc


def keys(level: str, **more: str) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = level
    ds.PatientID = ds.PatientName = ds.AccessionNumber = ""
    if level != "PATIENT":
        ds.StudyInstanceUID = ""
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    return ds


@dataclass
class Peer:
    """A node with one association; its calls block."""

    assoc: Association

    def found(self, level: str = "STUDY", **more: str) -> list[str]:
        """The Patient IDs that it finds, in order."""
        model = PatientRootQueryRetrieveInformationModelFind if level == "PATIENT" else STUDY_ROOT
        answers = self.assoc.send_c_find(keys(level, **more), model)
        return sorted(str(ds.PatientID) for _, ds in answers if ds is not None)

    def fetched(self, study: Study) -> set[str]:
        """Whose images of a study it gets by C-GET."""
        self.assoc.got.clear()
        wanted = keys("STUDY", StudyInstanceUID=study.uid)
        list(self.assoc.send_c_get(wanted, StudyRootQueryRetrieveInformationModelGet))
        return set(self.assoc.got)

    def moved(self, study: Study) -> int:
        """How many instances of a study it lets be sent to DEST."""
        wanted = keys("STUDY", StudyInstanceUID=study.uid)
        model = StudyRootQueryRetrieveInformationModelMove
        statuses = list(self.assoc.send_c_move(wanted, "DEST", model))
        return int(statuses[-1][0].get("NumberOfCompletedSuboperations", 0))


def ask(region: Region, title: str, work: Callable[[Peer], None]) -> None:
    """Let a node work through one association."""
    assoc = connect(region, title)
    try:
        work(Peer(assoc))
    finally:
        assoc.release()


async def test_nodes_find_what_their_organisation_and_those_below_own(region: Region) -> None:
    def look(title: str, peer: Peer) -> None:
        seen = seen_by(title)
        mine = sorted(study.marks[0] for study in seen)
        assert peer.found() == mine
        assert peer.found("PATIENT") == mine
        for study in STUDIES:
            shown = [one.marks[0] for one in seen if one.uid == study.uid]
            assert peer.found(StudyInstanceUID=study.uid) == sorted(shown)
            assert peer.found(PatientID=study.marks[0]) == [study.marks[0]] * (study in seen)

    for title in (*NODES, "STRANGER"):
        await asyncio.to_thread(ask, region, title, partial(look, title))


async def test_nodes_retrieve_what_they_may_see(region: Region) -> None:
    def fetch(title: str, peer: Peer) -> None:
        for study in STUDIES:
            theirs = {one.marks[0] for one in seen_by(title) if one.uid == study.uid}
            assert peer.fetched(study) == theirs
            assert peer.moved(study) == 2 * len(theirs)

    with storage_scp(STORED) as destination:
        async with region.database.session(SYSTEM, write=True) as session:
            await add_ae(session, "DEST", "127.0.0.1", destination.port)
        for title in ("AE_A1", "AE_COUNTY"):
            await asyncio.to_thread(ask, region, title, partial(fetch, title))


async def test_what_a_node_sends_belongs_to_its_organisation(region: Region) -> None:
    def send(peer: Peer) -> None:
        ds = read_dataset(DicomBytesIO(make(31).data), False, True)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        assert peer.assoc.send_c_store(ds).Status == 0

    await asyncio.to_thread(ask, region, "AE_B1", send)
    owner = Statement(text("SELECT owner_id FROM study WHERE study_instance_uid = :uid"))
    rows = await region.database.fetch(owner, {"uid": uid(31)})
    assert rows == [(region.owner_ids["hospital_b1"],)]


async def test_a_hospital_that_moves_is_seen_from_its_new_county(region: Region) -> None:
    (other,) = [one for one in STUDIES if one.number == 3]
    answers: list[list[str]] = []

    def look(peer: Peer) -> None:
        answers.append(peer.found())

    await asyncio.to_thread(ask, region, "AE_COUNTY", look)
    assert other.marks[0] not in answers[-1]
    async with region.database.session(SYSTEM, write=True) as session:
        await move(session, SYSTEM, region.places.hospital_b1, region.places.county_a)

    async def sees() -> bool:
        await asyncio.to_thread(ask, region, "AE_COUNTY", look)
        return other.marks[0] in answers[-1]

    await eventually(sees)
