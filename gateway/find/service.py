"""Query SCP: an identifier in, matches out, page by page (PS3.4 C.4.1.2)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from archive.query.domain import Page, Query
from archive.query.service import Catalog
from dataset.charset import answer_charset
from dataset.encode import decode_identifier, encode
from gateway.dimse.command import response
from gateway.dimse.exchange import Exchange
from gateway.dimse.fragment import message
from gateway.dimse.status import CANCELLED, PENDING, PENDING_UNSUPPORTED_KEYS, SUCCESS
from gateway.find.domain import Question, answer, understand
from gateway.upper_layer.sop_classes import QUERY_CLASSES

PAGE = 200
AT_ONCE = 25  # answers encoded before anybody else gets the loop


class Finder:
    """C-FIND over the archive's catalog; ``ae_title`` is what answers name as Retrieve AE Title."""

    def __init__(self, catalog: Catalog, ae_title: str) -> None:
        self._catalog = catalog
        self._ae_title = ae_title

    async def find(self, exchange: Exchange) -> int:
        """Answer one request; the number of matches sent.

        Raises:
            Invalid: the identifier cannot be read, its level or a value cannot be.
            ConnectionLost: the asker went away.
        """
        identifier = decode_identifier(exchange.identifier, exchange.implicit)
        question = understand(identifier, QUERY_CLASSES[exchange.context.abstract_syntax].root)
        query = Query(question.level, question.match, question.asked, PAGE)
        sent = 0
        while not exchange.cancelled:
            page = await self._catalog.search(exchange.scope, query)
            sent += await self._send(exchange, question, page)
            if not page.more or page.after is None:
                break
            query = replace(query, after=page.after)
        exchange.auditor.found(question.level, sent)
        await exchange.answer(CANCELLED if exchange.cancelled else SUCCESS)
        return sent

    async def _send(self, exchange: Exchange, question: Question, page: Page) -> int:
        """The answers of one page, some at a time, as fast as the peer takes them."""
        unsupported = page.unsupported or question.unmatched
        status = PENDING_UNSUPPORTED_KEYS if unsupported else PENDING
        command = response(exchange.request, status, data_set=True)
        agreement = exchange.association.agreement
        limit = agreement.peer_max_pdu_bytes if agreement is not None else 0
        charset = answer_charset(question.charset, exchange.ae.charset, ())
        sent = 0
        for start in range(0, len(page.matches), AT_ONCE):
            if exchange.cancelled:
                break
            out = []
            for match in page.matches[start : start + AT_ONCE]:
                told = answer(question, match.dataset, self._ae_title)
                data = encode(told, implicit=exchange.implicit, charset=charset)
                out.append(message(exchange.context.id, command, data, limit))
            exchange.association.send(b"".join(out))
            sent += len(out)
            await exchange.association.drain()
            await asyncio.sleep(0)
        return sent
