"""Stores one instance and says so on standard output; run under a system call tracer."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from archive.receive.service import Receiver
from kernel.db.database import Database
from kernel.settings import Settings
from tests.archive.material import ORIGIN, make


async def main(data: Path) -> None:
    settings = Settings(data=data)
    database = await Database.open(settings)
    receiver = await Receiver.open(settings, database)
    made = make(side=64)
    os.write(1, b"SEND")
    await receiver.append(ORIGIN, made.identity, [made.data])
    os.write(1, b"STORED")
    await receiver.close()
    await database.close()


asyncio.run(main(Path(sys.argv[1])))
