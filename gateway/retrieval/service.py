"""Retrieve SCP: the instances of an identifier, sent one by one (PS3.4 C.4.2 and C.4.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from archive.retrieve.domain import StoredInstance
from archive.retrieve.service import Reader
from dataset.encode import decode_identifier
from gateway.ae.service import Directory
from gateway.dimse.exchange import Exchange
from gateway.dimse.status import PENDING
from gateway.retrieval.convert import Converter
from gateway.retrieval.domain import Progress, wanted
from gateway.retrieval.outgoing import Outgoing
from gateway.upper_layer.network import Network
from gateway.upper_layer.service_user import Limits
from gateway.upper_layer.sop_classes import QUERY_CLASSES

PENDING_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What C-MOVE and C-GET work with."""

    reader: Reader
    directory: Directory
    converter: Converter
    network: Network
    limits: Limits
    ae_title: str
    answer_s: float

    @property
    def outgoing_limits(self) -> Limits:
        """An association of ours has no idle timer: each sub-operation has its own."""
        return replace(self.limits, idle_s=0.0)


async def instances_of(exchange: Exchange, reader: Reader) -> list[StoredInstance]:
    """What the identifier names, within the asker's scope; nothing found is no error.

    What must not be named to the asker is not found here.

    Raises:
        Invalid: the identifier cannot be read or lacks its level's unique key.
    """
    identifier = decode_identifier(exchange.identifier, exchange.implicit)
    keys = wanted(identifier, QUERY_CLASSES[exchange.context.abstract_syntax].root)
    found = await reader.find_any(
        exchange.scope,
        patient_id=keys.patient_id,
        study_uids=keys.study_uids,
        series_uids=keys.series_uids,
        sop_uids=keys.sop_uids,
    )
    return [one for one in found if not one.masked]


async def send_all(
    exchange: Exchange,
    outgoing: Outgoing,
    instances: Sequence[StoredInstance],
    progress: Progress,
) -> None:
    """Send ``instances`` until done or cancelled, telling the asker now and then.

    Raises:
        ConnectionLost: the receiving association broke off; what it leaves is in ``progress``.
    """
    loop = asyncio.get_running_loop()
    told = loop.time()
    for instance in instances:
        if exchange.cancelled:
            return
        progress.count(instance, await outgoing.send(instance))
        if progress.remaining and loop.time() - told >= PENDING_EVERY_S:
            told = loop.time()
            await exchange.answer(PENDING, counters=progress.counters(remaining=True))


def note(exchange: Exchange, progress: Progress, destination: str) -> None:
    """Audit what was sent, a line for each study; one line where nothing was found."""
    verb = exchange.scope.purpose.removeprefix("dimse.c-")
    for uid, (sent, failed) in progress.studies.items():
        exchange.auditor.sent(verb, uid, destination, sent, failed)
    if not progress.studies:
        exchange.auditor.sent(verb, "", destination, 0, 0)


async def finish(exchange: Exchange, progress: Progress, destination: str, words: str = "") -> None:
    """The final response."""
    cancelled = exchange.cancelled and progress.remaining > 0
    note(exchange, progress, destination)
    await exchange.answer(
        progress.final_status(cancelled=cancelled),
        progress.failed_list(implicit=exchange.implicit),
        words,
        progress.counters(remaining=cancelled),
    )
