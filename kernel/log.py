"""Structured logs without personal data.

`structlog` writes one line per event: a static event name and fields. A redactor is the last wall:
it blanks fields that by their name hold a person's data and anything that looks like an identity
number or a phone number. Records of the standard library's `logging` pass through the same chain.
"""

import logging
import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from kernel.settings import Settings

REDACTED = "[redacted]"

PERSONAL_FIELDS = frozenset(
    [
        "name",
        "full_name",
        "person_name",
        "patient",
        "patient_name",
        "patient_id",
        "patient_ids",
        "patients",
        "birth_date",
        "birthday",
        "sex",
        "age",
        "phone",
        "telephone",
        "mobile",
        "email",
        "address",
        "id_number",
        "identity_number",
        "id_card",
        "other_patient_ids",
        "referring_physician",
        "operator",
        "accession_number",
        "password",
        "secret",
        "token",
        "authorization",
        "cookie",
        "query",
        "query_string",
        "secret_key",
        "access_key",
    ]
)

# 18 digits (last may be X) = resident identity number GB 11643, 15 = its first form,
# 11 beginning with 1 = mobile phone. Digits inside a DICOM UID are not meant: dots around exclude.
_NUMBER = re.compile(r"(?<![\d.])(?:\d{17}[\dXx]|\d{15}|1[3-9]\d{9})(?![\d.]*\d)")

# Loggers whose messages quote what a peer sent; only the fact is kept.
_QUOTING = ("aiohttp.server", "aiohttp.access", "aiohttp.web")


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Send all logs of this process to `stream` (standard error) as the settings say."""
    out = stream or sys.stderr
    plain = settings.log.format == "console" or (settings.log.format == "auto" and out.isatty())
    level = logging.getLevelNamesMapping()[settings.log.level.upper()]
    shared = _shared_processors()
    render = (
        structlog.dev.ConsoleRenderer(
            colors=out.isatty(),
            exception_formatter=structlog.dev.plain_traceback,  # rich's shows local variables
        )
        if plain
        else structlog.processors.JSONRenderer()
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_quiet_quoting, *shared],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,  # before redact: its text is redacted as well
            redact,
            render,
        ],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)
    logging.getLogger("botocore").setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Blank personal fields and number-like personal identifiers, at any depth."""
    return {
        key: REDACTED if key.lower() in PERSONAL_FIELDS else _clean(value)
        for key, value in event.items()
    }


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _NUMBER.sub(REDACTED, value)
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, dict):
        return redact(None, "", value)
    if isinstance(value, Iterable) and isinstance(value, list | tuple | set | frozenset):
        return [_clean(one) for one in value]
    return value


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _quiet_quoting(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    record = event.get("_record")
    if isinstance(record, logging.LogRecord) and record.name.startswith(_QUOTING):
        event["where"] = record.name
        event["what"] = type(record.exc_info[1]).__name__ if record.exc_info else ""
        event["event"] = "library.message"
        event.pop("exc_info", None)
    return event
