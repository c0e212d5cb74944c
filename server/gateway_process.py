"""The process that speaks DICOM."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Protocol

from archive.query.service import Catalog
from archive.receive.service import Receiver
from archive.retrieve.service import Reader
from gateway.server import Server, serve_dicom
from identity.guard.keeper import Keeper
from kernel.db.database import Database, is_sqlite
from kernel.errors import Unavailable
from kernel.settings import Settings, split_address
from server.beats import beating


class Report(Protocol):
    """Tells the supervisor that the process works, and where."""

    def __call__(self, message: dict[str, Any], /) -> None: ...


async def run(settings: Settings, stop: asyncio.Event, report: Report) -> None:
    """Serve DICOM until `stop`."""
    async with AsyncExitStack() as stack:
        database = await Database.open(settings)
        stack.push_async_callback(database.close)
        receiver = await Receiver.open(settings, database)
        stack.push_async_callback(receiver.close)
        reader = await Reader.open(settings, database)
        stack.push_async_callback(reader.close)
        catalog = await Catalog.open(database)
        keeper = await Keeper.open(database)
        stack.push_async_callback(keeper.close)
        try:
            server = await serve_dicom(
                settings,
                database,
                receiver,
                reader,
                catalog,
                reach=keeper.reach,
                reuse_port=not is_sqlite(settings),
            )
        except OSError as error:
            raise Unavailable(
                "dicom.address",
                "The DICOM server cannot listen on {bind}: {why}.",
                bind=settings.dicom.bind,
                why=error.strerror or str(error),
            ) from error
        stack.push_async_callback(server.close)
        host, _ = split_address(settings.dicom.bind)
        address = f"[{host}]:{server.port}" if ":" in host else f"{host}:{server.port}"
        await stack.enter_async_context(
            beating(settings, "gateway", address, lambda: _numbers(server))
        )
        report({"address": address})
        await stop.wait()


def _numbers(server: Server) -> Mapping[str, float]:
    return {"dicom_associations": float(len(server.services.sessions))}
