"""Every real file through C-STORE: kept byte for byte, or refused for a stated reason."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from dataset.part10 import parse_head
from dataset.scanner import scan
from gateway.upper_layer.sop_classes import storage_classes
from kernel.errors import Invalid
from tests.gateway.conftest import SYSTEM, Gateway
from tests.gateway.peer import Peer

REASONS = re.compile(
    r"(Study|Series) Instance UID \(\d{4},\w{4}\) is missing"
    r"|SOP (Class|Instance) UID .*is not a UID"
    r"|Affected SOP Instance UID is not a UID"
    r"|The data set cannot be read at byte \d+"
)


@dataclass(frozen=True)
class Case:
    """A file as a modality would announce it."""

    path: Path
    sop_class: str
    sop_instance: str
    syntax: str
    data: bytes


def corpus(folder: Path) -> list[Case]:
    """Storage instances among the files, announced by the UIDs in their data sets."""
    storage = storage_classes()
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.stat().st_size > 30 << 20:
            continue
        raw = path.read_bytes()
        try:
            head = parse_head(raw, final=True)
        except Invalid:
            continue
        assert head is not None
        data = raw[head.dataset_offset :]
        uids = {0x00080016: head.sop_class_uid or "", 0x00080018: head.sop_instance_uid or ""}
        try:
            values = scan([data], head.transfer_syntax_uid).values
        except Invalid:
            values = {}
        sop_class, sop_instance = (
            values.get(tag, b"").decode("latin-1").strip("\0 ") or said
            for tag, said in uids.items()
        )
        if sop_class in storage:
            found.append(Case(path, sop_class, sop_instance, head.transfer_syntax_uid, data))
    return found


async def test_each_file_is_kept_byte_for_byte_or_refused_in_words(
    gateway: Gateway, shared_data: Path
) -> None:
    cases = corpus(shared_data / "dicom")
    assert len(cases) > 300
    first: dict[str, bytes] = {}
    refused: dict[str, str] = {}
    syntaxes: Counter[str] = Counter()
    contexts = sorted({(case.sop_class, case.syntax) for case in cases})
    for start in range(0, len(contexts), 128):
        part = contexts[start : start + 128]
        peer = await Peer.associate(gateway.port, *part)
        for case in cases:
            if (case.sop_class, case.syntax) not in part:
                continue
            answer = await peer.store(
                case.sop_class, case.sop_instance, case.syntax, case.data, 131_066
            )
            if answer.status == 0:
                first.setdefault(case.sop_instance, case.data)
                syntaxes[case.syntax] += 1
            else:
                assert answer.status in (0xA900, 0xC000, 0x0117), case.path
                refused[str(case.path.relative_to(shared_data))] = answer.comment
        await peer.release()
    for name, data in first.items():
        (found,) = await gateway.reader.find_any(SYSTEM, sop_uids=[name])
        file = await gateway.reader.read(found)
        head = parse_head(file, final=True)
        assert head is not None
        assert file[head.dataset_offset :] == data
    assert len(syntaxes) > 15
    for path, words in refused.items():
        assert REASONS.match(words), (path, words)
    assert len(refused) < len(cases) // 10
