"""Character sets of DICOM text (PS3.5 6.1, PS3.3 C.12.1.1.2), with repair of wrong declarations.

`decode_text` understands every defined term, its common misspellings, and the way Chinese systems
really write: GBK under GB18030, GB 2312 with or without escape sequences, and GBK or UTF-8 bytes
under a declaration that says otherwise, which are repaired on evidence. `encode_text` never
replaces a character: text that does not fit raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from dataset import charset_evidence as evidence
from dataset import iso2022
from kernel.errors import Invalid

UTF8 = "ISO_IR 192"
# PS3.3 Table C.12-5: multi-byte sets without code extensions
STAND_ALONE = {UTF8: "utf-8", "GB18030": "gb18030", "GBK": "gb18030"}
# PS3.5 6.2: VRs that Specific Character Set governs, and those whose value is never split
TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
UNSPLIT_VRS = frozenset({"LT", "ST", "UT", "UR"})

_ISO = re.compile(r"ISO\W*_?\W*(2022)?[\W_]*(?:IR)?[\W_]*(\d+)(?:[\W_](\d+))?")
_LATIN_PARTS = {
    "1": "100", "2": "101", "3": "109", "4": "110", "5": "144", "6": "127", "7": "126", "8": "138",
    "9": "148", "11": "166", "15": "203",
}  # fmt: skip
_NICKNAMES = {
    "": "", "ASCII": "", "USASCII": "", "ISO646": "", "DEFAULT": "", "NONE": "",
    "UTF8": UTF8, "UNICODE": UTF8, "UNICODE11UTF8": UTF8, "IR192": UTF8, "192": UTF8,
    "GB18030": "GB18030", "GB180302000": "GB18030", "GB180302005": "GB18030",
    "GB180302022": "GB18030",
    "GBK": "GBK", "ISO2022GBK": "GBK", "CP936": "GBK", "936": "GBK", "MS936": "GBK",
    "WINDOWS936": "GBK", "GB2312": "GBK", "GB231280": "GBK", "EUCCN": "GBK", "HZGB2312": "GBK",
    "LATIN1": "ISO_IR 100", "CP1252": "ISO_IR 100", "WINDOWS1252": "ISO_IR 100",
    "IR100": "ISO_IR 100",
    "SHIFTJIS": "ISO_IR 13", "SJIS": "ISO_IR 13", "EUCKR": "ISO 2022 IR 149",
    "KSC5601": "ISO 2022 IR 149",
}  # fmt: skip
_NUMBERS = frozenset({*iso2022.SINGLE_BYTE, "6", "87", "159", "149", "58"})
_STRAY_DESIGNATOR = re.compile(r"\x1b(?:\$[()][A-D]|\$[@AB]|[()][A-Z]|-[A-Zb])|\$\)[AC](?=[⺀-￯])")


@dataclass(frozen=True, slots=True)
class Decoded:
    """Text, the defined term(s) it was read with, and whether that overrules the declaration."""

    text: str
    charset_used: str
    repaired: bool


def normalise(declared: Sequence[str] | str | None) -> tuple[str, ...]:
    """Defined terms of a Specific Character Set value; ``('',)`` is the default repertoire.

    Misspellings (``ISO-IR 100``, ``UTF-8``, ``GB2312``) become the term that was meant, unknown
    terms the default repertoire. A stand-alone set is returned alone.
    """
    if declared is None:
        return ("",)
    if isinstance(declared, str):
        declared = declared.split("\\")
    return _normalise(tuple(declared))


@lru_cache(maxsize=512)
def _normalise(declared: tuple[str, ...]) -> tuple[str, ...]:
    terms = [_term(part) for value in declared for part in value.split("\\")] or [""]
    if terms[0] in STAND_ALONE:
        return (terms[0],)
    others = [term for term in terms[1:] if term and term not in STAND_ALONE]
    if not terms[0] and not others:
        alone = next((term for term in terms if term in STAND_ALONE), "")
        return (alone,)
    if others:  # code extensions in use: only the terms with 2022 exist
        return tuple(dict.fromkeys(_extended(term) for term in (terms[0], *others)))
    return (terms[0],)


def _term(value: str) -> str:
    text = value.strip(" \0\t'\"[]").upper()
    nickname = _NICKNAMES.get(re.sub(r"[\W_]", "", text))
    if nickname is not None:
        return nickname
    found = _ISO.fullmatch(text)
    if found is None:
        return ""
    extended, number, part = found.groups()
    if number == "8859" or number == "88591":
        number = _LATIN_PARTS.get(part or "1", "6")
    if number in ("192", "10646"):
        return UTF8
    if number not in _NUMBERS:
        return ""
    if number == "6":
        return "ISO 2022 IR 6" if extended else ""
    only_extended = number in ("87", "159", "149", "58")
    return f"ISO 2022 IR {number}" if extended or only_extended else f"ISO_IR {number}"


def _extended(term: str) -> str:
    return f"ISO 2022 IR {_number(term)}" if term else ""


def _number(term: str) -> str:
    return term.rpartition(" ")[2] if term.startswith("ISO") else "6"


@lru_cache(maxsize=512)
def _numbers(terms: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_number(term) for term in terms)


def resets_of(vr: str) -> frozenset[int]:
    """Bytes after which code extensions start over (PS3.5 6.1.2.5.3)."""
    if vr == "PN":
        return iso2022.CONTROL_RESETS | frozenset(b"^=\\")
    delimiter = b"" if vr in UNSPLIT_VRS else b"\\"
    return iso2022.CONTROL_RESETS | frozenset(delimiter)


def decode_text(raw: bytes, charsets: Sequence[str], vr: str) -> Decoded:
    r"""Decode a whole value field; values stay joined by the backslash.

    `charsets` are the values of (0008,0005), as they stand there; padding at the end (spaces, NUL)
    is removed. Never split `raw` before: a backslash byte may be half a hanzi. Never raises: what
    no reading explains becomes U+FFFD. Source: PS3.5 6.1.2, 6.1.2.5.
    """
    raw = bytes(raw).rstrip(b" \0")
    terms = normalise(charsets)
    if raw.isascii() and iso2022.ESCAPE not in raw:
        text = raw.decode("ascii")
        if "$)" not in text:
            return Decoded(text, "\\".join(terms), False)
    if terms[0] in STAND_ALONE:
        return _decode_stand_alone(raw, terms[0], vr)
    if iso2022.ESCAPE in raw or len(terms) > 1 or terms[0] in ("ISO 2022 IR 58", "ISO 2022 IR 149"):
        return _decode_extended(raw, terms, vr)
    return _decode_single(raw, terms[0])


def decode_values(raw: bytes, charsets: Sequence[str], vr: str) -> list[str]:
    """The values of a text element, each without the spaces that do not count (PS3.5 6.2)."""
    text = decode_text(raw, charsets, vr).text
    if vr in UNSPLIT_VRS:
        return [text]
    return [value.rstrip(" ") if vr == "UC" else value.strip(" ") for value in text.split("\\")]


def _decode_stand_alone(raw: bytes, term: str, vr: str) -> Decoded:
    if term == UTF8:
        text = evidence.as_utf8(raw)
        if text is None:
            return _decode_not_utf8(raw, vr)
    else:
        gb_text = evidence.as_gb(raw)
        better = evidence.utf8_instead_of_gb(raw, gb_text)
        if better is not None:
            return Decoded(_without_designators(better)[0], UTF8, True)
        text = raw.decode("gb18030", "replace") if gb_text is None else gb_text
    text, repaired = _without_designators(text)
    return Decoded(text, term, repaired)


def _decode_not_utf8(raw: bytes, vr: str) -> Decoded:
    """Bytes declared ISO_IR 192 that are something else."""
    if iso2022.ESCAPE in raw:
        decoding = iso2022.decode(raw, ("6", "58"), resets_of(vr))
        if iso2022.REPLACEMENT not in decoding.text:
            return Decoded(decoding.text, "\\ISO 2022 IR 58", True)
    gb_text = evidence.as_gb(raw)
    if gb_text is not None and evidence.commonness(gb_text) >= 0.5:
        return Decoded(_without_designators(gb_text)[0], "GB18030", True)
    latin = raw.decode("latin-1")
    if evidence.reads_naturally(latin):
        return Decoded(latin, "ISO_IR 100", True)
    return Decoded(_without_designators(raw.decode("utf-8", "replace"))[0], UTF8, False)


def _without_designators(text: str) -> tuple[str, bool]:
    """Text without escape sequences that a converter left inside (``ESC $)A`` before each name)."""
    if "\x1b" not in text and "$)" not in text:
        return text, False
    cleaned = _STRAY_DESIGNATOR.sub("", text)
    return cleaned, cleaned != text


def _decode_extended(raw: bytes, terms: tuple[str, ...], vr: str) -> Decoded:
    declared = "\\".join(terms)
    decoding = iso2022.decode(raw, _numbers(terms), resets_of(vr))
    if decoding.faithful:
        text, repaired = _without_designators(decoding.text)
        return Decoded(text, declared, repaired)
    utf8 = evidence.as_utf8(raw)
    if utf8 is not None and not utf8.isascii():
        return Decoded(_without_designators(utf8)[0], UTF8, True)
    if iso2022.REPLACEMENT in decoding.text and iso2022.ESCAPE not in raw:
        first = terms[0] if _number(terms[0]) in iso2022.SINGLE_BYTE else ""
        found = _decode_single(raw, first)
        if found.repaired:
            return found
    return Decoded(_without_designators(decoding.text)[0], declared, True)


def _decode_single(raw: bytes, term: str) -> Decoded:
    number = _number(term) if term else ""
    table = iso2022.high_table("100" if number in ("", "6") else number)
    text = "".join(chr(byte) if byte < 0x80 else table[byte - 0x80] for byte in raw)
    declared = "" if number == "6" else number
    utf8 = evidence.utf8_instead(raw, text, declared)
    if utf8 is not None:
        return Decoded(utf8, UTF8, True)
    gb_text = evidence.gb_instead(raw, text, declared)
    if gb_text is not None:
        return Decoded(gb_text, "GB18030", True)
    if number == "13" and iso2022.REPLACEMENT in text:
        return Decoded(raw.decode("shift_jis", "replace"), term, True)
    if number in ("", "6"):  # high bytes without a declaration: what they nearly always are
        return Decoded(text, "ISO_IR 100", True)
    return Decoded(text, term, False)


# ---------------------------------------------------------------------------------------- encoding


def encode_text(text: str, charset: str, vr: str) -> bytes:
    r"""Encode `text` (values joined by the backslash) in `charset`, without padding.

    `charset` is a Specific Character Set value, several terms joined by the backslash.
    Raises `Invalid('charset.not_encodable')` when a character does not fit; nothing is replaced.
    """
    if text.isascii() and "\x1b" not in text:
        return text.encode("ascii")
    terms = normalise(charset)
    encoded = _encode(text, terms, vr)
    if encoded is None:
        raise Invalid(
            "charset.not_encodable",
            "The text cannot be written in the character set {charset}.",
            charset="\\".join(terms) or "ISO_IR 6",
        )
    return encoded


def _encode(text: str, terms: tuple[str, ...], vr: str) -> bytes | None:
    if terms[0] in STAND_ALONE:
        # Python's GBK is the two-byte set alone: four-byte characters are not GBK
        codec = "gbk" if terms[0] == "GBK" else STAND_ALONE[terms[0]]
        try:
            return text.encode(codec)
        except UnicodeEncodeError:
            return None
    return iso2022.encode(text, _numbers(terms), resets_of(vr))


def can_encode(text: str, charset: str) -> bool:
    """Whether `encode_text` would succeed."""
    return text.isascii() or _encode(text, normalise(charset), "PN") is not None


def answer_charset(asked: str | None, configured: str | None, texts: Iterable[str]) -> str:
    """The character set of an answer: the asker's, else the one set for it, else ISO_IR 192.

    `asked` is (0008,0005) of the identifier (None when absent), `configured` the setting of the AE;
    a set that cannot hold all `texts` is passed over, so no character is ever replaced.
    """
    wanted = [charset for charset in (asked, configured) if charset and charset.strip(" \0")]
    content = list(texts)
    for charset in wanted:
        term = "\\".join(normalise(charset))
        if all(can_encode(text, term) for text in content):
            return term or "ISO_IR 6"
    return UTF8
