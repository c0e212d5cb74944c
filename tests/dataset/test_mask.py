"""Masks leave everything in a data set but whose it is."""

from __future__ import annotations

import json

from dataset.mask import DEEPEST, mask_dataset


def test_names_are_masked_wherever_they_stand() -> None:
    name = {
        "vr": "PN",
        "Value": [{"Alphabetic": "Wang^Li", "Ideographic": "王^丽", "Phonetic": "x"}],
    }
    nested = {"vr": "SQ", "Value": [{"00400008": {"vr": "SQ", "Value": [{"0040A123": name}]}}]}
    masked = mask_dataset({"00100010": name, "00080090": name, "0040A730": nested})
    text = json.dumps(masked, ensure_ascii=False)
    assert "Li" not in text and "丽" not in text and "Phonetic" not in text
    assert masked["00100010"]["Value"] == [{"Alphabetic": "W***^***", "Ideographic": "王*^*"}]


def test_numbers_keep_their_ends_and_other_identifiers_are_emptied() -> None:
    masked = mask_dataset(
        {
            "00100020": {"vr": "LO", "Value": ["P000123456789"]},
            "00080050": {"vr": "SH", "Value": ["A1", None]},
            "00100030": {"vr": "DA", "Value": ["19700101"]},
            "00102154": {"vr": "SH", "Value": ["13812345678"]},
            "04000561": {"vr": "SQ", "Value": [{"00100020": {"vr": "LO", "Value": ["old"]}}]},
        }
    )
    assert masked["00100020"]["Value"] == ["P00******6789"]
    assert masked["00080050"]["Value"] == ["**", ""]
    assert all("Value" not in masked[tag] for tag in ("00100030", "00102154", "04000561"))


def test_what_names_nobody_stays() -> None:
    plain = {
        "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
        "00081030": {"vr": "LO", "Value": ["CT chest"]},
        "7FE00010": {"vr": "OW", "BulkDataURI": "x"},
        "00100010": {"vr": "PN"},
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
    }
    assert mask_dataset(plain) == plain


def test_what_lies_deeper_than_any_person_reads_is_left_out() -> None:
    dataset: dict[str, object] = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Wang"}]}}
    for _ in range(DEEPEST + 5):
        dataset = {"0040A730": {"vr": "SQ", "Value": [dataset]}}
    assert "Wang" not in json.dumps(mask_dataset(dataset))
