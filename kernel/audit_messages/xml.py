"""DICOM audit messages (PS3.15 A.5.1) of audit rows. No value of a data set is in them."""

import base64
import ipaddress
import json
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from kernel.audit_messages.domain import OUTCOMES, AuditRow, Code, Kind, kind_of, user_id

_SOURCE = Code("110153", "Source Role ID")
_DESTINATION = Code("110152", "Destination Role ID")
_APPLICATION = Code("110150", "Application")
_LAUNCHER = Code("110151", "Application Launcher")
_STUDY_UID = Code("110180", "Study Instance UID")


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who reports: the system's name (its AE title), this node, the site where one is named."""

    system: str
    node: str
    site: str = ""


def to_xml(row: AuditRow, reporter: Reporter) -> bytes:
    """The message of a row, UTF-8 with an XML declaration."""
    kind = kind_of(row)
    root = ET.Element("AuditMessage")
    _event(root, row, kind)
    for participant in _participants(row, kind, reporter):
        root.append(participant)
    source = ET.SubElement(root, "AuditSourceIdentification")
    if reporter.site:
        source.set("AuditEnterpriseSiteID", reporter.site)
    source.set("AuditSourceID", f"{reporter.system}@{reporter.node}")
    ET.SubElement(source, "AuditSourceTypeCode", {"csd-code": "4"})  # application server process
    if row.study_instance_uid:
        _study(root, row)
    xml: bytes = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    return xml


def _event(root: ET.Element, row: AuditRow, kind: Kind) -> None:
    event = ET.SubElement(root, "EventIdentification")
    event.set("EventActionCode", kind.action)
    event.set("EventDateTime", row.at.isoformat(timespec="milliseconds"))
    event.set("EventOutcomeIndicator", OUTCOMES[row.outcome])
    _code(event, "EventID", kind.event)
    if kind.type is not None:
        _code(event, "EventTypeCode", kind.type)
    if row.why:
        ET.SubElement(event, "EventOutcomeDescription").text = _clean(row.why)


def _participants(row: AuditRow, kind: Kind, reporter: Reporter) -> list[ET.Element]:
    """The asker, and we; of a move the node that the instances went to."""
    asker = _participant(user_id(row), row.peer, requestor=True)
    if row.actor_kind == "ae" and row.actor_id:
        asker.set("AlternativeUserID", f"AETITLES={_clean(row.actor_id)}")
    ours = _participant(f"system:{reporter.system}", reporter.node, requestor=False)
    found = [asker, ours]
    destination = str(row.detail.get("destination") or "")
    if kind.event.value == "110100":
        _code(asker, "RoleIDCode", _LAUNCHER)
        _code(ours, "RoleIDCode", _APPLICATION)
    elif kind.inward is not None:
        _code(ours, "RoleIDCode", _DESTINATION if kind.inward else _SOURCE)
        if destination and destination != row.actor_id:
            other = _participant(f"ae:{destination}", "", requestor=False)
            _code(other, "RoleIDCode", _DESTINATION)
            found.append(other)
        else:
            _code(asker, "RoleIDCode", _SOURCE if kind.inward else _DESTINATION)
    elif kind.event.value == "110112":
        _code(asker, "RoleIDCode", _SOURCE)
        _code(ours, "RoleIDCode", _DESTINATION)
    return found


def _participant(user: str, peer: str, *, requestor: bool) -> ET.Element:
    one = ET.Element("ActiveParticipant")
    one.set("UserID", _clean(user))
    one.set("UserIsRequestor", "true" if requestor else "false")
    if peer:
        address = _address(peer)
        one.set("NetworkAccessPointID", _clean(address))
        one.set("NetworkAccessPointTypeCode", "2" if _is_ip(address) else "1")
    return one


def _study(root: ET.Element, row: AuditRow) -> None:
    attributes = {
        "ParticipantObjectID": _clean(row.study_instance_uid),
        "ParticipantObjectTypeCode": "2",  # system object
        "ParticipantObjectTypeCodeRole": "3",  # report, which stands for a study
    }
    study = ET.SubElement(root, "ParticipantObjectIdentification", attributes)
    _code(study, "ParticipantObjectIDTypeCode", _STUDY_UID)
    told = {"action": row.action, "purpose": row.purpose, "count": row.count, "refs": row.refs}
    value = base64.b64encode(json.dumps(told, ensure_ascii=False).encode()).decode()
    ET.SubElement(study, "ParticipantObjectDetail", {"type": "yunying", "value": value})


def _code(parent: ET.Element, name: str, code: Code) -> None:
    attributes = {
        "csd-code": code.value,
        "codeSystemName": "DCM",
        "originalText": code.meaning,
        "displayName": code.meaning,
    }
    ET.SubElement(parent, name, attributes)


def _address(peer: str) -> str:
    """An address without its port."""
    if _is_ip(peer):
        return peer
    host, colon, port = peer.rpartition(":")
    return host.strip("[]") if colon and port.isdigit() else peer


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _clean(text: str) -> str:
    """Without what XML 1.0 cannot carry; a calling AE title may hold anything."""
    return "".join(one if one.isprintable() else "?" for one in text)
