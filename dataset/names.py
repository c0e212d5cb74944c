"""Person names: the three groups of a PN, and the keys under which people look for them.

A name is found by its characters, by pinyin, by initials and by its Latin form. `name_keys` makes
the keys that the index stores, `query_keys` says what a typed or DICOM search text means as tests
on these keys, and `matches` decides both together.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from dataset import pinyin
from dataset.charset_evidence import is_hanzi

MAX_HANZI = 64
MAX_VARIANTS = 8

KeyName = Literal["folded", "hanzi", "pinyin", "initials"]
Operator = Literal["equals", "prefix", "infix", "glob"]

_LATIN_WORD = re.compile(r"[a-z]{2,}")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WILDCARDS = re.compile(r"[*?]")
_UMLAUT = re.compile(r"(?<=[ln])(?:yu|u|v)(?!a|o|i|n)")
_SEPARATORS = re.compile(r"[\s^,，、]+")
# letters that no decomposition takes apart
_PLAIN = str.maketrans(
    {"æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "ħ": "h"}
)


@dataclass(frozen=True, slots=True)
class PersonName:
    """The component groups of one PN value as they stand, without padding (PS3.5 6.2.1)."""

    alphabetic: str = ""
    ideographic: str = ""
    phonetic: str = ""

    @classmethod
    def parse(cls, text: str) -> PersonName:
        """Parse one value; groups beyond the third are dropped, empty trailing components too."""
        groups = [group.strip(" \0").rstrip("^").rstrip() for group in text.split("=")[:3]]
        return cls(*groups)

    @classmethod
    def from_json(cls, value: dict[str, str]) -> PersonName:
        """From the DICOM JSON form (PS3.18 F.2.2)."""
        return cls(
            value.get("Alphabetic", ""), value.get("Ideographic", ""), value.get("Phonetic", "")
        )

    def to_json(self) -> dict[str, str]:
        """The DICOM JSON form (PS3.18 F.2.2): only the groups that are there."""
        named = {
            "Alphabetic": self.alphabetic,
            "Ideographic": self.ideographic,
            "Phonetic": self.phonetic,
        }
        return {key: group for key, group in named.items() if group}

    def __str__(self) -> str:
        return f"{self.alphabetic}={self.ideographic}={self.phonetic}".rstrip("=")

    def display(self) -> str:
        """The name as a person reads it: ideographic when there is one, without carets."""
        group = self.ideographic or self.alphabetic or self.phonetic
        parts = [part for part in group.split("^") if part]
        return ("" if has_ideographs(group) else " ").join(parts)


@dataclass(frozen=True, slots=True)
class NameKeys:
    """What the index stores of a name; all keys are NFKC and casefolded.

    `folded`: the groups with ``^`` as a space, joined by ``=`` (``wang xiaoming=王 小明``).
    `hanzi`: the ideographic name without separators, wherever it stood; '' for other names.
    `pinyin`: ``wangxiaoming``; for names without ideographs the alphabetic group without accents.
    `initials`: ``wxm``. `grams`: every single character and pair of `hanzi`, once.
    """

    folded: str
    hanzi: str
    pinyin: str
    initials: str
    grams: tuple[str, ...]


def fold(text: str) -> str:
    """NFKC, casefolded; carets, commas and spaces become one space."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _SEPARATORS.sub(" ", unicodedata.normalize("NFKC", folded)).strip()


def latin(folded: str) -> str:
    """Letters and digits of a folded text without accents and separators (``Jérôme`` jerome)."""
    if folded.isascii():
        return "".join(filter(str.isalnum, folded))
    decomposed = unicodedata.normalize("NFKD", folded.translate(_PLAIN))
    return "".join(filter(str.isalnum, decomposed))


def is_ideographic(char: str) -> bool:
    """Han ideographs (private use characters of Chinese fonts too), kana and Hangul."""
    if is_hanzi(char):
        return True
    return "぀" <= char <= "ヿ" or "가" <= char <= "힣" or "\ue000" <= char <= "\uf8ff"


def has_ideographs(text: str) -> bool:
    """Whether any character is ideographic."""
    return not text.isascii() and any(map(is_ideographic, text))


def ideographs(folded: str) -> str:
    """The ideographic name inside a folded text: Latin words and separators taken out."""
    text = _LATIN_WORD.sub("", folded)
    kept = (char for char in text if char.isalnum() or is_ideographic(char))
    return "".join(kept)[:MAX_HANZI]


def grams(hanzi: str) -> tuple[str, ...]:
    """Single characters and pairs, each once, in order of appearance."""
    pairs = [hanzi[at : at + 2] for at in range(len(hanzi) - 1)]
    return tuple(dict.fromkeys([*hanzi, *pairs]))


