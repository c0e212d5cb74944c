"""Command sets: PS3.7 section 6.3 and Annex E, always Implicit VR Little Endian.

Small and fast rather than general: a command set is a dict from element number (group 0000) to the
raw value. Answers to C-STORE are the hot path and come from a template.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from struct import Struct, error

ELEMENT = Struct("<HHI")
SHORT = Struct("<H")

# PS3.7 Table E.1-1
AFFECTED_SOP_CLASS_UID = 0x0002
COMMAND_FIELD = 0x0100
MESSAGE_ID = 0x0110
RESPONDED_ID = 0x0120
MOVE_DESTINATION = 0x0600
PRIORITY = 0x0700
DATA_SET_TYPE = 0x0800
STATUS = 0x0900
OFFENDING_ELEMENT = 0x0901
ERROR_COMMENT = 0x0902
AFFECTED_SOP_INSTANCE_UID = 0x1000
REMAINING = 0x1020
COMPLETED = 0x1021
FAILED = 0x1022
WARNING = 0x1023
MOVE_ORIGINATOR = 0x1030
MOVE_ORIGINATOR_ID = 0x1031

C_STORE, C_GET, C_FIND, C_MOVE, C_ECHO, C_CANCEL = 0x0001, 0x0010, 0x0020, 0x0021, 0x0030, 0x0FFF
RESPONSE = 0x8000
NO_DATA_SET, DATA_SET = 0x0101, 0x0001

Command = dict[int, bytes]


class CommandError(ValueError):
    """A command set that cannot be read (PS3.7 6.3.1)."""


def parse(raw: bytes) -> Command:
    """Element number → raw value. Raises ``CommandError`` where lengths do not fit."""
    found: Command = {}
    position, end = 0, len(raw)
    unpack = ELEMENT.unpack_from
    try:
        while position < end:
            group, element, length = unpack(raw, position)
            position += 8
            if group or position + length > end:
                raise CommandError(f"({group:04X},{element:04X}) at byte {position - 8}")
            found[element] = raw[position : position + length]
            position += length
    except error:
        raise CommandError(f"command set cut off at byte {position}") from None
    return found


def number(command: Command, element: int, default: int | None = None) -> int:
    """A US value; raises ``CommandError`` when it is missing without default or not 2 bytes."""
    value = command.get(element)
    if value is None or len(value) != 2:
        if value is None and default is not None:
            return default
        raise CommandError(f"(0000,{element:04X}) is missing or not one US")
    return value[0] | value[1] << 8


def text(command: Command, element: int) -> str:
    """A UI, AE or LO value without padding; '' when missing."""
    return command.get(element, b"").decode("ascii", "replace").strip("\0 ")


def encode(elements: Iterable[tuple[int, bytes]]) -> bytes:
    """A command set with its group length from (element, raw even value) in ascending order."""
    body = b"".join([ELEMENT.pack(0, tag, len(value)) + value for tag, value in elements])
    return ELEMENT.pack(0, 0, 4) + len(body).to_bytes(4, "little") + body


def us(value: int) -> bytes:
    """A US value."""
    return SHORT.pack(value)


def ui(uid: str) -> bytes:
    """A UI value, padded with a null."""
    raw = uid.encode("ascii", "replace")
    return raw + b"\0" if len(raw) & 1 else raw


def ae(title: str) -> bytes:
    """An AE, LO or similar value, padded with a space."""
    raw = title.encode("ascii", "replace")
    return raw + b" " if len(raw) & 1 else raw


def comment(words: str) -> bytes:
    """An Error Comment (0000,0902): LO, at most 64 characters, what is not ASCII left out."""
    plain = "".join(c if " " <= c <= "~" and c != "\\" else "?" for c in words)
    return ae(plain[:64].strip())


def has_data_set(command: Command) -> bool:
    """PS3.7 Table E.1-1: any other value than 0101H means that a data set follows."""
    return number(command, DATA_SET_TYPE) != NO_DATA_SET


@lru_cache(maxsize=1024)
def _store_success(sop_class: bytes, uid_length: int) -> tuple[bytes, bytes]:
    """The two constant stretches of a C-STORE-RSP, around the message ID (PS3.7 Table 9.1-1)."""
    whole = encode(
        [
            (AFFECTED_SOP_CLASS_UID, sop_class),
            (COMMAND_FIELD, us(C_STORE | RESPONSE)),
            (RESPONDED_ID, b"ID"),
            (DATA_SET_TYPE, us(NO_DATA_SET)),
            (STATUS, us(0)),
            (AFFECTED_SOP_INSTANCE_UID, bytes(uid_length)),
        ]
    )
    at = whole.index(ELEMENT.pack(0, RESPONDED_ID, 2)) + 8
    return whole[:at], whole[at + 2 : len(whole) - uid_length]


def store_success(request: Command) -> bytes:
    """The C-STORE-RSP with status 0000H to ``request``."""
    uid = request.get(AFFECTED_SOP_INSTANCE_UID, b"")
    head, middle = _store_success(request.get(AFFECTED_SOP_CLASS_UID, b""), len(uid))
    return b"".join((head, request[MESSAGE_ID], middle, uid))


def response(
    request: Command,
    status: int,
    words: str = "",
    *,
    data_set: bool = False,
    counters: Iterable[tuple[int, int]] = (),
    offending: int | None = None,
) -> bytes:
    """The response of any C-service to ``request`` (PS3.7 9.3).

    ``counters`` are the numbers of sub-operations by element; ``offending`` a tag named in
    (0000,0901); ``words`` become the Error Comment.
    """
    elements: list[tuple[int, bytes]] = []
    if AFFECTED_SOP_CLASS_UID in request:
        elements.append((AFFECTED_SOP_CLASS_UID, request[AFFECTED_SOP_CLASS_UID]))
    elements.append((COMMAND_FIELD, us(number(request, COMMAND_FIELD) | RESPONSE)))
    elements.append((RESPONDED_ID, us(number(request, MESSAGE_ID, 0))))
    elements.append((DATA_SET_TYPE, us(DATA_SET if data_set else NO_DATA_SET)))
    elements.append((STATUS, us(status)))
    if offending is not None:
        elements.append((OFFENDING_ELEMENT, us(offending >> 16) + us(offending & 0xFFFF)))
    if words:
        elements.append((ERROR_COMMENT, comment(words)))
    if AFFECTED_SOP_INSTANCE_UID in request:
        elements.append((AFFECTED_SOP_INSTANCE_UID, request[AFFECTED_SOP_INSTANCE_UID]))
    elements += [(element, us(min(count, 0xFFFF))) for element, count in counters]
    return encode(elements)


def store_request(
    message_id: int,
    sop_class_uid: str,
    sop_instance_uid: str,
    *,
    priority: int = 0,
    originator: tuple[str, int] | None = None,
) -> bytes:
    """A C-STORE-RQ (PS3.7 Table 9.3-1); ``originator`` = move AE title and message ID."""
    elements = [
        (AFFECTED_SOP_CLASS_UID, ui(sop_class_uid)),
        (COMMAND_FIELD, us(C_STORE)),
        (MESSAGE_ID, us(message_id)),
        (PRIORITY, us(priority)),
        (DATA_SET_TYPE, us(DATA_SET)),
        (AFFECTED_SOP_INSTANCE_UID, ui(sop_instance_uid)),
    ]
    if originator is not None:
        title, move_id = originator
        elements += [(MOVE_ORIGINATOR, ae(title)), (MOVE_ORIGINATOR_ID, us(move_id))]
    return encode(elements)


def echo_request(message_id: int) -> bytes:
    """A C-ECHO-RQ (PS3.7 Table 9.3-12)."""
    return encode(
        [
            (AFFECTED_SOP_CLASS_UID, ui("1.2.840.10008.1.1")),
            (COMMAND_FIELD, us(C_ECHO)),
            (MESSAGE_ID, us(message_id)),
            (DATA_SET_TYPE, us(NO_DATA_SET)),
        ]
    )
