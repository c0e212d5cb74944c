from __future__ import annotations

import pytest

from dataset.refs import InstanceRef, SeriesRef, StudyRef, strict_uid
from kernel.errors import Invalid


def test_references_nest_and_compare_by_value() -> None:
    ref = InstanceRef.parse("1.2", "1.2.3", "1.2.3.4")
    assert ref.series == SeriesRef.parse("1.2", "1.2.3")
    assert ref.study == StudyRef("1.2")
    assert (ref.study_instance_uid, ref.series_instance_uid) == ("1.2", "1.2.3")
    assert str(ref) == "1.2/1.2.3/1.2.3.4"
    assert len({ref, InstanceRef.parse("1.2", "1.2.3", "1.2.3.4")}) == 1


def test_padding_is_removed() -> None:
    assert StudyRef.parse("1.2.3\0").study_instance_uid == "1.2.3"


@pytest.mark.parametrize(
    "uid", ["", " ", "../etc", "1.2/3", "1.2*", "1\\2", "1 2", ".1", "1" * 129, "１.２", "1.2\n"]
)
def test_what_cannot_name_an_object_is_refused_with_the_value(uid: str) -> None:
    with pytest.raises(Invalid) as refused:
        StudyRef.parse(uid)
    assert refused.value.code == "uid.invalid"
    assert refused.value.fields["value"] == uid[:80]
    with pytest.raises(Invalid):
        InstanceRef.parse("1.2", "1.3", uid)


def test_uids_of_anonymisers_can_be_named_but_are_not_strict() -> None:
    odd = "dccc9599087131742838cc1162a630fea87ba9bf61ac09bfda90d4adfa5ddaed"
    assert SeriesRef.parse("1.2", odd).series_instance_uid == odd
    assert not strict_uid(odd)


@pytest.mark.parametrize(
    ("uid", "strict"),
    [("1.2.840.10008.1.2", True), ("2.25.0", True), ("1.02", False), ("1..2", False), ("", False)],
)
def test_the_form_of_the_standard_is_known(uid: str, strict: bool) -> None:
    assert strict_uid(uid) is strict
