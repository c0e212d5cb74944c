"""A storage SCP of pynetdicom in threads: the destination of moves, with what it received."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pynetdicom import AE, evt


@dataclass
class Received:
    """What a storage SCP got: raw data sets by SOP Instance UID, and their transfer syntaxes."""

    port: int = 0
    data: dict[str, bytes] = field(default_factory=dict)
    syntaxes: dict[str, str] = field(default_factory=dict)
    originators: list[tuple[str, int]] = field(default_factory=list)
    associations: int = 0
    status: Callable[[str], int] = lambda _: 0
    delay_s: float = 0.0
    break_after: int = 1 << 30


@contextmanager
def storage_scp(
    contexts: Iterable[tuple[str, list[str]]], title: str = "DEST", received: Received | None = None
) -> Iterator[Received]:
    """Run one on a free port; ``contexts`` are SOP class and transfer syntaxes that it takes."""
    received = received or Received()
    lock = threading.Lock()

    def handle_store(event: evt.Event) -> int:
        request = event.request
        uid = str(request.AffectedSOPInstanceUID)
        if received.delay_s:
            time.sleep(received.delay_s)
        with lock:
            if len(received.data) >= received.break_after:
                received.break_after = 1 << 30
                event.assoc.abort()
                return 0xC000
            received.data[uid] = request.DataSet.getvalue()
            received.syntaxes[uid] = str(event.context.transfer_syntax)
            if request.MoveOriginatorApplicationEntityTitle:
                received.originators.append(
                    (
                        str(request.MoveOriginatorApplicationEntityTitle),
                        request.MoveOriginatorMessageID,
                    )
                )
        return received.status(uid)

    def handle_accepted(_: evt.Event) -> None:
        received.associations += 1

    ae = AE(title)
    for abstract, syntaxes in contexts:
        ae.add_supported_context(abstract, syntaxes)
    server = ae.start_server(
        ("127.0.0.1", 0),
        block=False,
        evt_handlers=[(evt.EVT_C_STORE, handle_store), (evt.EVT_ACCEPTED, handle_accepted)],
    )
    assert server is not None
    received.port = server.socket.getsockname()[1]
    try:
        yield received
    finally:
        server.shutdown()
