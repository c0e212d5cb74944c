"""C-MOVE: sub-operations on associations that we open to the move destination (PS3.4 C.4.2)."""

from __future__ import annotations

from collections.abc import Sequence

from archive.retrieve.domain import StoredInstance
from gateway.ae.domain import Ae
from gateway.dimse.command import MOVE_DESTINATION, text
from gateway.dimse.exchange import Exchange
from gateway.dimse.requestor import Requestor, open_association
from gateway.dimse.status import MOVE_DESTINATION_UNKNOWN, PENDING
from gateway.retrieval.domain import Progress, batches, contexts_for
from gateway.retrieval.outgoing import Outgoing
from gateway.retrieval.service import Retrieval, finish, instances_of, note, send_all
from gateway.upper_layer.service_user import ConnectionLost
from kernel.errors import AppError

FRUITLESS = 2  # associations in a row that broke off before anything was sent


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
        exchange.auditor.denied("dimse.c-move", "move destination unknown", title)
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
    """Send what fits in one association's contexts; the words for what went wrong with the node.

    An association that breaks costs the instance that was being sent; a new one goes on with the
    rest, unless the last ones achieved nothing.
    """
    after = progress.remaining - len(batch)
    words = ""
    fruitless = 0
    while progress.remaining > after and not exchange.cancelled and fruitless < FRUITLESS:
        todo = batch[len(batch) - (progress.remaining - after) :]
        failed = len(progress.failed)
        try:
            peer = await open_association(
                destination.host,
                destination.port,
                destination.title,
                retrieval.ae_title,
                contexts_for(todo),
                retrieval.network,
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
            progress.count(batch[after - progress.remaining], None)
            sent = len(todo) - (progress.remaining - after) - (len(progress.failed) - failed)
            fruitless = 0 if sent else fruitless + 1
    if not exchange.cancelled:
        progress.fail(batch[len(batch) - (progress.remaining - after) :])
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
