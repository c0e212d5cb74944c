"""Translations, read directly from the .po files of kernel/i18n/locale.

A msgid is the English text itself, with `{field}` placeholders. Every `*.po` of a language's folder
counts; `make messages` files each msgid under the package that uses it.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from babel.messages.pofile import read_po

from kernel.errors import fill

Language = Literal["zh-CN", "en"]

LANGUAGES: tuple[Language, ...] = ("zh-CN", "en")
LOCALE = Path(__file__).parent / "locale"


def marked(msgid: str) -> str:
    """Mark a msgid that is translated later, where the language is known."""
    return msgid


class Word(str):
    """A field of a message that is itself a msgid: it is translated with the message."""

    __slots__ = ()


def translate(msgid: str, lang: str, **fields: Any) -> str:
    """`msgid` in `lang`, its placeholders filled; English where there is no translation."""
    known = translations(lang)
    words = {k: known.get(v, v) if isinstance(v, Word) else v for k, v in fields.items()}
    return fill(known.get(msgid, msgid), words)


@cache
def translations(lang: str) -> Mapping[str, str]:
    """All translations of a language; empty for English. Read once, `make_app` does it early."""
    found: dict[str, str] = {}
    for file in po_files(lang):
        found.update(read_file(file))
    return {msgid: text for msgid, text in found.items() if text}


def po_files(lang: str) -> list[Path]:
    """The .po files of a language."""
    return sorted((LOCALE / lang.replace("-", "_")).glob("*.po"))


def read_file(file: Path) -> dict[str, str]:
    """The msgids of one file with their texts, empty where not translated yet."""
    with file.open("rb") as opened:
        catalog = read_po(opened, abort_invalid=True)
    return {
        str(message.id): str(message.string or "")
        for message in catalog
        if message.id and not message.fuzzy
    }
