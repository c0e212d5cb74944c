"""Protocol data units of the upper layer: PS3.8 section 9.3, without I/O.

Strict on write, tolerant on read: reserved fields are not looked at (PS3.8 9.3.1), unknown items
are skipped, but every length is checked against the bytes at hand, so that hostile input raises
``PduError`` with the reason for the A-ABORT (PS3.8 Table 9-26) and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Any

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA_TF, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"  # PS3.7 A.2.1

# PS3.8 Table 9-26: who aborts, and why when it is the provider.
SOURCE_USER, SOURCE_PROVIDER = 0, 2
NOT_SPECIFIED, UNRECOGNIZED_PDU, UNEXPECTED_PDU = 0, 1, 2
UNRECOGNIZED_PARAMETER, UNEXPECTED_PARAMETER, INVALID_PARAMETER = 4, 5, 6

# PS3.8 Table 9-21, result of a rejection: permanent or for now.
PERMANENT, TRANSIENT = 1, 2
# PS3.8 Table 9-18, result of a presentation context.
ACCEPTED, USER_REJECTION, NO_REASON, ABSTRACT_NOT_SUPPORTED, TRANSFER_NOT_SUPPORTED = range(5)

PDU_HEADER = Struct(">BBI")
ITEM_HEADER = Struct(">BBH")
ASSOCIATE_FIXED = Struct(">HH16s16s32x")
MAX_ITEMS = 4096


class PduError(Exception):
    """A PDU that breaks PS3.8; ``reason`` is the reason of the A-ABORT (PS3.8 Table 9-26)."""

    def __init__(self, message: str, reason: int = INVALID_PARAMETER) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Rejection:
    """PS3.8 Table 9-21: why an association is refused."""

    result: int
    source: int
    reason: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """One Presentation Context of an A-ASSOCIATE-RQ (PS3.8 9.3.2.2)."""

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContextResult:
    """The answer to one Presentation Context (PS3.8 9.3.3.2)."""

    id: int
    result: int
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Role:
    """SCP/SCU Role Selection (PS3.7 D.3.3.4)."""

    sop_class_uid: str
    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True)
class UserInformation:
    """User Information item: PS3.8 Annex D.1 and PS3.7 Annex D.3.3."""

    max_pdu_bytes: int = 0
    implementation_class_uid: str = ""
    implementation_version: str = ""
    asynchronous_operations: tuple[int, int] | None = None
    roles: tuple[Role, ...] = ()
    extended: tuple[tuple[str, bytes], ...] = ()
    identity_response_asked: bool = False
    identity_response: bytes | None = None


@dataclass(frozen=True, slots=True)
class Associate:
    """A-ASSOCIATE-RQ (``contexts``) or A-ASSOCIATE-AC (``results``): PS3.8 9.3.2 and 9.3.3."""

    called_ae_title: str
    calling_ae_title: str
    contexts: tuple[ProposedContext, ...] = ()
    results: tuple[ContextResult, ...] = ()
    user: UserInformation = field(default_factory=UserInformation)
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = 1


def _items(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Variable items of a PDU or an item (PS3.8 9.3.1): type and value."""
    position, end = 0, len(data)
    count = 0
    while position < end:
        count += 1
        if end - position < 4 or count > MAX_ITEMS:
            raise PduError(f"item header cut off or too many items at byte {position}")
        kind, _, length = ITEM_HEADER.unpack_from(data, position)
        position += 4
        if length > end - position:
            raise PduError(f"item {kind:#04x} of {length} bytes ends after its parent")
        yield kind, data[position : position + length]
        position += length


def _uid(value: memoryview) -> str:
    """A UID in an item: trailing nulls and spaces are tolerated."""
    try:
        return bytes(value).decode("ascii").rstrip("\0 ").strip()
    except UnicodeDecodeError:
        raise PduError("a UID that is not ASCII") from None


def _text(value: bytes) -> str:
    """An AE title or implementation version: ASCII, blanks around it mean nothing."""
    return value.decode("ascii", "replace").strip(" \0")


