"""C-MOVE: sub-operations on associations that we open to the move destination (PS3.4 C.4.2)."""

from __future__ import annotations

from collections.abc import Sequence

from archive.retrieve.domain import StoredInstance
from gateway.ae.domain import Ae
from gateway.dimse.command import MOVE_DESTINATION, text
from gateway.dimse.exchange import Exchange
from gateway.dimse.status import MOVE_DESTINATION_UNKNOWN, PENDING
from gateway.retrieval.domain import Progress, batches, contexts_for
from gateway.retrieval.outgoing import Outgoing
from gateway.retrieval.service import Retrieval, finish, instances_of, note, send_all
from gateway.upper_layer.requestor import Requestor, open_association
from gateway.upper_layer.service_user import ConnectionLost
from kernel.errors import AppError

ATTEMPTS = 2  # associations that may break off before the rest of a batch has failed


async def move(exchange: Exchange, retrieval: Retrieval) -> Progress:
    """Answer one C-MOVE.

    Raises:
        Invalid: the identifier cannot be understood.
        ConnectionLost: the asker went away.
    """
    title = text(exchange.request, MOVE_DESTINATION)
    destination = await retrieval.directory.find(title)
    if destination is None or destination.state != "active":
        words = f"move destination {title} is not known here"
        await exchange.answer(MOVE_DESTINATION_UNKNOWN, words=words)
        return Progress(0)
    instances = await instances_of(exchange, retrieval.reader)
    progress = Progress(len(instances))
    words = ""
    if instances:
        await exchange.answer(PENDING, counters=progress.counters(remaining=True))
    try:
        for batch in batches(instances):
            if exchange.cancelled:
                break
            words = await _send_batch(exchange, retrieval, destination, batch, progress) or words
    except ConnectionLost:
        note(exchange, progress, destination.title)
        raise
    await finish(exchange, progress, destination.title, words)
    return progress


async def _send_batch(
    exchange: Exchange,
    retrieval: Retrieval,
    destination: Ae,
    batch: Sequence[StoredInstance],
    progress: Progress,
) -> str:
    """Send what fits in one association's contexts; the words for what went wrong with the node."""
    left = progress.remaining - len(batch)
    words = ""
    for _ in range(ATTEMPTS):
        todo = batch[len(batch) - (progress.remaining - left) :]
        if not todo or exchange.cancelled:
            return words
        try:
            peer = await open_association(
                destination.host,
                destination.port,
                destination.title,
                retrieval.ae_title,
                contexts_for(todo),
                retrieval.pool,
                retrieval.outgoing_limits,
            )
        except AppError as error:
            words = str(error)
            break
        try:
            await _send(exchange, retrieval, peer, todo, progress)
        except ConnectionLost as error:
            if not exchange.association.open:
                raise
            words = f"{destination.title} broke off: {error}"
            progress.count(batch[-(progress.remaining - left)], None)
        else:
            return words
    progress.fail(batch[len(batch) - (progress.remaining - left) :])
    return words


async def _send(
    exchange: Exchange,
    retrieval: Retrieval,
    peer: Requestor,
    todo: Sequence[StoredInstance],
    progress: Progress,
) -> None:
    outgoing = Outgoing(
        peer.association,
        peer.responses.expect,
        retrieval.reader,
        retrieval.converter,
        retrieval.answer_s,
        originator=(exchange.ae.title, exchange.message_id),
    )
    done = False
    try:
        await send_all(exchange, outgoing, todo, progress)
        done = True
    finally:
        if not done:
            peer.association.abort("the move is over")
    await peer.release()
