"""C-STORE sub-operations: instances out, as stored where the peer takes that, else converted.

PS3.4 C.4.2.2.1 and C.4.3.2.1; the requestor's part of PS3.4 Annex B.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing

from archive.retrieve.domain import StoredInstance
from archive.retrieve.service import Reader
from dataset.part10 import parse_head
from gateway.dimse.command import store_request
from gateway.dimse.fragment import fragment_bytes, header, message
from gateway.retrieval.convert import Converter
from gateway.retrieval.domain import UNCOMPRESSED
from gateway.upper_layer.association import Association
from gateway.upper_layer.incoming import LAST
from gateway.upper_layer.negotiation import Context
from gateway.upper_layer.service_user import ConnectionLost
from kernel.errors import AppError

Expect = Callable[[int], asyncio.Future[int]]


class Outgoing:
    """Sends instances over one association, one after the other.

    ``classes`` None means every accepted context may be used; else only those SOP classes (the
    roles negotiated for C-GET). ``originator`` = the mover's AE title and message ID.
    """

    def __init__(
        self,
        association: Association,
        expect: Expect,
        reader: Reader,
        converter: Converter,
        answer_s: float,
        classes: Iterable[str] | None = None,
        originator: tuple[str, int] | None = None,
    ) -> None:
        self._association = association
        self._expect = expect
        self._reader = reader
        self._converter = converter
        self._answer_s = answer_s
        self._originator = originator
        agreement = association.agreement
        usable = frozenset(classes) if classes is not None else None
        self._contexts: dict[tuple[str, str], Context] = {}
        self._size = fragment_bytes(agreement.peer_max_pdu_bytes if agreement else 0)
        self._next_id = 0
        for context in agreement.contexts.values() if agreement else ():
            if usable is None or context.abstract_syntax in usable:
                key = (context.abstract_syntax, context.transfer_syntax)
                self._contexts.setdefault(key, context)

    async def send(self, instance: StoredInstance) -> int | None:
        """Send one instance: the status of its C-STORE-RSP; None when it could not be sent.

        Raises:
            ConnectionLost: the association broke off, or had to be aborted.
        """
        context = self._contexts.get((instance.sop_class_uid, instance.transfer_syntax_uid))
        if context is not None:
            return await self._as_stored(context, instance)
        for syntax in UNCOMPRESSED:
            context = self._contexts.get((instance.sop_class_uid, syntax))
            if context is not None and self._converter.can(instance, syntax):
                try:
                    whole = await self._reader.content(instance)
                    data = await self._converter.convert(whole, instance, syntax)
                except AppError:
                    continue
                return await self._exchange(context, instance, _one(data))
        return None

    async def _as_stored(self, context: Context, instance: StoredInstance) -> int | None:
        async with aclosing(self._reader.stream(instance)) as chunks:  # type: ignore[type-var]
            try:
                first = await anext(chunks)
                head = parse_head(first, final=True)
            except (AppError, StopAsyncIteration):
                return None
            offset = head.dataset_offset if head is not None else 0
            return await self._exchange(context, instance, _joined(first[offset:], chunks))

    async def _exchange(
        self, context: Context, instance: StoredInstance, chunks: AsyncIterator[bytes]
    ) -> int:
        """A C-STORE-RQ, its data set, and the response."""
        self._next_id = self._next_id % 0xFFFF + 1
        answered = self._expect(self._next_id)
        command = store_request(
            self._next_id,
            instance.sop_class_uid,
            instance.sop_instance_uid,
            originator=self._originator,
        )
        association = self._association
        association.send(message(context.id, command, None, self._size + 6))
        try:
            async with asyncio.timeout(self._answer_s) as limit:
                async for chunk, last in _told(chunks):
                    for piece in self._pieces(context.id, chunk, last=last):
                        association.send(piece)
                        await association.drain()
                    limit.reschedule(asyncio.get_running_loop().time() + self._answer_s)
                return await answered
        except TimeoutError:
            association.abort("no answer to a C-STORE in time")
            raise ConnectionLost("no answer to a C-STORE in time") from None
        except AppError as error:
            association.abort("an instance could not be read to its end")
            raise ConnectionLost(str(error)) from error

    def _pieces(self, context_id: int, chunk: bytes, *, last: bool) -> Iterable[bytes]:
        view = memoryview(chunk)
        final = max(0, len(chunk) - 1) // self._size * self._size
        for start in range(0, final + 1, self._size):
            piece = view[start : start + self._size]
            flags = LAST if last and start == final else 0
            yield b"".join((header(context_id, flags, len(piece)), piece))


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _told(chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[bytes, bool]]:
    """Each chunk that is not empty, and whether it is the last; one at least.

    How many bytes there will be is not known before: a correction changes the length.
    """
    held = b""
    async for chunk in chunks:
        if held and chunk:
            yield held, False
        held = chunk or held
    yield held, True


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk
