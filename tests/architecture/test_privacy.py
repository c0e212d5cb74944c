"""No personal data in a log: a known patient goes through every door, and no log knows the name."""

from __future__ import annotations

import io
import json
import re
import urllib.parse
import urllib.request
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
)

from tests.server.running import Running, serve

NAME, HANZI, PINYIN = "Ouyang^Zhenzhen", "欧阳^真真", "ouyangzhenzhen"
PATIENT_ID, PHONE, ID_NUMBER = "PRIVACY0042", "13985512345", "522601198703124521"
KNOWN = ("Ouyang", "Zhenzhen", "欧阳", "真真", PINYIN, PATIENT_ID, PHONE, ID_NUMBER, "19870312")


def test_a_patient_who_went_through_every_door_is_in_no_log(tmp_path: Path) -> None:
    with serve(tmp_path, YUNYING_LOG_LEVEL="debug") as server:
        instance = _instance()
        _store(server, instance)
        _find(server)
        _web(server, instance)
        broken = _instance()
        del broken.StudyInstanceUID  # kept aside for a stated reason
        _store(server, broken, expected=None)
        log = server.log()
    assert "http.request" in log and "dicom" in log
    for known in KNOWN:
        for form in (known, urllib.parse.quote(known), json.dumps(known).strip('"')):
            assert form not in log, f"{known} is in the log"
    metrics = server.metrics
    assert not any(known in metrics for known in KNOWN)
    assert not re.search(r"\d\.\d+\.\d+\.\d+\.\d+", metrics), "a UID is in the metrics"


def _instance() -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.PatientName, ds.PatientID = f"{NAME}={HANZI}", PATIENT_ID
    ds.PatientBirthDate, ds.PatientTelephoneNumbers = "19870312", PHONE
    ds.OtherPatientIDs, ds.Modality, ds.StudyDate = ID_NUMBER, "CT", "20260102"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def _store(server: Running, ds: Dataset, expected: int | None = 0x0000) -> None:
    ae = AE(ae_title="PRIVACY")
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", server.dicom_port, ae_title="YUNYING")
    assert association.is_established
    status = association.send_c_store(ds)
    association.release()
    if expected is not None:
        assert status.Status == expected


def _find(server: Running) -> None:
    ae = AE(ae_title="PRIVACY")
    ae.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
    association = ae.associate("127.0.0.1", server.dicom_port, ae_title="YUNYING")
    for name in ("Ouyang*", "欧阳*"):
        question = Dataset()
        question.SpecificCharacterSet = "ISO_IR 192"
        question.QueryRetrieveLevel, question.PatientName = "STUDY", name
        question.PatientID, question.StudyInstanceUID = PATIENT_ID, ""
        model = StudyRootQueryRetrieveInformationModelFind
        found = [ds for _, ds in association.send_c_find(question, model) if ds]
        assert len(found) == 1
    association.release()


def _web(server: Running, ds: Dataset) -> None:
    asked = urllib.parse.urlencode({"PatientName": "欧阳*", "PatientID": PATIENT_ID})
    found = json.loads(server.get(f"/dicom-web/studies?{asked}"))
    assert found[0]["00100010"]["Value"][0]["Ideographic"] == HANZI
    server.get("/studies")
    server.post("/studies/search", urllib.parse.urlencode({"text": PINYIN}).encode())
    server.get(f"/studies/{ds.StudyInstanceUID}")
    server.get(f"/dicom-web/studies?PatientBirthDate={PHONE}&PatientName={NAME}", ok=False)
    server.get(f"/nowhere/{NAME}", ok=False)
    part10 = io.BytesIO()
    pydicom.dcmwrite(part10, ds, enforce_file_format=True)
    boundary = b"yy"
    body = b"--yy\r\nContent-Type: application/dicom\r\n\r\n" + part10.getvalue() + b"\r\n--yy--"
    kind = f'multipart/related; type="application/dicom"; boundary={boundary.decode()}'
    server.post("/dicom-web/studies", body, kind)
    server.post(
        "/dicom-web/studies", b"--yy\r\n\r\n" + NAME.encode() + b"\r\n--yy--", kind, ok=False
    )
