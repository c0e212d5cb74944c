"""Corrections: the named elements say what they should, what they said is told, the rest stays."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dataset.correction import (
    HeadReader,
    Stamp,
    attribute_of,
    corrected,
    edits,
    recoding,
    tag_of,
)
from dataset.dicom_json import to_json
from dataset.splice import splice
from kernel.errors import Invalid
from tests.archive.material import encode

STAMP = Stamp("20260301120000.000+0000", "YUNYING")
SYNTAXES = {
    str(ExplicitVRLittleEndian): {},
    str(ImplicitVRLittleEndian): {"implicit": True},
    str(ExplicitVRBigEndian): {"little": False},
}


def sample(charset: str | list[str] = "ISO_IR 100", **more: Any) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = charset
    ds.StudyDate = "20240301"
    ds.PatientName = "Wang^Li"
    ds.PatientID = "1"
    ds.PatientComments = "kept"
    item = Dataset()
    item.RequestedProcedureDescription = "thorax"
    ds.RequestAttributesSequence = Sequence([item])
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    ds.Rows = ds.Columns = 2
    ds.BitsAllocated = 16
    ds.add_new(0x7FE00010, "OW", b"\1\0\2\0\3\0\4\0")
    return ds


def changes(**named: str) -> dict[str, Any]:
    tags = {name: tag_of(name) for name in named}
    return {f"{tags[name]:08X}": attribute_of(tags[name], text) for name, text in named.items()}


def correct(data: bytes, syntax: str, wanted: dict[str, Any]) -> bytes:
    reader = HeadReader(syntax, wanted)
    for at in range(0, len(data), 7):
        if reader.feed(data[at : at + 7]):
            break
    try:
        made = edits(reader.elements(), syntax, wanted, STAMP)
    except Invalid as error:
        assert error.code == "charset.not_encodable"
        made = recoding(data, syntax, wanted, STAMP)
    return b"".join(splice([data], syntax, made))


def read(data: bytes, syntax: str) -> Dataset:
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    ds = read_dataset(BytesIO(data), implicit, little)
    ds.decode()
    return ds


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_named_elements_change_and_the_old_values_are_told(syntax: str) -> None:
    data = encode(sample(), **SYNTAXES[syntax])
    found = read(
        correct(data, syntax, changes(PatientName="Li^Wei", StudyDescription="CT")), syntax
    )
    assert (found.PatientName, found.StudyDescription, found.PatientID) == ("Li^Wei", "CT", "1")
    (item,) = found.OriginalAttributesSequence
    assert item.AttributeModificationDateTime == STAMP.at
    assert (item.ModifyingSystem, item.ReasonForTheAttributeModification) == ("YUNYING", "CORRECT")
    (before,) = item.ModifiedAttributesSequence
    assert before.PatientName == "Wang^Li"
    assert before["StudyDescription"].value in ("", None)
    for keyword in ("OriginalAttributesSequence", "StudyDescription"):
        delattr(found, keyword)
    found.PatientName = "Wang^Li"
    assert found == sample()


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("undefined", [False, True])
def test_what_was_told_before_stays_and_comes_first(syntax: str, undefined: bool) -> None:
    item = Dataset()
    item.ModifyingSystem = "OTHER"
    told = Sequence([item])
    ds = sample(OriginalAttributesSequence=told)
    ds["OriginalAttributesSequence"].is_undefined_length = undefined
    found = read(correct(encode(ds, **SYNTAXES[syntax]), syntax, changes(PatientID="2")), syntax)
    assert [one.ModifyingSystem for one in found.OriginalAttributesSequence] == ["OTHER", "YUNYING"]


@pytest.mark.parametrize(
    ("charset", "afterwards"),
    [("ISO_IR 192", "ISO_IR 192"), ("GB18030", "GB18030"), ("ISO_IR 100", "ISO_IR 192")],
)
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_chinese_is_written_in_the_own_character_set_or_in_utf8(
    syntax: str, charset: str, afterwards: str
) -> None:
    item = Dataset()
    item.RequestedProcedureDescription = "Schädel" if charset == "ISO_IR 100" else "颅脑"
    ds = sample(charset, InstitutionName="Spital Zürich" if charset == "ISO_IR 100" else "医院")
    ds.RequestAttributesSequence = Sequence([item])
    name = "Yang^Li=杨^丽"
    made = correct(encode(ds, **SYNTAXES[syntax]), syntax, changes(PatientName=name))
    found = read(made, syntax)
    assert found.SpecificCharacterSet == afterwards
    assert found.PatientName == name
    assert found.InstitutionName == ds.InstitutionName
    inner = found.RequestAttributesSequence[0].RequestedProcedureDescription
    assert inner == item.RequestedProcedureDescription
    assert found.PixelData == ds.PixelData


def test_a_wrongly_declared_name_is_told_readably() -> None:
    ds = sample("ISO_IR 100")
    data = encode(ds).replace(b"Wang^Li ", "王^丽".encode("gb18030") + b"   ")
    found = read(correct(data, str(ExplicitVRLittleEndian), changes(PatientName="Li")), "")
    before = found.OriginalAttributesSequence[0].ModifiedAttributesSequence[0]
    assert str(before.PatientName) == "王^丽"
    assert found.SpecificCharacterSet == "ISO_IR 192"


def test_a_correction_that_changes_nothing_leaves_every_byte() -> None:
    data = encode(sample())
    assert correct(data, str(ExplicitVRLittleEndian), changes(PatientName="Wang^Li")) == data


def test_json_is_corrected_like_the_bytes() -> None:
    syntax = str(ExplicitVRLittleEndian)
    data = encode(sample())
    wanted = changes(PatientName="Yang^Li=杨^丽", StudyDescription="CT")
    assert corrected(to_json(data, syntax), wanted, STAMP) == to_json(
        correct(data, syntax, wanted), syntax
    )


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("PatientsName", "x", "attribute.unknown"),
        ("StudyDate", "1.3.2024", "attribute.value"),
        ("Rows", "3", "attribute.value"),
        ("PatientID", "x" * 65, "attribute.value"),
        ("SeriesNumber", "one", "attribute.value"),
    ],
)
def test_values_that_cannot_be_are_refused_in_words(name: str, value: str, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        changes(**{name: value})
    assert refused.value.code == code
