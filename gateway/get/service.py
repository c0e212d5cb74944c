"""C-GET: sub-operations on the asker's own association (PS3.4 C.4.3)."""

from __future__ import annotations

from gateway.dimse.exchange import Exchange
from gateway.dimse.status import PENDING
from gateway.retrieval.domain import Progress
from gateway.retrieval.outgoing import Outgoing
from gateway.retrieval.service import Retrieval, finish, instances_of, note, send_all
from gateway.upper_layer.service_user import ConnectionLost


async def get(exchange: Exchange, retrieval: Retrieval) -> Progress:
    """Answer one C-GET: only classes for which the asker took the SCP role are sent.

    Raises:
        Invalid: the identifier cannot be understood.
        ConnectionLost: the asker went away.
    """
    instances = await instances_of(exchange, retrieval.reader)
    progress = Progress(len(instances))
    agreement = exchange.association.agreement
    outgoing = Outgoing(
        exchange.association,
        exchange.expect,
        retrieval.reader,
        retrieval.converter,
        retrieval.answer_s,
        classes=agreement.peer_scp if agreement is not None else (),
    )
    if instances:
        await exchange.answer(PENDING, counters=progress.counters(remaining=True))
    try:
        await send_all(exchange, outgoing, instances, progress)
    except ConnectionLost:
        note(exchange, progress, exchange.ae.title)
        raise
    await finish(exchange, progress, exchange.ae.title)
    return progress
