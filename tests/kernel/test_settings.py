"""Settings come from file, environment and command line, and are all documented."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from kernel.errors import AppError, Invalid, NotFound, fill
from kernel.scope import Actor, Scope
from kernel.settings import Settings, known_settings, load, split_address
from kernel.settings_page import page
from tests.conftest import ROOT


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "yunying.toml"
    file.write_text(text, encoding="utf-8")
    return file


def code_of(**sources: Any) -> str:
    with pytest.raises(Invalid) as caught:
        load(**sources)
    return caught.value.code


def test_without_sources_the_defaults_hold() -> None:
    assert load() == Settings()
    assert load().dicom.ae_title == "YUNYING"


def test_later_sources_win(tmp_path: Path) -> None:
    file = write(tmp_path, 'data = "/file"\n[dicom]\nae_title = "FILE"\nmax_pdu_bytes = 1\n')
    environ = {"YUNYING_DICOM_AE_TITLE": "ENV", "YUNYING_HTTP_PROCESSES": "3", "PATH": "/bin"}
    found = load(file, environ, {"dicom.ae_title": "ARG", "http.bind": None})
    assert found.data == Path("/file")
    assert (found.dicom.ae_title, found.dicom.max_pdu_bytes) == ("ARG", 1)
    assert found.http.processes == 3
    assert load(file, environ).dicom.ae_title == "ENV"


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("no", False), ("1", True), ("False", False)],
)
def test_a_switch_understands_several_words(text: str, value: bool) -> None:
    environ = {"YUNYING_DICOM_ACCEPT_UNKNOWN_CALLING": text}
    assert load(environ=environ).dicom.accept_unknown_calling is value


def test_a_list_is_written_with_commas_or_as_an_array(tmp_path: Path) -> None:
    file = write(tmp_path, '[dicom]\nprivate_sop_classes = ["1.2", "1.3"]\n')
    assert load(file).dicom.private_sop_classes == ("1.2", "1.3")
    environ = {"YUNYING_DICOM_PRIVATE_SOP_CLASSES": "1.2, 1.3,"}
    assert load(environ=environ).dicom.private_sop_classes == ("1.2", "1.3")


def test_a_secret_can_stand_in_a_file_and_is_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("hunter2\n")
    file = write(tmp_path, f'[objects]\nsecret_key_file = "{secret}"\n')
    found = load(file, {"YUNYING_OBJECTS_ACCESS_KEY_FILE": str(secret)})
    assert (found.objects.secret_key, found.objects.access_key) == ("hunter2", "hunter2")
    assert "hunter2" not in repr(found)
    missing = {"YUNYING_OBJECTS_ACCESS_KEY_FILE": str(tmp_path / "none")}
    assert code_of(environ=missing) == "settings.secret"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[dicom]\nae_titel = 'X'\n", "settings.unknown"),
        ("colour = 'red'\n", "settings.unknown"),
        ("[dicom]\nae_title_file = 'X'\n", "settings.unknown"),
        ("[dicom]\nmax_pdu_bytes = 'many'\n", "settings.value"),
        ("[dicom]\nmax_pdu_bytes = 1.5\n", "settings.value"),
        ("[dicom]\nmax_pdu_bytes = true\n", "settings.value"),
        ("[dicom]\nae_title = 5\n", "settings.value"),
        ("[dicom]\naccept_unknown_calling = 'maybe'\n", "settings.value"),
        ("[log]\nlevel = 'loud'\n", "settings.value"),
        ("[dicom\n", "settings.file"),
    ],
)
def test_a_wrong_file_is_refused_with_the_name(tmp_path: Path, text: str, code: str) -> None:
    assert code_of(config=write(tmp_path, text)) == code


def test_wrong_names_elsewhere_are_refused_too(tmp_path: Path) -> None:
    assert code_of(environ={"YUNYING_DICOM_AE_TITEL": "X"}) == "settings.unknown"
    assert code_of(overrides={"dicom.ae_titel": "X"}) == "settings.unknown"
    assert code_of(config=tmp_path / "none.toml") == "settings.file"
    load(environ={"YUNYING_TEST_DATA": "somewhere"})


def test_a_secret_value_is_not_quoted_in_an_error() -> None:
    with pytest.raises(Invalid) as caught:
        load(overrides={"objects.secret_key": 5})
    assert "5" not in str(caught.value)


def test_an_address_has_host_and_port() -> None:
    assert split_address("127.0.0.1:8080") == ("127.0.0.1", 8080)
    assert split_address("[::1]:0") == ("::1", 0)
    for wrong in ("8080", ":8080", "host:", "host:x", "host:70000", "host:²"):
        with pytest.raises(Invalid):
            split_address(wrong)


def test_every_setting_is_documented_and_the_page_is_up_to_date() -> None:
    assert all(one.doc.endswith(".") for one in known_settings())
    current = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert current == page(), "run: python -m kernel.settings_page > docs/settings.md"


def test_an_error_carries_code_message_and_fields() -> None:
    error = NotFound("study.not_found", "Study {uid} is not here.", uid="1.2")
    assert (error.code, error.fields, str(error)) == (
        "study.not_found",
        {"uid": "1.2"},
        "Study 1.2 is not here.",
    )
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (NotFound, str(error))
    assert isinstance(error, AppError)


def test_a_message_is_filled_as_far_as_it_goes() -> None:
    assert fill("{a} {b}", {"a": 1}) == "1 {b}"
    assert fill("100 % {", {"a": 1}) == "100 % {"
    assert fill("{a.x}", {"a": 1}) == "{a.x}"


def test_a_scope_covers_its_owners_and_the_system_covers_all() -> None:
    scope = Scope(frozenset({1, 3}), Actor("ae", "CT1"), "store")
    assert scope.covers(3)
    assert not scope.covers(2)
    assert Scope.system("settle").covers(2)
    assert Scope.system("settle").actor == Actor("system", "settle")
