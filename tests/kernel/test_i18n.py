"""English msgids, complete Chinese."""

import re
from pathlib import Path

import pytest

from kernel.i18n import messages
from kernel.i18n.catalog import (
    LANGUAGES,
    Word,
    marked,
    po_files,
    read_file,
    translate,
    translations,
)

PLACEHOLDER = re.compile(r"\{\w+[^}]*\}")


def test_chinese_is_complete() -> None:
    known = translations("zh-CN")
    missing = sorted(msgid for msgid in messages.used() if msgid not in known)
    assert missing == [], "run `make messages` and fill the empty lines"


def test_nothing_is_translated_that_nobody_uses() -> None:
    assert sorted(set(translations("zh-CN")) - set(messages.used())) == []


@pytest.mark.parametrize("file", po_files("zh-CN"), ids=lambda file: file.name)
def test_a_translation_has_the_placeholders_of_its_msgid(file: Path) -> None:
    wrong = [
        msgid
        for msgid, text in read_file(file).items()
        if text and sorted(PLACEHOLDER.findall(msgid)) != sorted(PLACEHOLDER.findall(text))
    ]
    assert wrong == []


def test_a_text_is_translated_and_filled() -> None:
    assert translate("Not found", "zh-CN") == "未找到"
    assert translate("Not found", "en") == "Not found"
    assert translate("Nobody translated {this}.", "zh-CN", this=1) == "Nobody translated 1."
    assert marked("as it is") == "as it is"
    assert LANGUAGES[0] == "zh-CN"


def test_msgids_are_found_in_code_errors_and_templates(tmp_path: Path) -> None:
    package = tmp_path / "radiology"
    (package / "templates").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "code.py").write_text(
        "raise NotFound('a.b', 'Not {here}.', here=1)\nmarked('Later')\n"
        "class Mine(Invalid):\n    def __init__(self):\n        super().__init__('c.d', 'Mine.')\n"
    )
    (package / "templates" / "page.html").write_text("{{ _('Page') }}")
    found = messages.used(tmp_path)
    assert found == dict.fromkeys(("Not {here}.", "Later", "Mine.", "Page"), "radiology")


def test_filing_keeps_translations_moves_them_and_drops_unused_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernel.i18n.catalog.LOCALE", tmp_path / "locale")
    monkeypatch.setattr("kernel.i18n.messages.LOCALE", tmp_path / "locale")
    package, folder = tmp_path / "radiology", tmp_path / "locale" / "zh_CN"
    package.mkdir()
    folder.mkdir(parents=True)
    (package / "__init__.py").write_text("marked('Study')\nmarked('Series')\n")
    (folder / "yunying.po").write_text('msgid "Study"\nmsgstr "检查"\n\nmsgid "Old"\nmsgstr "旧"\n')
    assert messages.update("zh-CN", tmp_path) == ["Series"]
    assert [file.name for file in po_files("zh-CN")] == ["radiology.po"]
    assert read_file(folder / "radiology.po") == {"Series": "", "Study": "检查"}
    assert messages.update("zh-CN", tmp_path) == ["Series"]


def test_a_field_that_is_a_word_is_translated_with_its_message() -> None:
    said = translate("Open to everybody", "zh-CN")
    assert translate("{what}", "zh-CN", what=Word("Open to everybody")) == said
    assert translate("{what}", "zh-CN", what="Open to everybody") == "Open to everybody"
