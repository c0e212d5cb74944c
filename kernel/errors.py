"""The errors that people and other systems see.

    AppError
    ├── NotFound      what was asked for is not here, or not for the asker
    ├── Denied        the actor may not do this
    ├── Conflict      it contradicts what is already here
    ├── Invalid       the request or the data cannot be understood or accepted
    └── Unavailable   it would be right, but cannot be done now: try again

Each carries a stable `code` (`study.not_found`), an English message that is at the same time the
msgid of its translation, and the fields that fill the message. The words are translated at the
edge; HTTP and DIMSE statuses are chosen there too (`kernel.web.problems`, `gateway`).
"""

from typing import Any


class AppError(Exception):
    """A failure with a stable code.

    `message` is an English msgid with `{field}` placeholders and `fields` fill it;
    `str(error)` is the filled English text.
    """

    def __init__(self, code: str, message: str, /, **fields: Any) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.fields = fields

    def __str__(self) -> str:
        return fill(self.message, self.fields)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.code, self.message, self.fields)


class NotFound(AppError):
    """What was asked for is not here, or not for the asker (who cannot tell which)."""


class Denied(AppError):
    """The actor may not do this."""


class Conflict(AppError):
    """It contradicts what is already here."""


class Invalid(AppError):
    """The request or the data cannot be understood or accepted."""


class Unavailable(AppError):
    """It cannot be done now; the same request may succeed later."""


def fill(message: str, fields: dict[str, Any]) -> str:
    """Put `fields` into the placeholders of `message`; one without a field stays visible."""
    if not fields:
        return message
    try:
        return message.format_map(_Visible(fields))
    except (ValueError, IndexError, AttributeError):
        return message


class _Visible(dict[str, Any]):
    def __missing__(self, name: str) -> str:
        return "{" + name + "}"


def _rebuild(kind: type[AppError], code: str, message: str, fields: dict[str, Any]) -> AppError:
    return kind(code, message, **fields)
