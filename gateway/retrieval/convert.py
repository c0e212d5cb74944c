"""Conversions of data sets in a process of their own, for peers that do not take what is stored."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from archive.retrieve.domain import StoredInstance
from dataset.part10 import parse_head
from dataset.transcode import can_convert, convert
from kernel.errors import Invalid, Unavailable

LARGEST_BYTES = 512 << 20


class Converter:
    """One worker process, started at the first conversion; one conversion at a time."""

    def __init__(self) -> None:
        self._executor: Executor | None = None
        self._turn = asyncio.Lock()

    def can(self, instance: StoredInstance, transfer_syntax_uid: str) -> bool:
        """Whether a conversion is worth trying."""
        small = instance.byte_length <= LARGEST_BYTES
        return small and can_convert(instance.transfer_syntax_uid, transfer_syntax_uid)

    async def convert(
        self, file: bytes, instance: StoredInstance, transfer_syntax_uid: str
    ) -> bytes:
        """The data set of a Part 10 ``file`` in another transfer syntax.

        Raises:
            Invalid: ``transcode.*``.
            Unavailable: ``transcode.broken``, the worker died.
        """
        head = parse_head(file, final=True)
        data = file[head.dataset_offset :] if head is not None else file
        async with self._turn:
            if self._executor is None:
                self._executor = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
            try:
                return await asyncio.get_running_loop().run_in_executor(
                    self._executor,
                    convert,
                    data,
                    instance.transfer_syntax_uid,
                    transfer_syntax_uid,
                    LARGEST_BYTES,
                )
            except BrokenProcessPool as error:
                await self.close()
                raise Unavailable(
                    "transcode.broken", "The worker that converts pixel data died."
                ) from error
            except MemoryError as error:
                raise Invalid("transcode.too_large", "The pixel data are too large.") from error

    async def close(self) -> None:
        """End the worker process."""
        executor, self._executor = self._executor, None
        if executor is not None:
            await asyncio.to_thread(executor.shutdown, wait=True, cancel_futures=True)
