"""Text in every character set, declared rightly and wrongly."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue

from dataset.charset import (
    STAND_ALONE,
    TEXT_VRS,
    answer_charset,
    decode_text,
    decode_values,
    encode_text,
    normalise,
)
from kernel.errors import Invalid
from tests.dataset import chinese

STRAY = "\x1b$)A"

# Words of each language as they stand in names, in the set that its modalities declare
NATURAL = {
    "ISO_IR 100": (
        "Äneas^Rüdiger Buc^Jérôme Müller^Jürgen Nuñez^Íñigo MÜLLER GRÖßE Óðinn Þórðarson^Ægir "
        "Conceição^João CONCEIÇÃO LEÇÕES créée CRÉÉE Noël Zoë CAFÉ» «Élan» ¿Él? ¡Órale! 37° "
        "10µm cm² m³ ½ ±2° Ångström ÅRØ Øå Öö Ålö Hääyöaie jäääär Gößler^Söhnke Pão Ação Mãe "
        "Françoise^Gaëlle Bjørn^Åse Straße S1ª 2º Sigüenza Camões École ÉCOLE 50µg Pölö "
        "Ñandú Ça À Señor^Ñuño VÄÄNÄNEN Hyvää Pääsiäistä Bärbel tête-à-tête Groß^Käthe"
    ),
    "ISO_IR 101": (
        "Żółć Wałęsa^Lech Dvořák^Antonín déšť Šťastný BĂŞESCU Łódź ŹDŹBŁO žluťoučký kůň příliš "
        "ŻÓŁTY Őrsi^Ödön Árvíztűrő tükörfúrógép ŠŤASTNÁ Čížek^Jiří Kovačević Đorđević Iliescu"
    ),
    "ISO_IR 109": "Ġorġ Ħal Żebbuġ Ċensu ĝusta ĉevalo ŝanĝi",
    "ISO_IR 110": "Bērziņš^Jānis Žukauskaitė Õunapuu Öö jäääär ŠĶĒLE",
    "ISO_IR 148": "GÖĞÜŞ Öğüt^Şükrü İstanbul IŞIK ÇAĞRI Ağaoğlu^Çiğdem ÖĞÜT",
    "ISO_IR 126": "Διονυσιος Παπαδόπουλος^Γιώργος ΑΘΗΝΑ",
    "ISO_IR 144": "Люкceмбypг Иванов^Пётр ЩЕРБАКОВ Чебышёв",
    "ISO_IR 138": "שרון^דבורה כהן",
    "ISO_IR 127": "قباني^لنزار محمد",
    "ISO_IR 166": "สมชาย แบบ เธอ เกม",
    "ISO_IR 203": "Œuvre^Žofia 50€ Ÿpres",
    "ISO_IR 13": "ﾔﾏﾀﾞ^ﾀﾛｳ ｽｽﾞｷ",
    "GB18030": "王^小明 欧阳^修 䶮 𠮷 张小泉2 胸部CT平扫+增强 囍",
    "GBK": "王^小明 镕 喆 堃 瑄",
    "ISO_IR 192": "王^小明 Müller Ïñtërnâtiônàlizætiøn ţС ՕԲ 홍^길동 𠮷",
    "\\ISO 2022 IR 58": "Wang^XiaoMing=王^小明 胸部CT平扫 阿卜杜拉·买买提 —",
    "\\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "ISO 2022 IR 13\\ISO 2022 IR 87": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    "\\ISO 2022 IR 87\\ISO 2022 IR 159": "丂^侊 山田 as^鷗",
    "\\ISO 2022 IR 149": "Hong^Gildong=洪^吉洞=홍^길동",
    "ISO 2022 IR 100\\ISO 2022 IR 144": "Jérôme^Пётр",
    "ISO 2022 IR 6\\ISO 2022 IR 100\\ISO 2022 IR 126": "Jérôme^Γιώργος Müller",
}


def split(charset: str) -> list[str]:
    return charset.split("\\")


# ------------------------------------------------------------------------------- declared rightly


def test_every_text_element_of_the_corpus_reads_as_pydicom_reads_it(shared_data: Path) -> None:
    seen = 0
    for path in sorted((shared_data / "dicom").rglob("*")):
        if path.is_file():
            seen += _compare_with_pydicom(path)
    assert seen > 10_000


def _compare_with_pydicom(path: Path) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ds = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        except Exception:  # noqa: BLE001 - broken on purpose: the scanner's tests have it
            return 0
        return _compare(path, ds, _charsets(ds, [""]))


def _charsets(ds: pydicom.Dataset, inherited: list[str]) -> list[str]:
    value = ds.get("SpecificCharacterSet", inherited)
    return [value] if isinstance(value, str) else list(value or [""])


def _compare(path: Path, ds: pydicom.Dataset, charsets: list[str]) -> int:
    seen = 0
    for tag in list(ds.keys()):
        raw: Any = ds.get_item(tag)
        try:
            element = ds[tag]
        except Exception:  # noqa: BLE001 - values that pydicom refuses are not text
            continue
        if element.VR == "SQ":
            items = element.value or ()
            seen += sum(_compare(path, item, _charsets(item, charsets)) for item in items)
        elif isinstance(raw, RawDataElement) and element.VR in TEXT_VRS and raw.value:
            decoded = decode_text(raw.value, charsets, element.VR)
            several = isinstance(element.value, MultiValue)
            expected = [str(value) for value in (element.value if several else [element.value])]
            expected = [value.replace(STRAY, "").strip(" =") for value in expected]
            values = decode_values(raw.value, charsets, element.VR)
            assert [value.strip(" =") for value in values] == expected, (path, tag)
            assert not decoded.repaired, (path, tag)
            seen += 1
    return seen


@pytest.mark.parametrize("charset", NATURAL)
def test_natural_text_comes_back_and_is_never_repaired(charset: str) -> None:
    texts = NATURAL[charset].split(" ")
    for text in [*texts, " ".join(texts), "\\".join(texts)]:
        for vr in ("PN", "LO"):
            decoded = decode_text(encode_text(text, charset, vr), split(charset), vr)
            assert decoded.text == text
            assert not decoded.repaired, text


@pytest.mark.parametrize(
    "codec", ["latin-1", "iso8859_2", "iso8859_3", "iso8859_4", "iso8859_9", "iso8859_15"]
)
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_latin_words_with_single_accents_are_never_repaired(
    codec: str, data: st.DataObject
) -> None:
    high = [
        char
        for byte in range(0xA0, 0x100)
        if (char := bytes((byte,)).decode(codec, "ignore")).isalpha() and char.islower()
    ]
    ascii_part = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=4)
    syllable = st.tuples(ascii_part, st.sampled_from(high)).map("".join)
    word = st.lists(syllable, min_size=1, max_size=3).map(lambda parts: "".join(parts).capitalize())
    text = "^".join(data.draw(st.lists(word, min_size=1, max_size=3)))
    charset = {"latin-1": "ISO_IR 100", "iso8859_2": "ISO_IR 101", "iso8859_3": "ISO_IR 109",
               "iso8859_4": "ISO_IR 110", "iso8859_9": "ISO_IR 148",
               "iso8859_15": "ISO_IR 203"}[codec]  # fmt: skip
    decoded = decode_text(text.encode(codec), [charset], "PN")
    assert (decoded.text, decoded.repaired) == (text, False)


@settings(deadline=None, max_examples=300)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12))
def test_any_utf8_text_declared_so_stays(text: str) -> None:
    text = text.rstrip(" ").replace("$)", "")
    decoded = decode_text(text.encode("utf-8"), ["ISO_IR 192"], "LO")
    assert (decoded.text, decoded.repaired) == (text, False)


def test_names_declared_rightly_are_never_repaired(shared_data: Path) -> None:
    for family, given_name in chinese.draw(shared_data, 4000, seed=7):
        for text in (
            family + given_name,
            f"{family}^{given_name}",
            f"Wang^X={family}^{given_name}",
        ):
            for charset in ("GB18030", "GBK", "ISO_IR 192"):
                raw = text.encode(STAND_ALONE[charset])
                decoded = decode_text(raw, [charset], "PN")
                assert (decoded.text, decoded.repaired) == (text, False)


# ------------------------------------------------------------------------------- declared wrongly

WRONG = [
    ("王^小明", "gb18030", "ISO_IR 100"),
    ("王小明", "gb18030", "ISO_IR 100"),
    ("王小明", "gb18030", ""),
    ("王^小明", "gb18030", "ISO_IR 6"),
    ("Wang^XiaoMing=王^小明", "gb18030", "ISO_IR 100"),
    ("王^小明", "gb18030", "ISO_IR 192"),
    ("王^小明", "gb18030", "\\ISO 2022 IR 58"),
    ("王^小明", "gb18030", "ISO 2022 IR 6\\ISO 2022 IR 100"),
    ("朱镕基", "gb18030", "\\ISO 2022 IR 58"),
    ("王", "gb18030", "ISO_IR 100"),
    ("男", "gb18030", ""),
    ("胸部CT平扫", "gb18030", "ISO_IR 100"),
    ("头颅MRI平扫+增强", "gb18030", "ISO_IR 100"),
    ("黔东南州人民医院", "gb18030", ""),
    ("右膝关节正侧位x线", "gb18030", "ISO_IR 100"),
    ("龚喆", "gb18030", "ISO_IR 100"),
    ("阿卜杜拉·买买提", "gb18030", "ISO_IR 100"),
    ("王^小明", "utf-8", "ISO_IR 100"),
    ("王小明", "utf-8", ""),
    ("王^小明", "utf-8", "GB18030"),
    ("王小明", "utf-8", "GBK"),
    ("李华", "utf-8", "GB18030"),
    ("王^小東", "utf-8", "GB18030"),
    ("王^小明", "utf-8", "\\ISO 2022 IR 58"),
    ("王^小明", "utf-8", "\\ISO 2022 IR 87"),
    ("胸部CT平扫", "utf-8", "ISO_IR 100"),
    ("Jérôme", "utf-8", "ISO_IR 100"),
    ("Zoë", "utf-8", ""),
    ("Пётр", "utf-8", "ISO_IR 100"),
    ("Иванов", "utf-8", "ISO_IR 144"),
    ("שרון", "utf-8", "ISO_IR 138"),
    ("Jérôme", "latin-1", ""),
    ("Jérôme", "latin-1", "ISO_IR 192"),
    ("山田", "shift_jis", "ISO_IR 13"),
]


@pytest.mark.parametrize(("text", "codec", "declared"), WRONG)
def test_wrong_declarations_are_repaired(text: str, codec: str, declared: str) -> None:
    decoded = decode_text(text.encode(codec), split(declared), "PN")
    assert (decoded.text, decoded.repaired) == (text, True)


@pytest.mark.parametrize("codec", ["gb18030", "utf-8"])
@pytest.mark.parametrize(
    "declared", ["ISO_IR 100", "", "ISO_IR 192", "GB18030", "\\ISO 2022 IR 58"]
)
def test_names_declared_wrongly_are_found_out(codec: str, declared: str, shared_data: Path) -> None:
    right = 0
    names = chinese.draw(shared_data, 3000, seed=11)
    for family, given_name in names:
        text = f"{family}^{given_name}"
        right += decode_text(text.encode(codec), split(declared), "PN").text == text
    assert right / len(names) > 0.99


@pytest.mark.parametrize(
    "text", [f"{STRAY}王^{STRAY}小明", "$)A王^$)A小明", "Wang^X=\x1b$)A王^小明"]
)
@pytest.mark.parametrize("charset", ["ISO_IR 192", "GB18030"])
def test_escape_sequences_that_a_converter_left_are_taken_out(text: str, charset: str) -> None:
    raw = text.encode(STAND_ALONE[charset])
    decoded = decode_text(raw, [charset], "PN")
    assert decoded.text == text.replace(STRAY, "").replace("$)A", "")
    assert decoded.repaired


def test_escape_sequences_count_without_a_declaration() -> None:
    raw = b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab="
    for declared in ([""], ["ISO_IR 100"], ["ISO_IR 192"], ["GB18030"]):
        assert decode_text(raw, declared, "PN").text == "Zhang^XiaoDong=张^小东="


def test_a_character_cut_off_at_the_length_limit_does_not_spoil_the_rest() -> None:
    assert decode_text("胸部平扫".encode()[:-1], ["ISO_IR 192"], "LO").text == "胸部平"
    assert decode_text("胸部平扫".encode()[:-1], ["ISO_IR 100"], "LO").text == "胸部平"
    assert decode_text("胸部平扫".encode("gbk")[:-1], ["ISO_IR 100"], "LO").text == "胸部平"


# ---------------------------------------------------------------------------------- state machine


@pytest.mark.parametrize(
    ("raw", "declared", "text"),
    [
        (b"\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "\\ISO 2022 IR 87", "山田^太郎"),
        (b"\x1b$B;3ED^\x1b$BB@O:\x1b(B", "\\ISO 2022 IR 87", "山田^太郎"),
        (b"\xd4\xcf\xc0\xde=\x1b$B;3ED\x1b(J", "ISO 2022 IR 13\\ISO 2022 IR 87", "ﾔﾏﾀﾞ=山田"),
        (b"\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7", "\\ISO 2022 IR 149", "洪^吉洞"),
        (b"\x1b-FD\xe9\xef^J\xe9r\xf4me", "ISO 2022 IR 100\\ISO 2022 IR 126", "Dιο^Jérôme"),
        (b"a\r\n\x1b$)A\xd5\xc5\r\nb", "\\ISO 2022 IR 58", "a\r\n张\r\nb"),
        (b"\x1b)I\xd4\xcf A", "\\ISO 2022 IR 13", "ﾔﾏ A"),
    ],
)
def test_designations_are_followed(raw: bytes, declared: str, text: str) -> None:
    assert decode_text(raw, split(declared), "PN").text == text


@pytest.mark.parametrize("delimiter", ["^", "=", "\\", "\r", "\n"])
def test_a_delimiter_ends_a_designation(delimiter: str) -> None:
    """After it 0xE9 is é of the first value again."""
    raw = b"\x1b-F\xe9" + delimiter.encode() + b"\xe9"
    decoded = decode_text(raw, ["ISO 2022 IR 100", "ISO 2022 IR 126"], "PN")
    assert (decoded.text, decoded.repaired) == (f"ι{delimiter}é", False)


def test_a_caret_is_no_delimiter_outside_names() -> None:
    decoded = decode_text(b"\x1b-F\xe9^\xe9", ["ISO 2022 IR 100", "ISO 2022 IR 126"], "LO")
    assert decoded.text == "ι^ι"


def test_a_sender_that_forgets_the_second_escape_sequence_is_understood() -> None:
    decoded = decode_text(b"\x1b$)A\xd5\xc5^\xd0\xa1\xb6\xab", ["", "ISO 2022 IR 58"], "PN")
    assert (decoded.text, decoded.repaired) == ("张^小东", True)


def test_half_a_hanzi_that_looks_like_a_delimiter_does_not_split() -> None:
    halves = [0x5C, 0x5E, 0x7C]  # backslash, caret, bar
    chars = [bytes((lead, half)).decode("gbk") for lead in (0x81, 0x9A, 0xC6) for half in halves]
    text = "".join(chars) + "^明\\王"
    for charset in ("GB18030", "GBK"):
        assert decode_values(text.encode("gbk"), [charset], "PN") == text.split("\\")
    surname = "鏫"  # 0xE7 0x5C
    assert surname.encode("gbk")[1] == 0x5C
    assert decode_values(f"王小明\\{surname}小明".encode("gbk"), ["ISO_IR 100"], "LO") == [
        "王小明",
        f"{surname}小明",
    ]


@settings(deadline=None, max_examples=400)
@given(
    st.binary(max_size=40),
    st.sampled_from([*NATURAL, "", "nonsense"]),
    st.sampled_from(["PN", "LT"]),
)
def test_no_bytes_make_the_reader_fail(raw: bytes, charset: str, vr: str) -> None:
    assert isinstance(decode_text(raw, split(charset), vr).text, str)


# ---------------------------------------------------------------------------------- defined terms


@pytest.mark.parametrize(
    ("declared", "terms"),
    [
        ("ISO_IR 100", ("ISO_IR 100",)),
        ("ISO-IR 192", ("ISO_IR 192",)),
        ("ISO IR 100", ("ISO_IR 100",)),
        ("iso_ir_144 ", ("ISO_IR 144",)),
        ("ISO_IR192", ("ISO_IR 192",)),
        ("UTF-8", ("ISO_IR 192",)),
        ("utf8", ("ISO_IR 192",)),
        ("GB2312", ("GBK",)),
        ("GB 18030", ("GB18030",)),
        ("gbk", ("GBK",)),
        ("ISO 2022 GBK", ("GBK",)),
        ("ISO 8859-1", ("ISO_IR 100",)),
        ("ISO-8859-2", ("ISO_IR 101",)),
        ("ISO 2022 58", ("ISO 2022 IR 58",)),
        ("\\ISO 2022 IR 58", ("", "ISO 2022 IR 58")),
        ("\\ISO_IR 58", ("", "ISO 2022 IR 58")),
        ("ISO_IR 100\\ISO 2022 IR 58", ("ISO 2022 IR 100", "ISO 2022 IR 58")),
        ("ISO 2022 IR 6\\ISO 2022 IR 87", ("ISO 2022 IR 6", "ISO 2022 IR 87")),
        ("ISO_IR 192\\ISO 2022 IR 58", ("ISO_IR 192",)),
        ("\\GB18030", ("GB18030",)),
        ("ISO_IR 6", ("",)),
        ("", ("",)),
        ("nonsense", ("",)),
    ],
)
def test_misspelt_terms_are_understood(declared: str, terms: tuple[str, ...]) -> None:
    assert normalise(declared) == terms
    assert normalise(split(declared)) == terms


# --------------------------------------------------------------------------------------- encoding


def test_the_corpus_is_written_as_its_makers_wrote_it(shared_data: Path) -> None:
    for name in ("chrGB2312", "chrH31", "chrH32", "chrI2", "chrX1", "chrX2", "chrRuss", "chrArab"):
        ds = pydicom.dcmread(shared_data / "dicom" / "charset" / f"{name}.dcm")
        raw = ds.get_item("PatientName").value
        value = ds.SpecificCharacterSet
        charset = value if isinstance(value, str) else "\\".join(value)
        decoded = decode_text(raw, split(charset), "PN")
        assert encode_text(decoded.text, charset, "PN") == raw.rstrip(b" "), name


@pytest.mark.parametrize(
    ("text", "charset"),
    [
        ("王", "ISO_IR 100"),
        ("王", ""),
        ("é", "ISO_IR 144"),
        ("喆", "\\ISO 2022 IR 58"),
        ("𠮷", "GBK"),
    ],
)
def test_what_does_not_fit_is_refused_and_not_replaced(text: str, charset: str) -> None:
    with pytest.raises(Invalid) as caught:
        encode_text(text, charset, "PN")
    assert caught.value.code == "charset.not_encodable"


@pytest.mark.parametrize(
    ("asked", "configured", "texts", "answer"),
    [
        ("GB18030", None, ["王"], "GB18030"),
        ("ISO_IR 100", None, ["Müller"], "ISO_IR 100"),
        ("ISO_IR 100", None, ["王"], "ISO_IR 192"),
        ("ISO_IR 100", "GB18030", ["王"], "GB18030"),
        ("\\ISO 2022 IR 58", None, ["王"], "\\ISO 2022 IR 58"),
        ("\\ISO 2022 IR 58", None, ["喆"], "ISO_IR 192"),
        (None, "GBK", ["王"], "GBK"),
        (None, None, ["Li"], "ISO_IR 192"),
        ("", "GB18030", [], "GB18030"),
        ("UTF-8", "GB18030", ["王"], "ISO_IR 192"),
        ("ISO_IR 6", None, ["Li"], "ISO_IR 6"),
    ],
)
def test_answers_use_the_set_of_the_asker_where_it_can(
    asked: str | None, configured: str | None, texts: list[str], answer: str
) -> None:
    assert answer_charset(asked, configured, texts) == answer
