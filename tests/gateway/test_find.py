"""C-FIND: levels, keys, character sets, paging, cancel and refusals."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset

from gateway.ae.service import add_ae
from gateway.dimse import command as dimse
from gateway.dimse.command import encode as encode_command
from kernel.db.tables import owner
from tests.archive.material import ORIGIN, encode, make, uid
from tests.gateway.conftest import SYSTEM, Gateway
from tests.gateway.peer import (
    ELE,
    ILE,
    PATIENT_FIND,
    STUDY_FIND,
    STUDY_MOVE,
    Message,
    Peer,
    pdu,
    pdv,
)

ONLY_STUDY_FIND = "1.2.840.10008.5.1.4.1.2.3.1"


async def fill(gateway: Gateway, studies: int = 3, series: int = 2, instances: int = 2) -> None:
    made = [
        make(study, one, number)
        for study in range(1, studies + 1)
        for one in range(1, series + 1)
        for number in range(1, instances + 1)
    ]
    await asyncio.gather(
        *(gateway.receiver.append(ORIGIN, one.identity, [one.data]) for one in made)
    )


def identifier(**keys: Any) -> Dataset:
    ds = Dataset()
    for keyword, value in keys.items():
        setattr(ds, keyword, value)
    return ds


async def ask(
    gateway: Gateway,
    keys: Dataset,
    model: str = STUDY_FIND,
    syntax: str = ILE,
    calling: str = "ASKER",
) -> tuple[list[Dataset], Message, set[int]]:
    """The answers decoded, the final response, and the statuses of the pending ones."""
    peer = await Peer.associate(gateway.port, (model, syntax), calling=calling)
    await peer.request(model, syntax, dimse.C_FIND, encode(keys, implicit=syntax == ILE))
    answers, statuses = [], set()
    while True:
        message = await peer.read_message()
        if message.status >> 8 != 0xFF:
            await peer.release()
            return answers, message, statuses
        assert message.data is not None
        statuses.add(message.status)
        answers.append(read_dataset(DicomBytesIO(message.data), syntax == ILE, True))


@pytest.mark.parametrize("syntax", [ILE, ELE])
async def test_study_is_found_by_each_of_its_keys(gateway: Gateway, syntax: str) -> None:
    await fill(gateway)
    for keyword, value in {
        "StudyInstanceUID": uid(2),
        "PatientID": "P00002",
        "AccessionNumber": "A00002",
        "StudyDate": "20240303",
    }.items():
        keys = identifier(
            QueryRetrieveLevel="STUDY",
            StudyInstanceUID="",
            PatientID="",
            AccessionNumber="",
            StudyDate="",
            NumberOfStudyRelatedInstances=None,
            ModalitiesInStudy="",
        )
        setattr(keys, keyword, value)
        answers, final, statuses = await ask(gateway, keys, syntax=syntax)
        assert final.status == 0
        assert statuses == {0xFF00}
        (found,) = answers
        assert found.StudyInstanceUID == uid(2)
        assert found.PatientID == "P00002"
        assert found.NumberOfStudyRelatedInstances == 4
        assert found.ModalitiesInStudy == "CT"
        assert found.QueryRetrieveLevel == "STUDY"
        assert found.RetrieveAETitle == "YUNYING"
        assert found.InstanceAvailability == "ONLINE"


@pytest.mark.parametrize(
    ("model", "level", "keys", "expected"),
    [
        (PATIENT_FIND, "PATIENT", {"PatientID": ""}, 3),
        (PATIENT_FIND, "STUDY", {"PatientID": "P00001", "StudyInstanceUID": ""}, 1),
        (PATIENT_FIND, "SERIES", {"StudyInstanceUID": uid(1), "SeriesInstanceUID": ""}, 2),
        (STUDY_FIND, "STUDY", {"StudyInstanceUID": ""}, 3),
        (STUDY_FIND, "SERIES", {"StudyInstanceUID": uid(1), "SeriesInstanceUID": ""}, 2),
        (STUDY_FIND, "IMAGE", {"SeriesInstanceUID": uid(1, 2), "SOPInstanceUID": ""}, 2),
        (STUDY_FIND, "IMAGE", {"SOPInstanceUID": uid(1, 2, 1)}, 1),
        (STUDY_FIND, "SERIES", {"SeriesInstanceUID": ""}, 6),
        (ONLY_STUDY_FIND, "PATIENT", {"PatientID": "P00003"}, 1),
        (STUDY_FIND, "STUDY", {"StudyInstanceUID": "9.9.9"}, 0),
    ],
)
async def test_levels_of_the_models(
    gateway: Gateway, model: str, level: str, keys: dict[str, str], expected: int
) -> None:
    await fill(gateway)
    answers, final, _ = await ask(gateway, identifier(QueryRetrieveLevel=level, **keys), model)
    assert final.status == 0
    assert len(answers) == expected


@pytest.mark.parametrize(
    ("model", "keys", "status", "words"),
    [
        (STUDY_FIND, {"PatientID": "*"}, 0xA900, "(0008,0052) is missing"),
        (STUDY_FIND, {"QueryRetrieveLevel": "PATIENT"}, 0xA900, "level PATIENT"),
        (ONLY_STUDY_FIND, {"QueryRetrieveLevel": "SERIES"}, 0xA900, "level SERIES"),
        (STUDY_FIND, {"QueryRetrieveLevel": "NOTHING"}, 0xA900, "level NOTHING"),
    ],
)
async def test_level_that_cannot_be_is_refused_in_words(
    gateway: Gateway, model: str, keys: dict[str, str], status: int, words: str
) -> None:
    answers, final, _ = await ask(gateway, identifier(**keys), model)
    assert (answers, final.status) == ([], status)
    assert words in final.comment


async def test_identifier_that_cannot_be_read_is_refused_in_words(gateway: Gateway) -> None:
    peer = await Peer.associate(gateway.port, (STUDY_FIND, ELE))
    await peer.request(STUDY_FIND, ELE, dimse.C_FIND, b"\x08\0\x52\0CS\xff\x00oh")
    answer = await peer.read_message()
    assert answer.status == 0xC000
    assert answer.comment
    await peer.request(STUDY_FIND, ELE, dimse.C_FIND, None)
    assert (await peer.read_message()).status == 0x0212
    await peer.release()


async def test_key_that_nothing_is_matched_against_is_said_so(gateway: Gateway) -> None:
    await fill(gateway, 1)
    keys = identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID="", PatientComments="anything")
    answers, final, statuses = await ask(gateway, keys)
    assert (len(answers), statuses, final.status) == (1, {0xFF01}, 0)
    assert "PatientComments" in answers[0]


@pytest.mark.parametrize("charset", ["GB18030", "ISO_IR 192", "ISO 2022 IR 58", None])
@pytest.mark.parametrize("wanted", ["杨*", "*秀英*", "Yang^Xiu*"])
async def test_chinese_names_come_back_in_the_set_of_the_asker(
    gateway: Gateway, charset: str | None, wanted: str
) -> None:
    await fill(gateway, 1)
    keys = identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID="")
    if charset is not None:
        keys.SpecificCharacterSet = ["", charset] if charset.startswith("ISO 2022") else charset
        keys.PatientName = wanted
    else:
        keys.PatientName = "Yang*"
    (found,), final, _ = await ask(gateway, keys)
    assert final.status == 0
    name = str(found.PatientName).replace("\x1b$)A", "")  # pydicom leaves the escapes of GB 2312
    assert name == "Yang^XiuYing=杨^秀英"
    told = found.SpecificCharacterSet
    assert (told if isinstance(told, str) else told[-1]) == (charset or "ISO_IR 192")


async def test_charset_of_the_node_is_used_where_the_question_names_none(
    gateway: Gateway,
) -> None:
    await fill(gateway, 1)
    await gateway.add_ae("WARD", 104, charset="GB18030")
    keys = identifier(QueryRetrieveLevel="STUDY", PatientName="")
    (found,), _, _ = await ask(gateway, keys, calling="WARD")
    assert found.SpecificCharacterSet == "GB18030"
    assert str(found.PatientName) == "Yang^XiuYing=杨^秀英"


async def test_set_that_cannot_hold_a_name_gives_way_to_unicode(gateway: Gateway) -> None:
    await fill(gateway, 1)
    keys = identifier(SpecificCharacterSet="ISO_IR 100", QueryRetrieveLevel="STUDY", PatientName="")
    (found,), _, _ = await ask(gateway, keys)
    assert found.SpecificCharacterSet == "ISO_IR 192"
    assert "?" not in str(found.PatientName)


async def test_many_answers_come_page_by_page_and_a_cancel_ends_them(gateway: Gateway) -> None:
    await fill(gateway, 1, 1, 450)
    keys = identifier(QueryRetrieveLevel="IMAGE", SOPInstanceUID="", InstanceNumber=None)
    answers, final, _ = await ask(gateway, keys)
    assert final.status == 0
    assert len({one.SOPInstanceUID for one in answers}) == 450

    peer = await Peer.associate(gateway.port, (STUDY_FIND, ILE))
    number = await peer.request(STUDY_FIND, ILE, dimse.C_FIND, encode(keys, implicit=True))
    cancel = encode_command(
        [
            (dimse.COMMAND_FIELD, dimse.us(dimse.C_CANCEL)),
            (dimse.RESPONDED_ID, dimse.us(number)),
            (dimse.DATA_SET_TYPE, dimse.us(dimse.NO_DATA_SET)),
        ]
    )
    await peer.write(pdu(pdv(1, 3, cancel)))
    count = 0
    while (message := await peer.read_message()).status == 0xFF00:
        count += 1
    assert message.status == 0xFE00
    assert message.data is None
    assert count < 450
    await peer.release()


async def test_verb_that_is_not_of_the_class_is_refused(gateway: Gateway) -> None:
    peer = await Peer.associate(gateway.port, (STUDY_MOVE, ILE))
    keys = encode(identifier(QueryRetrieveLevel="STUDY"), implicit=True)
    await peer.request(STUDY_MOVE, ILE, dimse.C_FIND, keys)
    assert (await peer.read_message()).status == 0x0118
    await peer.release()


async def test_another_owner_is_told_nothing(gateway: Gateway) -> None:
    await fill(gateway, 1)
    async with gateway.database.session(SYSTEM, write=True) as session:
        await session.execute(owner.insert().values(id=2, path="/52/other", state="active"))
        await add_ae(session, "STRANGER", "127.0.0.1", 104, owner_id=2)
    keys = identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID="")
    answers, final, _ = await ask(gateway, keys, calling="STRANGER")
    assert (answers, final.status) == ([], 0)
