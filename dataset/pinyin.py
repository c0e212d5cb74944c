"""Pinyin of Chinese personal names: surnames by a table, given names character by character.

Syllables are written without tones in lower case, ü as v (``lv``, ``nve``), the way they are typed.
"""

from __future__ import annotations

import importlib.util
import sys
import unicodedata
from functools import lru_cache
from pathlib import Path

# compound surnames that are not read as their characters are; 欧阳, 司马 and most others are
_COMPOUND = {
    "尉迟": ("yu", "chi"), "尉遲": ("yu", "chi"), "单于": ("chan", "yu"), "單于": ("chan", "yu"),
    "长孙": ("zhang", "sun"), "長孫": ("zhang", "sun"), "万俟": ("mo", "qi"), "萬俟": ("mo", "qi"),
    "乐正": ("yue", "zheng"), "樂正": ("yue", "zheng"), "澹台": ("tan", "tai"),
    "澹臺": ("tan", "tai"), "子车": ("zi", "ju"), "子車": ("zi", "ju"), "朱邪": ("zhu", "ye"),
    "朱耶": ("zhu", "ye"), "吐谷浑": ("tu", "yu", "hun"), "中行": ("zhong", "hang"),
}  # fmt: skip

# polyphonic characters as surnames
_SURNAMES = {
    "单": "shan", "單": "shan", "仇": "qiu", "曾": "zeng", "解": "xie", "查": "zha", "朴": "piao",
    "区": "ou", "區": "ou", "盖": "ge", "蓋": "ge", "翟": "zhai", "覃": "qin", "缪": "miao",
    "繆": "miao", "洗": "xian", "员": "yun", "員": "yun", "乐": "yue", "樂": "yue", "召": "shao",
    "牟": "mu", "祭": "zhai", "折": "she", "种": "chong", "句": "gou", "阚": "kan",
    "闞": "kan", "黑": "he", "秘": "bi", "适": "kuo", "隗": "wei", "卜": "bu", "么": "yao",
    "厘": "xi", "不": "fou", "角": "jue", "藏": "zang", "乜": "nie", "郇": "xun", "繁": "po",
    "炅": "gui", "都": "du", "重": "chong", "会": "gui", "會": "gui", "晟": "cheng", "长": "zhang",
    "長": "zhang", "行": "xing", "任": "ren", "華": "hua", "燕": "yan", "应": "ying", "應": "ying",
    "过": "guo", "過": "guo", "尉": "wei", "纪": "ji", "冼": "xian", "宿": "su", "那": "na",
}  # fmt: skip

# readings that given names use, where the dictionary's first reading is another
_GIVEN = {
    "长": "chang", "長": "chang", "行": "xing", "晟": "sheng", "靓": "liang", "靚": "liang",
    "隽": "jun", "雋": "jun", "珩": "heng", "琢": "zhuo", "佛": "fo", "泊": "bo", "焘": "tao",
    "燾": "tao", "偲": "si", "镐": "hao", "鎬": "hao", "鹄": "hu", "鵠": "hu", "率": "shuai",
    "似": "si", "绰": "chuo", "綽": "chuo", "荠": "qi", "宿": "su", "曾": "zeng", "镡": "tan",
    "阚": "kan", "玚": "yang", "瑒": "yang", "调": "tiao", "翟": "zhai", "椎": "zhui",
}  # fmt: skip


@lru_cache(maxsize=1)
def _readings() -> dict[str, str]:
    """Character -> first reading, from pypinyin's table alone.

    Importing pypinyin itself also loads 47,000 phrases (57 MB and 0.3 s for each process), which
    names do not need.
    """
    spec = importlib.util.find_spec("pypinyin")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("pypinyin is not installed")
    path = Path(spec.origin).with_name("pinyin_dict.py")
    table_spec = importlib.util.spec_from_file_location("dataset._pinyin_table", path)
    if table_spec is None or table_spec.loader is None:
        raise ModuleNotFoundError("pypinyin has no pinyin_dict")
    module = importlib.util.module_from_spec(table_spec)
    table_spec.loader.exec_module(module)
    table: dict[int, str] = module.pinyin_dict
    return {chr(code): _toneless(readings.partition(",")[0]) for code, readings in table.items()}


@lru_cache(maxsize=4096)
def _toneless(syllable: str) -> str:
    decomposed = unicodedata.normalize("NFD", syllable).replace("u\u0308", "v")
    return sys.intern("".join(char for char in decomposed if not unicodedata.combining(char)))


@lru_cache(maxsize=1)
def syllables() -> frozenset[str]:
    """Every syllable that occurs, without tones."""
    not_typed = {"m", "n", "ng", "hm", "hng"}
    return frozenset(_readings().values()) - not_typed | {"lue", "nue"}


def of_name(hanzi: str, surname: str = "") -> list[str]:
    """Syllables of a whole name without separators.

    `surname` is the part that a `^` marks as the family name ('' when nothing is marked: then the
    first character, or a known compound). Polyphonic surnames are read as surnames are (单 shan,
    尉迟 yu chi); a character without a reading stands for itself.
    """
    for length in (3, 2):
        compound = _COMPOUND.get(hanzi[:length])
        if compound is not None and (len(hanzi) > length or len(surname) == length):
            return [*compound, *map(of_char, hanzi[length:])]
    # a marked family name of two characters may be two surnames: 陈单^小明
    family = len(surname) if 0 < len(surname) <= 2 else 1
    head = [_SURNAMES.get(char) or _readings().get(char, char) for char in hanzi[:family]]
    return [*head, *map(of_char, hanzi[family:])]


def of_char(char: str) -> str:
    """The reading of one character in a given name; itself when it has none."""
    return _GIVEN.get(char) or _readings().get(char, char)


def of_text(text: str) -> str:
    """A text that is no name, read character by character, without separators: 影像 yingxiang."""
    return "".join(_readings().get(char, char) for char in text.lower() if char.isalnum())


def initials(text: str) -> str:
    """The first letter of each character's reading: 机构管理 jggl."""
    return "".join(_readings().get(char, char)[0] for char in text.lower() if char.isalnum())


def split_syllables(word: str) -> list[str] | None:
    """The fewest pinyin syllables that make up `word` (lower case, at most 30 letters), or None."""
    if not word or len(word) > 30 or not word.isascii():
        return None
    known = syllables()
    best: list[list[str] | None] = [[]] + [None] * len(word)
    for end in range(1, len(word) + 1):
        for start in range(max(0, end - 6), end):
            head = best[start]
            if head is None or word[start:end] not in known:
                continue
            current = best[end]
            if current is None or len(head) + 1 < len(current):
                best[end] = [*head, word[start:end]]
    return best[len(word)]
