"""Collecting msgids from the code and filing their translations: `make messages`.

Run as `python -m kernel.i18n.messages`. To add translations, run it and fill the empty `msgstr`
lines, or put entries into any .po file of the language: the next run files them.
"""

import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import write_po

from kernel.i18n.catalog import LANGUAGES, LOCALE, po_files, read_file

ROOT = Path(__file__).resolve().parents[2]

# Which argument of which call is a msgid. Errors: `NotFound(code, msgid, …)` and, in a subclass,
# `super().__init__(code, msgid, …)`.
KEYWORDS: dict[str, tuple[int, ...] | None] = {
    "_": None,
    "marked": None,
    "translate": (1,),
    **dict.fromkeys(
        ("AppError", "NotFound", "Denied", "Conflict", "Invalid", "Unavailable", "__init__"), (2,)
    ),
}
# In a package's TOML files, texts under these keys are msgids.
TOML_KEYS = ("title", "reason")
_IGNORED = ("node_modules", "__pycache__", "migrations")


def packages(root: Path = ROOT) -> list[Path]:
    """The import packages of the project, without the tests."""
    found = sorted(file.parent for file in root.glob("*/__init__.py"))
    return [package for package in found if package.name != "tests"]


def used(root: Path = ROOT) -> dict[str, str]:
    """Every msgid of the code, with the first package (by name) that uses it."""
    found: dict[str, str] = {}
    for package in packages(root):
        for msgid in _msgids(package):
            found.setdefault(msgid, package.name)
    return found


def filed(lang: str) -> dict[str, str]:
    """Every msgid of a language's files with its text; a filled text wins over an empty one."""
    texts: dict[str, str] = {}
    for file in po_files(lang):
        for msgid, text in read_file(file).items():
            texts[msgid] = text or texts.get(msgid, "")
    return texts


def update(lang: str, root: Path = ROOT) -> list[str]:
    """File all msgids of the code by package, drop unused ones; the untranslated ones."""
    wanted, texts = used(root), filed(lang)
    folder = LOCALE / lang.replace("-", "_")
    folder.mkdir(parents=True, exist_ok=True)
    by_package: dict[str, dict[str, str]] = {}
    for msgid, package in wanted.items():
        by_package.setdefault(package, {})[msgid] = texts.get(msgid, "")
    for package, entries in by_package.items():
        _write(folder / f"{package}.po", entries)
    for file in po_files(lang):
        if file.stem not in by_package:
            file.unlink()
    return sorted(msgid for msgid in wanted if not texts.get(msgid))


def main() -> None:
    """Update every language and say what is still to translate."""
    for lang in LANGUAGES:
        if lang != "en":
            open_ones = update(lang)
            sys.stdout.write(f"{lang}: {len(open_ones)} without translation\n")
            sys.stdout.writelines(f"  {msgid}\n" for msgid in open_ones)


def toml_texts(
    file: BinaryIO, _keywords: object, _comment_tags: object, options: object
) -> Iterator[tuple[int, str, str, list[str]]]:
    """Msgids of a TOML file, in the form of a Babel extractor."""
    waiting: list[Any] = [tomllib.load(file)]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, dict):
            waiting.extend(one.values())
            texts = (one.get(key) for key in TOML_KEYS)
            yield from ((0, "", text, []) for text in texts if isinstance(text, str))


_METHODS: Any = [
    ("**.py", "python"),
    ("**/templates/**.html", "jinja2"),
    ("**.toml", toml_texts),
]


def _msgids(package: Path) -> Iterator[str]:
    found = extract_from_dir(
        package,
        _METHODS,
        keywords=KEYWORDS,
        directory_filter=lambda folder: Path(folder).name not in _IGNORED,
    )
    for _, _, msgid, _, _ in found:
        texts = (msgid,) if isinstance(msgid, str) else msgid
        yield from (text for text in texts if text)


def _write(file: Path, entries: Mapping[str, str]) -> None:
    catalog = Catalog()
    for msgid, text in entries.items():
        catalog.add(msgid, text)
    fresh = file.with_suffix(".new")
    with fresh.open("wb") as opened:
        write_po(opened, catalog, width=100, omit_header=True, sort_output=True)
    fresh.replace(file)


if __name__ == "__main__":
    main()
