"""Evidence that bytes are not what Specific Character Set declares.

Two mistakes are common in Chinese hospitals: GBK or GB 18030 bytes under ISO_IR 100 or under no
declaration, and UTF-8 bytes under any declaration. Both leave traces: strict validity in the other
encoding, hanzi of common use in it, and in the declared one letters and symbols in an order that no
language writes. Text that reads naturally as declared is never touched.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from functools import lru_cache

# Latin sets for which GBK is mistaken; '' is the default repertoire, where high bytes are illegal
WESTERN = frozenset({"", "100", "203"})

_HIGH_RUN = re.compile(r"[^\x00-\x7f]+")
_LETTERS = re.compile(r"[^\W\d_]{2,}")
_C1 = re.compile(r"[\x80-\x9f�]")
# signs that may touch a letter: quotation marks and the like, ordinals, the Catalan dot
_FREE_SIGNS = frozenset("·ºª\xa0\xad«»¿¡")
# letters of two bytes in UTF-8 that words are made of, one class for each script
_SCRIPTS = re.compile("[À-ÖØ-öø-ſ]+|[Ά-ώ]+|[Ѐ-џҐґҚқҢңҮүҰұҲҳҺһӘәӨө]+|[א-ת]+|[ء-ي]+|[°²³µ·«»º]")
_GB_PUNCTUATION = re.compile("[·—‘’“”…、。〈-】〔〕！-～　①-⑩Ⅰ-Ⅻ℃×÷±°²³α-ω]")
# a single hanzi between Latin text counts only when it is a very common surname or a word of forms
_ALONE = frozenset(
    "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘"
    "杜戴夏钟汪田任姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段雷钱汤尹黎易常武乔贺赖龚文男女胸腹头"
)
# second-level hanzi of GB 2312 and others that given names are full of
_NAME_HANZI = frozenset(
    "鑫婷娜婕嫣莹薇芸茜昊晗晔煜炜瑾璐琪瑶珂玮琦绮嬅琳珺玥玥琛晟旻旭彧奕妍怡婧姝娴嫦嫒媛姣娅妮妤忻恺愫懿"
    "昱晖暄曦曜杰栩桢梓楠榕橙檬欣歆泓沁沅泠浠淇淼涵渊湉溪滢漪潇澍灏烨焱煊熠燊琰瑛瑜瑄璇璟璞璨珩珞珏琬琨"
    "甄祎祺禧稷筠筱箐紫缙翊翎翀芊芮芷苒茗茹荃莉莎菁菡萱蓓蔚蕊蕾薏蘅蕙芃茵苓荔荟菀蓉谊谦贇赟轩辰逸邈郗郜郦"
    "邬邝邢邰邵郅鄢酆钊钰铭铄锐锟镕镛闫闵阙隗雯霏霓霖靓韫韬颉颖馨骁骅骐鸢鹏鹤麒黛齐龚喆昇堃囡璘琤琇姮嬿"
)


@lru_cache(maxsize=1)
def common_hanzi() -> frozenset[str]:
    """Hanzi of everyday use: GB 2312 level 1, and those that names love."""
    rows, cells = range(0xB0, 0xD8), range(0xA1, 0xFF)
    chars = (bytes((row, cell)).decode("gb2312", "ignore") for row in rows for cell in cells)
    return frozenset(filter(is_hanzi, chars)) | frozenset(_NAME_HANZI)


@lru_cache(maxsize=1)
def _traditional() -> frozenset[str]:
    """Hanzi of everyday use in traditional writing: Big5 level 1."""
    cells = (*range(0x40, 0x7F), *range(0xA1, 0xFF))
    pairs = (bytes((row, cell)) for row in range(0xA4, 0xC7) for cell in cells)
    return frozenset(filter(is_hanzi, (pair.decode("big5", "ignore") for pair in pairs)))


def is_hanzi(char: str) -> bool:
    """A Han ideograph of any block, 〇 included."""
    return len(char) == 1 and (
        "一" <= char <= "鿿" or "㐀" <= char <= "䶿" or char == "〇" or "豈" <= char <= "﫿"
        or "\U00020000" <= char <= "\U000323af"
    )  # fmt: skip


def commonness(text: str) -> float:
    """How much the non-ASCII characters look like Chinese, 0 to 1.

    Everyday hanzi count 1; other hanzi of GB 2312 and Big5 and punctuation count a half; the rest,
    which is what other encodings turn into when they are read as GB 18030, counts nothing.
    """
    chars = [char for char in text if char > "\x7f"]
    return sum(map(_weight, chars)) / len(chars) if chars else 0.0


@lru_cache(maxsize=8192)
def _weight(char: str) -> float:
    if char in common_hanzi():
        return 1.0
    if _GB_PUNCTUATION.match(char):
        return 0.5
    if not is_hanzi(char):
        return 0.0
    return 0.5 if _encodable(char, "gb2312") or char in _traditional() else 0.0


def _encodable(char: str, codec: str) -> bool:
    try:
        char.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


def reads_naturally(text: str) -> bool:
    """Whether text decoded by a single-byte set could be words of some language.

    It is not when there are C1 controls or undefined bytes, when a capital follows a small letter
    and one of them is accented (``oÃ``), or when a sign such as © touches an accented letter.
    """
    if _C1.search(text):
        return False
    for word in _LETTERS.findall(text):
        for left, right in itertools.pairwise(word):
            if left.islower() and right.isupper() and not (left + right).isascii():
                return False
    return not any(_sign_inside_word(text, match) for match in _HIGH_RUN.finditer(text))


def _sign_inside_word(text: str, run: re.Match[str]) -> bool:
    """A sign between two letters, or beside an accented letter in one run of high bytes."""
    accented = any(char.isalpha() for char in run.group())
    for at in range(run.start(), run.end()):
        char = text[at]
        if char.isalpha() or unicodedata.combining(char) or char in _FREE_SIGNS:
            continue
        before = text[at - 1] if at else " "
        after = text[at + 1] if at + 1 < len(text) else " "
        if accented or (before.isalpha() and after.isalpha()):
            return True
    return False


def as_utf8(raw: bytes, *, strictly: bool = False) -> str | None:
    """The text when the bytes are UTF-8; a character cut off at the end is dropped, or `strictly`
    not allowed.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        cut_off = error.reason == "unexpected end of data" and error.start > 0
        if strictly or not cut_off:
            return None
        text = raw[: error.start].decode("utf-8")
        return None if text.isascii() else text


