"""Audit records as lines of a file: a checksum, a space, JSON."""

import json
from datetime import UTC, datetime

import xxhash

from kernel.audit.domain import AuditRecord
from kernel.errors import Invalid
from kernel.scope import Actor

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def to_line(record: AuditRecord) -> bytes:
    """One line with its newline."""
    body = _encode(
        {
            "at": record.at.timestamp(),
            "actor": [record.actor.kind, record.actor.id],
            "action": record.action,
            "outcome": record.outcome,
            "owner_id": record.owner_id,
            "study": record.study_instance_uid,
            "refs": record.refs,
            "peer": record.peer,
            "purpose": record.purpose,
            "detail": dict(record.detail),
            "count": record.count,
            "fold": record.fold,
        }
    ).encode()
    return xxhash.xxh3_64_hexdigest(body).encode() + b" " + body + b"\n"


def from_line(line: bytes) -> AuditRecord:
    """The record of a line without its newline; raises Invalid `audit.damaged`."""
    checksum, _, body = line.partition(b" ")
    if xxhash.xxh3_64_hexdigest(body).encode() != checksum:
        raise Invalid("audit.damaged", "A line of the audit file is damaged.")
    values = json.loads(body)
    kind, identifier = values["actor"]
    return AuditRecord(
        actor=Actor(kind, identifier),
        action=values["action"],
        outcome=values["outcome"],
        owner_id=values["owner_id"],
        study_instance_uid=values["study"],
        refs=tuple(values["refs"]),
        peer=values["peer"],
        purpose=values["purpose"],
        detail=values["detail"],
        at=datetime.fromtimestamp(values["at"], UTC),
        count=values["count"],
        fold=values["fold"],
    )