@lru_cache(maxsize=8192)
def name_keys(name: PersonName) -> NameKeys:
    """Search keys of a name. About 20 µs, less when the same name comes again."""
    source = name.ideographic
    if not has_ideographs(source):
        source = name.alphabetic if has_ideographs(name.alphabetic) else ""
    groups = (fold(group) for group in (name.alphabetic, name.ideographic, name.phonetic))
    folded = "=".join(group for group in groups if group)
    if not source:
        alphabetic = name.alphabetic or name.ideographic
        return NameKeys(folded, "", latin(fold(alphabetic)), _latin_initials(alphabetic), ())
    hanzi = ideographs(fold(source))
    syllables = pinyin.of_name(hanzi, _marked_surname(source))
    initials = "".join(syllable[0] for syllable in syllables if syllable[0].isalnum())
    return NameKeys(folded, hanzi, "".join(syllables), initials, grams(hanzi))


def _marked_surname(group: str) -> str:
    family, caret, given = group.partition("^")
    return ideographs(fold(family)) if caret and given.strip("^ ") else ""


def _latin_initials(group: str) -> str:
    """First letters of the words, or of the syllables where all words are pinyin."""
    spaced = _CAMEL.sub(" ", group) if group.isascii() else group
    words = [latin(word) for word in re.split(r"[ \-]", fold(spaced))]
    words = [word for word in words if word]
    split = [pinyin.split_syllables(word) for word in words] if group.isascii() else [None]
    syllables = [syllable for parts in split if parts for syllable in parts]
    if all(split) and 2 <= len(syllables) <= 6:
        return "".join(syllable[0] for syllable in syllables)
    return "".join(word[0] for word in words)


# ----------------------------------------------------------------------------------- searching


@dataclass(frozen=True, slots=True)
class KeyTest:
    """One test on one key. `value` has ``*`` and ``?`` (PS3.4 C.2.2.2.4) only when `op` is glob.

    With `hanzi_only` it counts for names with an ideographic form (`NameKeys.hanzi` not empty).
    """

    key: KeyName
    op: Operator
    value: str
    hanzi_only: bool = False

    def like(self) -> str:
        r"""The SQL LIKE pattern that says the same, with ESCAPE '\'."""
        text = re.sub(r"([\\%_])", r"\\\1", self.value)
        if self.op == "glob":
            return text.replace("*", "%").replace("?", "_")
        before = "%" if self.op == "infix" else ""
        return before + text + ("" if self.op == "equals" else "%")

    def accepts(self, keys: NameKeys) -> bool:
        """Whether a name with these keys passes."""
        if self.hanzi_only and not keys.hanzi:
            return False
        value: str = getattr(keys, self.key)
        if self.op == "equals":
            return value == self.value
        if self.op == "prefix":
            return value.startswith(self.value)
        if self.op == "infix":
            return self.value in value
        return _glob(self.value).fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class NameQuery:
    """A search: a name is meant when it passes any of the tests; `universal` means every name.

    `grams` are grams of `NameKeys.grams` that every match has: an index narrows with them before it
    looks at `any_of`. Empty when the query is not ideographic.
    """

    any_of: tuple[KeyTest, ...]
    universal: bool = False
    grams: tuple[str, ...] = ()


def matches(query: NameQuery, keys: NameKeys) -> bool:
    """Whether a name is meant by a query."""
    return query.universal or any(test.accepts(keys) for test in query.any_of)


@lru_cache(maxsize=1024)
def query_keys(text: str, *, exact: bool = False) -> NameQuery:
    """The meaning of a search text.

    ``*`` and ``?`` are wildcards always. Without them a typed text (`exact` False) is an infix of
    the ideographic name or a prefix of pinyin, initials or the Latin form; with `exact` it is the
    whole name (single value matching, PS3.4 C.2.2.2.1), by characters, pinyin, initials or Latin
    form.
    """
    groups = [group for group in map(fold, text.split("=")) if group.strip("* ")]
    if not groups:
        return NameQuery((), universal=True)
    chosen = next(filter(has_ideographs, groups), None)
    if chosen is not None:
        query = _ideographic(chosen, exact)
        whole = [group for group in groups if not has_ideographs(group)]
        if exact and whole and not _WILDCARDS.search(text):  # stored with the Latin form alone
            return NameQuery((*query.any_of, KeyTest("folded", "equals", whole[0])))
        return query
    return _latin(groups[0], exact)