def as_gb(raw: bytes) -> str | None:
    """The text when the bytes are strictly GB 18030 (a character cut off at the end is dropped)."""
    try:
        return raw.decode("gb18030")
    except UnicodeDecodeError as error:
        if error.reason != "incomplete multibyte sequence" or error.end < len(raw):
            return None
        text = raw[: error.start].decode("gb18030")
        return None if text.isascii() else text


def utf8_instead(raw: bytes, declared_text: str, charset: str) -> str | None:
    """UTF-8 reading of bytes declared in a single-byte set, where that is the better one.

    `charset` and `declared_text` as in `gb_instead`.
    """
    text = as_utf8(raw)
    if text is None or text.isascii() or _C1.search(text):
        return None
    runs = list(_HIGH_RUN.finditer(text))
    if charset in WESTERN and _is_chinese(text, runs):
        return text
    if reads_naturally(declared_text):
        return None
    if any(char > "\u07ff" for char in text):
        return text
    # pairs of bytes only: GB may explain them better than a mixture of scripts does
    if all(_SCRIPTS.fullmatch(run.group()) for run in runs):
        return text
    return None if gb_instead(raw, declared_text, charset) else text


def _is_chinese(text: str, runs: list[re.Match[str]]) -> bool:
    """Whether every run of high bytes is Chinese; no Western text looks like that in UTF-8."""
    if commonness(text) < 0.5:
        return False
    return all(
        any(map(is_hanzi, run.group()))
        and not _glued(text, run, sum(map(is_hanzi, run.group())), unnatural=True)
        for run in runs
    )


def utf8_instead_of_gb(raw: bytes, gb_text: str | None) -> str | None:
    """UTF-8 reading of bytes declared GB 18030 or GBK, where that is the better one."""
    text = as_utf8(raw, strictly=gb_text is not None)
    if text is None or text.isascii():
        return None
    if gb_text is None:
        return text
    if not any(is_hanzi(char) for char in text):
        return None
    as_declared = commonness(gb_text)
    return text if as_declared <= 0.8 and commonness(text) > max(0.49, as_declared) else None


def gb_instead(raw: bytes, declared_text: str, charset: str) -> str | None:
    """GB 18030 reading of bytes declared in a single-byte set, where that is the better one.

    `charset` is the bare ISO-IR number ('' for none); `declared_text` what the declaration makes of
    the bytes, U+FFFD where it has no character.
    """
    text = as_gb(raw)
    if text is None or text.isascii():
        return None
    unnatural = not reads_naturally(declared_text)
    if charset not in WESTERN and not unnatural:
        return None
    runs = list(_HIGH_RUN.finditer(text))
    hanzi = [sum(map(is_hanzi, run.group())) for run in runs]
    # four accented letters in a row are no word of Western Europe; two may be
    needed = 0.5 if unnatural or max(hanzi) >= 2 else 0.7
    if commonness(text) < needed or not any(hanzi):
        return None
    clear = unnatural and max(hanzi) >= 3
    pairs = zip(runs, hanzi, strict=True)
    if not clear and any(_glued(text, run, count, unnatural) for run, count in pairs):
        return None
    enough = sum(hanzi) >= 2 or any(char in _ALONE for char in text)
    return text if enough else None


def _glued(text: str, run: re.Match[str], hanzi: int, unnatural: bool) -> bool:
    """Whether accented letters inside a Latin word were taken for hanzi (``Óðinn`` as 羽inn)."""
    before = text[run.start() - 1] if run.start() else " "
    after = text[run.end()] if run.end() < len(text) else " "
    if hanzi == 0 or not (before.isalpha() or after.isalpha()):
        return False
    return hanzi < 2 or not unnatural