def _length_prefixed(value: memoryview) -> tuple[memoryview, int]:
    if len(value) < 2:
        raise PduError("sub-item cut off before a length")
    end = 2 + int.from_bytes(value[:2], "big")
    if end > len(value):
        raise PduError("sub-item field longer than its item")
    return value[2:end], end


def _max_length(value: memoryview) -> int:
    if len(value) != 4:
        raise PduError("Maximum Length sub-item is not 4 bytes")
    return int.from_bytes(value, "big")


def _window(value: memoryview) -> tuple[int, int] | None:
    if len(value) != 4:
        return None
    return int.from_bytes(value[:2], "big"), int.from_bytes(value[2:], "big")


def _role(value: memoryview) -> Role:
    uid, end = _length_prefixed(value)
    if len(value) < end + 2:
        raise PduError("role selection without its roles")
    return Role(_uid(uid), value[end] == 1, value[end + 1] == 1)


def _extended(value: memoryview) -> tuple[str, bytes]:
    uid, end = _length_prefixed(value)
    return _uid(uid), bytes(value[end:])


# PS3.8 D.1 and PS3.7 D.3.3: sub-item type -> field and how it is read. 57H (SOP Class Common
# Extended Negotiation) asks for no answer and changes nothing here.
_USER_FIELDS: dict[int, tuple[str, Callable[[memoryview], Any]]] = {
    0x51: ("max_pdu_bytes", _max_length),
    0x52: ("implementation_class_uid", _uid),
    0x53: ("asynchronous_operations", _window),
    0x55: ("implementation_version", lambda value: _text(bytes(value))),
    0x58: ("identity_response_asked", lambda value: bytes(value[1:2]) == b"\x01"),
    0x59: ("identity_response", lambda value: bytes(_length_prefixed(value)[0])),
}


def _decode_user(data: memoryview) -> UserInformation:
    found: dict[str, Any] = {}
    roles: list[Role] = []
    extended: list[tuple[str, bytes]] = []
    for kind, value in _items(data):
        if kind == 0x54:
            roles.append(_role(value))
        elif kind == 0x56:
            extended.append(_extended(value))
        elif kind in _USER_FIELDS:
            name, read = _USER_FIELDS[kind]
            found[name] = read(value)
    return UserInformation(roles=tuple(roles), extended=tuple(extended), **found)


def _decode_context(value: memoryview) -> tuple[int, int, str, tuple[str, ...]]:
    if len(value) < 4:
        raise PduError("presentation context item of less than 4 bytes")
    abstract, transfer = "", []
    for kind, sub in _items(value[4:]):
        if kind == 0x30:
            abstract = _uid(sub)
        elif kind == 0x40:
            transfer.append(_uid(sub))
    return value[0], value[2], abstract, tuple(transfer)


def decode_associate(body: bytes | bytearray | memoryview, kind: int) -> Associate:
    """A-ASSOCIATE-RQ (``kind`` 1) or -AC (``kind`` 2) from the bytes after the PDU header.

    Raises:
        PduError: a length that does not fit, a context ID that is even, zero or used twice.
    """
    if len(body) < ASSOCIATE_FIXED.size:
        raise PduError(f"A-ASSOCIATE of {len(body)} bytes, at least 68 expected")
    version, _, called, calling = ASSOCIATE_FIXED.unpack_from(body)
    contexts: list[ProposedContext] = []
    results: list[ContextResult] = []
    application_context, user = "", UserInformation()
    seen: set[int] = set()
    for item, value in _items(memoryview(body)[ASSOCIATE_FIXED.size :]):
        if item == 0x10:
            application_context = _uid(value)
        elif item in (0x20, 0x21):
            number, result, abstract, transfer = _decode_context(value)
            if number % 2 == 0 or number in seen:
                raise PduError(f"presentation context ID {number} is even or used twice")
            seen.add(number)
            if item == 0x20:
                contexts.append(ProposedContext(number, abstract, transfer))
            else:
                results.append(ContextResult(number, result, transfer[0] if transfer else ""))
        elif item == 0x50:
            user = _decode_user(value)
    if kind == ASSOCIATE_RQ and not contexts:
        raise PduError("A-ASSOCIATE-RQ without a presentation context")
    return Associate(
        _text(called),
        _text(calling),
        tuple(contexts),
        tuple(results),
        user,
        application_context,
        version,
    )


