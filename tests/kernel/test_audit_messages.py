"""DICOM audit messages reach a real TLS syslog listener, all of them, whatever breaks between."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from kernel.audit.seal import seal
from kernel.audit.service import append
from kernel.audit_messages.domain import KINDS, AuditRow, kind_of
from kernel.audit_messages.sender import send_all
from kernel.audit_messages.syslog import Repository, frame, tls_context
from kernel.audit_messages.xml import Reporter, to_xml
from kernel.db.database import Database
from kernel.errors import Invalid
from kernel.scope import Scope
from tests.kernel.test_audit_chain import record
from tests.waiting import eventually

SYSTEM = Scope.system("test")
US = Reporter("YUNYING", "node-1", "凯里")
ROW = AuditRow(
    7, 7, datetime(2026, 11, 22, 4, 0, 0, 123456, tzinfo=UTC), "session", "12", "10.0.0.7",
    "archive.study.read", "ok", "care", 1, "1.2.3", ("1.2.3.4",), {"status": 200}, 3,
)  # fmt: skip

# PS3.15 A.5.1: for each element its attributes (True: required) and its children in order, each
# with how often it comes at least and at most.
CODED = {
    "csd-code": True, "codeSystemName": True, "originalText": True, "displayName": False,
}  # fmt: skip
SCHEMA: dict[str, tuple[dict[str, bool], list[tuple[str, int, int]]]] = {
    "AuditMessage": (
        {},
        [
            ("EventIdentification", 1, 1),
            ("ActiveParticipant", 1, 99),
            ("AuditSourceIdentification", 1, 1),
            ("ParticipantObjectIdentification", 0, 99),
        ],
    ),
    "EventIdentification": (
        {"EventActionCode": False, "EventDateTime": True, "EventOutcomeIndicator": True},
        [("EventID", 1, 1), ("EventTypeCode", 0, 99), ("EventOutcomeDescription", 0, 1)],
    ),
    "EventID": (CODED, []),
    "EventTypeCode": (CODED, []),
    "EventOutcomeDescription": ({}, []),
    "ActiveParticipant": (
        {
            "UserID": True,
            "AlternativeUserID": False,
            "UserName": False,
            "UserIsRequestor": True,
            "NetworkAccessPointID": False,
            "NetworkAccessPointTypeCode": False,
        },
        [("RoleIDCode", 0, 99)],
    ),
    "RoleIDCode": (CODED, []),
    "AuditSourceIdentification": (
        {"AuditEnterpriseSiteID": False, "AuditSourceID": True},
        [("AuditSourceTypeCode", 0, 99)],
    ),
    "AuditSourceTypeCode": ({"csd-code": True}, []),
    "ParticipantObjectIdentification": (
        {
            "ParticipantObjectID": True,
            "ParticipantObjectTypeCode": False,
            "ParticipantObjectTypeCodeRole": False,
        },
        [("ParticipantObjectIDTypeCode", 1, 1), ("ParticipantObjectDetail", 0, 99)],
    ),
    "ParticipantObjectIDTypeCode": (CODED, []),
    "ParticipantObjectDetail": ({"type": True, "value": True}, []),
}


def check_structure(element: ET.Element) -> None:
    attributes, children = SCHEMA[element.tag]
    assert set(element.attrib) <= set(attributes), element.tag
    assert {name for name, needed in attributes.items() if needed} <= set(element.attrib)
    order = [name for name, _, _ in children]
    places = [order.index(child.tag) for child in element]
    assert places == sorted(places), element.tag
    for place, (_, least, most) in enumerate(children):
        assert least <= places.count(place) <= most, element.tag
    for child in element:
        check_structure(child)


def check_values(root: ET.Element) -> None:
    event = root[0]
    assert event.get("EventActionCode", "") in "CRUDE"
    assert event.get("EventOutcomeIndicator") in {"0", "4", "8", "12"}
    assert datetime.fromisoformat(event.get("EventDateTime", "")).tzinfo is not None
    requestors = [one.get("UserIsRequestor") for one in root.iter("ActiveParticipant")]
    assert requestors.count("true") == 1
    for one in root.iter("ActiveParticipant"):
        assert (one.get("NetworkAccessPointID") is None) == (
            one.get("NetworkAccessPointTypeCode") is None
        )


@pytest.mark.parametrize("action", [*KINDS, "system.jobs.manage"])
@pytest.mark.parametrize("outcome", ["ok", "denied", "failed"])
def test_every_kind_of_row_is_a_message_of_the_standard(action: str, outcome: str) -> None:
    for actor in ("12", ""):
        row = replace(ROW, action=action, outcome=outcome, actor_id=actor)
        root = ET.fromstring(to_xml(row, US))
        check_structure(root)
        check_values(root)


# IHE ITI-20 beside PS3.15 A.5.3, as archives map it.
EVENTS = {
    "dimse.c-store": ("110104", "C", None),
    "archive.study.store": ("110104", "C", None),
    "archive.study.delete": ("110105", "D", None),
    "archive.study.reject": ("110105", "D", None),
    "dimse.c-find": ("110112", "E", None),
    "archive.study.search": ("110112", "E", None),
    "dimse.c-move": ("110104", "R", None),
    "dimse.c-get": ("110104", "R", None),
    "archive.study.read": ("110103", "R", None),
    "archive.study.correct": ("110103", "U", None),
    "dimse.associate": ("110113", "E", "110126"),
    "identity.sign_in": ("110114", "E", "110122"),
    "identity.sign_out": ("110114", "E", "110123"),
    "identity.role.grant": ("110113", "E", "110136"),
    "identity.break_glass.use": ("110113", "E", "110127"),
    "system.audit.read": ("110101", "R", None),
    "system.start": ("110100", "E", "110120"),
    "system.stop": ("110100", "E", "110121"),
}


@pytest.mark.parametrize(("action", "expected"), EVENTS.items())
def test_rows_become_the_events_of_the_standard(
    action: str, expected: tuple[str, str, str | None]
) -> None:
    kind = kind_of(replace(ROW, action=action))
    assert (kind.event.value, kind.action, kind.type.value if kind.type else None) == expected


def test_who_does_not_say_who_they_are_is_a_security_alert() -> None:
    kind = kind_of(replace(ROW, outcome="denied", actor_id=""))
    assert (kind.event.value, kind.type and kind.type.value) == ("110113", "110126")


def test_a_message_says_who_from_where_what_and_why() -> None:
    row = replace(ROW, outcome="denied", detail={"code": "access.denied"}, actor_id="张\x01 <&>")
    root = ET.fromstring(to_xml(row, US))
    asker = root[1].attrib
    assert asker["UserID"] == "session:张? <&>"
    assert (asker["NetworkAccessPointID"], asker["NetworkAccessPointTypeCode"]) == ("10.0.0.7", "2")
    assert root[0].findtext("EventOutcomeDescription") == "access.denied"
    study = root.find("ParticipantObjectIdentification")
    assert study is not None
    assert study.get("ParticipantObjectID") == "1.2.3"
    told = json.loads(base64.b64decode(study[1].get("value", "")))
    assert told == {"action": ROW.action, "purpose": "care", "count": 3, "refs": ["1.2.3.4"]}


def test_a_move_names_its_destination() -> None:
    row = replace(ROW, action="dimse.c-move", actor_kind="ae", detail={"destination": "WS1"})
    users = [
        (one.get("UserID"), one[0].get("csd-code") if len(one) else None)
        for one in ET.fromstring(to_xml(row, US)).iter("ActiveParticipant")
    ]
    assert users == [("ae:12", None), ("system:YUNYING", "110153"), ("ae:WS1", "110152")]


FRAME = re.compile(
    rb"<85>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 (\S+) yunying audit IHE\+RFC-3881 - "
    rb"\xef\xbb\xbf(<\?xml.*)\Z",
    re.DOTALL,
)


def test_a_frame_is_syslog_with_its_length_in_octets() -> None:
    made = frame(ROW.at, "山 host", "audit", "<?xml 凯里".encode())
    length, _, message = made.partition(b" ")
    assert int(length) == len(message)
    assert FRAME.match(message)


@pytest.mark.parametrize("url", ["", "udp://a:1", "tls://", "tls://a:b", "tls://a/b", "a:6514"])
def test_an_address_that_cannot_be_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        Repository.parse(url)
    assert Repository.parse("tls://arr.example").port == 6514


@dataclass
class Listener:
    """A syslog receiver: reads frames by their length, as RFC 5425 says."""

    port: int
    messages: list[bytes] = field(default_factory=list)
    connections: int = 0
    break_after: int | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length = await reader.readuntil(b" ")
                self.messages.append(await reader.readexactly(int(length)))
                if self.break_after is not None and len(self.messages) >= self.break_after:
                    self.break_after = None
                    writer.transport.abort()
                    return
        writer.close()

    def uids(self) -> list[str]:
        found = []
        for message in self.messages:
            matched = FRAME.match(message)
            assert matched, message[:200]
            root = ET.fromstring(matched[2])
            check_structure(root)
            study = root.find("ParticipantObjectIdentification")
            found.append(study.get("ParticipantObjectID", "") if study is not None else "")
        return found


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, and its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
         "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder


@contextlib.asynccontextmanager
async def listening(
    certificate: Path, port: int = 0, *, tls: bool = True
) -> AsyncIterator[Listener]:
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    listener = Listener(0)
    server = await asyncio.start_server(listener.serve, "127.0.0.1", port, ssl=context)
    listener.port = server.sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        server.close()
        await server.wait_closed()


async def fill(database: Database, numbers: range) -> None:
    async with database.session(SYSTEM, write=True) as session:
        for number in numbers:
            await append(session, record(number))
    await seal(database)


async def send(database: Database, port: int, certificate: Path, scheme: str = "tls") -> int:
    tls = tls_context(str(certificate / "cert.pem"), "", "")
    where = Repository.parse(f"{scheme}://127.0.0.1:{port}")
    return sum([one async for one in send_all(database, where, tls, 0.2)])


def uids(numbers: range) -> list[str]:
    return [f"1.2.{number}" for number in numbers]


@pytest.mark.backend
@pytest.mark.parametrize("scheme", ["tls", "tcp"])
async def test_every_row_arrives_in_order_and_once(
    database: Database, certificate: Path, scheme: str
) -> None:
    await fill(database, range(250))
    async with listening(certificate, tls=scheme == "tls") as listener:
        assert await send(database, listener.port, certificate, scheme) == 250
        assert await send(database, listener.port, certificate, scheme) == 0
        await fill(database, range(250, 260))
        assert await send(database, listener.port, certificate, scheme) == 10
        await _until(lambda: len(listener.messages) == 260)
        assert listener.uids() == uids(range(260))
        assert listener.connections == 2  # none when there is nothing to say


@pytest.mark.backend
async def test_an_outage_loses_nothing(database: Database, certificate: Path) -> None:
    await fill(database, range(30))
    async with listening(certificate) as listener:
        assert await send(database, listener.port, certificate) == 30
        port = listener.port
    await fill(database, range(30, 230))
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await send(database, port, certificate)
    async with listening(certificate, port) as listener:
        assert await send(database, port, certificate) == 200
        await _until(lambda: len(listener.messages) == 200)
        assert listener.uids() == uids(range(30, 230))


async def test_what_was_on_the_way_when_the_connection_broke_comes_again(
    database: Database, certificate: Path
) -> None:
    await fill(database, range(1000))
    async with listening(certificate) as listener:
        listener.break_after = 333
        for _ in range(5):
            with contextlib.suppress(OSError):
                if not await send(database, listener.port, certificate):
                    break
        await _until(lambda: set(listener.uids()) == set(uids(range(1000))))


async def test_a_stranger_with_another_certificate_gets_nothing(
    database: Database, certificate: Path
) -> None:
    await fill(database, range(3))
    async with listening(certificate) as listener:
        where = Repository.parse(f"tls://127.0.0.1:{listener.port}")
        with pytest.raises(ssl.SSLError):
            _ = [one async for one in send_all(database, where, tls_context("", "", ""))]
        assert listener.messages == []


async def _until(ready: Callable[[], Any]) -> None:
    async def look() -> bool:
        return bool(ready())

    await eventually(look)