def _ideographic(text: str, exact: bool) -> NameQuery:
    pieces = re.split(r"([*?])", text)
    pattern = "".join(part if part in ("*", "?") else ideographs(part) for part in pieces)
    literal = _WILDCARDS.sub("", pattern)
    wild = _WILDCARDS.search(text) is not None
    words = latin("".join(char for char in text if char.isascii()))
    if not wild and len(words) > 1:  # 王xiaoming
        whole = "".join(pinyin.of_name(literal)) + re.sub(r"[^a-z]", "", words)
        op: Operator = "equals" if exact else "prefix"
        return NameQuery((KeyTest("pinyin", op, whole, hanzi_only=True),))
    tests = [KeyTest("hanzi", *_operation(pattern, wild, "equals" if exact else "infix"))]
    if any(not ("㐀" <= char <= "鿿") for char in literal):  # kana and Hangul of the phonetic group
        tests.append(KeyTest("folded", *_operation(_around(text), True, "infix")))
        return NameQuery(tuple(tests))
    runs = _WILDCARDS.split(pattern)
    needed = [run[at : at + 2] for run in runs for at in range(max(1, len(run) - 1)) if run]
    return NameQuery(tuple(tests), grams=tuple(dict.fromkeys(needed)))


def _around(text: str) -> str:
    return f"*{text}*".replace("**", "*")


def _operation(pattern: str, wild: bool, plain: Operator) -> tuple[Operator, str]:
    """The cheapest operation that says what a pattern with wildcards says."""
    if not wild:
        return plain, pattern
    inner = pattern.strip("*")
    if _WILDCARDS.search(inner) or not inner:
        return "glob", re.sub(r"\*+", "*", pattern)
    if pattern.endswith("*"):
        return ("infix" if pattern.startswith("*") else "prefix"), inner
    return ("glob", "*" + inner) if pattern.startswith("*") else ("equals", inner)


def _latin(text: str, exact: bool) -> NameQuery:
    wild = _WILDCARDS.search(text) is not None
    pieces = re.split(r"([*?])", text)
    squeezed = "".join(part if part in ("*", "?") else latin(part) for part in pieces)
    separated = " " in text
    tests = [*_folded(text, wild, exact)]
    if not squeezed.strip("*?"):
        return NameQuery(tuple(tests))
    plain: Operator = "equals" if exact else "prefix"
    for variant in umlaut_variants(squeezed):
        op, value = _operation(variant, wild, plain)
        tests.append(KeyTest("pinyin", op, value, hanzi_only=wild and separated))
    if not separated and _may_be_initials(squeezed, wild, exact):
        op, value = _operation(squeezed, wild, plain)
        tests.append(KeyTest("initials", op, value, hanzi_only=exact or wild))
    return NameQuery(tuple(dict.fromkeys(tests)))


def _folded(text: str, wild: bool, exact: bool) -> list[KeyTest]:
    """Tests on the folded form, where the alphabetic group ends at the text's end or at ``=``."""
    if not wild:
        if not exact:
            return [KeyTest("folded", "prefix", text)]
        return [KeyTest("folded", "equals", text), KeyTest("folded", "prefix", text + "=")]
    tests = [KeyTest("folded", *_operation(text, True, "equals"))]
    if not text.endswith("*"):
        tests.append(KeyTest("folded", *_operation(text + "=*", True, "equals")))
    return tests


def _may_be_initials(squeezed: str, wild: bool, exact: bool) -> bool:
    letters = _WILDCARDS.sub("", squeezed)
    if len(letters) > 8 or not letters.isalnum():
        return False
    if exact and not wild:
        return len(letters) > 1 and pinyin.split_syllables(letters) is None
    return True


def umlaut_variants(typed: str) -> tuple[str, ...]:
    """The ways ü is typed: ``lu``, ``lv`` and ``lyu`` for the key ``lv``, ``lu`` for itself too."""
    variants = [""]
    last = 0
    for found in _UMLAUT.finditer(typed):
        head = typed[last : found.start()]
        spellings = ("u", "v") if found.group() == "u" else ("v",)
        if len(variants) * len(spellings) > MAX_VARIANTS:
            spellings = (found.group(),)
        variants = [variant + head + spelling for variant in variants for spelling in spellings]
        last = found.end()
    return tuple(dict.fromkeys([typed, *(variant + typed[last:] for variant in variants)]))


@lru_cache(maxsize=256)
def _glob(pattern: str) -> re.Pattern[str]:
    parts = (".*" if char == "*" else "." if char == "?" else re.escape(char) for char in pattern)
    return re.compile("".join(parts), re.DOTALL)