def _item(kind: int, value: bytes) -> bytes:
    return ITEM_HEADER.pack(kind, 0, len(value)) + value


def _sized(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def _encode_user(user: UserInformation) -> bytes:
    parts = [_item(0x51, user.max_pdu_bytes.to_bytes(4, "big"))]
    parts.append(_item(0x52, user.implementation_class_uid.encode("ascii")))
    if user.asynchronous_operations is not None:
        invoked, performed = user.asynchronous_operations
        parts.append(_item(0x53, invoked.to_bytes(2, "big") + performed.to_bytes(2, "big")))
    parts += [
        _item(0x54, _sized(role.sop_class_uid.encode("ascii")) + bytes([role.scu, role.scp]))
        for role in user.roles
    ]
    if user.implementation_version:
        parts.append(_item(0x55, user.implementation_version.encode("ascii")))
    parts += [_item(0x56, _sized(uid.encode("ascii")) + info) for uid, info in user.extended]
    if user.identity_response is not None:
        parts.append(_item(0x59, _sized(user.identity_response)))
    return _item(0x50, b"".join(parts))


def encode_associate(associate: Associate, kind: int) -> bytes:
    """The whole PDU of an A-ASSOCIATE-RQ (``kind`` 1) or -AC (``kind`` 2)."""
    parts = [
        ASSOCIATE_FIXED.pack(
            1,
            0,
            associate.called_ae_title.encode("ascii", "replace").ljust(16)[:16],
            associate.calling_ae_title.encode("ascii", "replace").ljust(16)[:16],
        ),
        _item(0x10, associate.application_context.encode("ascii")),
    ]
    for context in associate.contexts:
        syntaxes = [_item(0x40, uid.encode("ascii")) for uid in context.transfer_syntaxes]
        abstract = _item(0x30, context.abstract_syntax.encode("ascii"))
        parts.append(_item(0x20, bytes([context.id, 0, 0, 0]) + abstract + b"".join(syntaxes)))
    for result in associate.results:
        head = bytes([result.id, 0, result.result, 0])
        parts.append(_item(0x21, head + _item(0x40, result.transfer_syntax.encode("ascii"))))
    parts.append(_encode_user(associate.user))
    body = b"".join(parts)
    return PDU_HEADER.pack(kind, 0, len(body)) + body


def encode_reject(rejection: Rejection) -> bytes:
    """A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    return PDU_HEADER.pack(ASSOCIATE_RJ, 0, 4) + bytes(
        [0, rejection.result, rejection.source, rejection.reason]
    )


def decode_reject(body: bytes) -> Rejection:
    """A-ASSOCIATE-RJ from the bytes after the PDU header."""
    _four_bytes(body)
    return Rejection(body[1], body[2], body[3])


def encode_abort(source: int, reason: int) -> bytes:
    """A-ABORT (PS3.8 9.3.8); the reason means something for the provider only."""
    return PDU_HEADER.pack(ABORT, 0, 4) + bytes([0, 0, source, reason if source else 0])


def decode_abort(body: bytes) -> tuple[int, int]:
    """Source and reason of an A-ABORT from the bytes after the PDU header."""
    _four_bytes(body)
    return body[2], body[3]


def _four_bytes(body: bytes) -> None:
    if len(body) != 4:
        raise PduError(f"a PDU of {len(body)} bytes where 4 are expected")


RELEASE_RQ_PDU = PDU_HEADER.pack(RELEASE_RQ, 0, 4) + bytes(4)  # PS3.8 9.3.6
RELEASE_RP_PDU = PDU_HEADER.pack(RELEASE_RP, 0, 4) + bytes(4)  # PS3.8 9.3.7
