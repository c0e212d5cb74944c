"""Nothing that names a person reaches a log line."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO

import pytest
import structlog

from kernel.log import REDACTED, configure, redact
from kernel.settings import LogSettings, Settings


@pytest.fixture
def out() -> Iterator[StringIO]:
    """What the log wrote, as JSON lines; the process's logging is put back afterwards."""
    root, stream = logging.getLogger(), StringIO()
    before = (root.handlers[:], root.level)
    configure(replace(Settings(), log=LogSettings(format="json")), stream)
    yield stream
    root.handlers[:], root.level = before
    structlog.reset_defaults()


def lines(out: StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize(
    "field", ["name", "patient_name", "patient_id", "phone", "id_number", "password", "Token"]
)
def test_personal_fields_are_blanked_at_any_depth(field: str) -> None:
    event = redact(None, "info", {"event": "x", field: "王小明", "inner": {field: [1]}})
    assert event[field] == REDACTED
    assert event["inner"] == {field: REDACTED}


@pytest.mark.parametrize("number", ["522601199003071234", "52260119900307123X", "13812345678"])
def test_what_looks_like_an_identity_or_phone_number_is_blanked(number: str) -> None:
    assert redact(None, "info", {"event": f"no {number}!"})["event"] == f"no {REDACTED}!"
    assert redact(None, "info", {"all": [number]})["all"] == [REDACTED]


@pytest.mark.parametrize(
    "text", ["1.2.840.113619.2.55.3.604688119.868.1275973394.340", "1700000000123456789", "512"]
)
def test_uids_and_ordinary_numbers_stay(text: str) -> None:
    assert redact(None, "info", {"event": text})["event"] == text


def test_bytes_are_only_counted() -> None:
    assert redact(None, "info", {"data": b"abc"})["data"] == "<3 bytes>"


def test_a_line_is_json_with_level_time_and_logger(out: StringIO) -> None:
    structlog.get_logger("archive.settle").info("series.settled", instances=3)
    (line,) = lines(out)
    assert line["event"] == "series.settled"
    assert (line["level"], line["logger"], line["instances"]) == ("info", "archive.settle", 3)
    assert str(line["timestamp"]).endswith("Z")


def test_a_traceback_is_redacted_too(out: StringIO) -> None:
    error = RuntimeError("phone 13812345678")
    structlog.get_logger("x").error("it.failed", exc_info=error)
    (line,) = lines(out)
    assert "RuntimeError" in str(line["exception"])
    assert "13812345678" not in out.getvalue()


def test_records_of_libraries_pass_the_same_way(out: StringIO) -> None:
    logging.getLogger("some.library").warning("call %s", "13812345678")
    (line,) = lines(out)
    assert line["event"] == f"call {REDACTED}"


def test_what_the_http_library_quotes_of_a_request_is_left_out(out: StringIO) -> None:
    logging.getLogger("aiohttp.server").error("bad line GET /?PatientName=王小明")
    (line,) = lines(out)
    assert (line["event"], line["where"]) == ("library.message", "aiohttp.server")
    assert "王小明" not in out.getvalue()


def test_a_level_below_the_setting_is_silent(out: StringIO) -> None:
    structlog.get_logger("x").debug("quiet")
    assert out.getvalue() == ""


def test_the_console_form_is_for_people() -> None:
    stream, root = StringIO(), logging.getLogger()
    before = (root.handlers[:], root.level)
    configure(replace(Settings(), log=LogSettings(format="console")), stream)
    structlog.get_logger("x").info("hello", n=1)
    root.handlers[:], root.level = before
    structlog.reset_defaults()
    assert "hello" in stream.getvalue()
    assert not stream.getvalue().startswith("{")
